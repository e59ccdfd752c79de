"""Eq. 7 and Eq. 8 against their float64 forms, and what must hold around them."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ladseg
from ladseg import (
    Inference,
    LabelAssisted,
    LabelNoise,
    Plain,
    SegmentationOutput,
    StudentObjective,
    TeacherObjective,
    widen_input,
)
from ladseg.distillers import CWD, Distiller
from ladseg.evaluation import class_ids
from ladseg.losses.cross_entropy import cross_entropy
from ladseg.models import build_model
from ladseg.objectives import noise_generators
from ladseg.recipe import Distill, Schedule, StudentSettings, TeacherSettings
from ladseg.runs.validation import predictor_of
from ladseg.training import poly_lr, to_device
from tests.reference import equations


class Tiny(nn.Module):
    """A network with an auxiliary head and, if asked, batch norm; stride 2."""

    def __init__(self, norm: bool = False, classes: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(6) if norm else nn.Identity()
        self.head = nn.Conv2d(6, classes, 1)
        self.aux_head = nn.Conv2d(6, classes, 1)

    def forward(self, image: torch.Tensor) -> SegmentationOutput:
        features = self.norm(self.stem(image)).relu()
        aux = (self.aux_head(features),) if self.training else ()
        return SegmentationOutput(self.head(features), {"head": features}, aux)


def tiny(norm: bool = False, seed: int = 0) -> Tiny:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Tiny(norm)


def batch(seed: int = 0, images: int = 2) -> dict[str, torch.Tensor]:
    source = torch.Generator().manual_seed(seed)
    label = torch.randint(0, 3, (images, 9, 11), generator=source)
    label[:, :2] = 255
    return {
        "image": torch.randn(images, 3, 9, 11, generator=source),
        "label": label,
        "seed": torch.arange(images) + 10,
    }


def double_seg(logits: torch.Tensor, label: torch.Tensor) -> float:
    return equations.cross_entropy(equations.upsample(logits.detach(), 9, 11), label)


def test_cross_entropy_equals_the_formula_at_the_labels_size() -> None:
    data, logits = batch(), torch.randn(2, 3, 4, 5)
    assert cross_entropy(logits, data["label"]).item() == pytest.approx(double_seg(logits, data["label"]), rel=1e-5)


def test_an_all_ignored_label_gives_zero_loss_and_gradient() -> None:
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = cross_entropy(logits, torch.full((1, 8, 8), 255))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert float(logits.grad.abs().sum()) == 0.0


def test_plain_is_cross_entropy_plus_weighted_aux() -> None:
    data, network = batch(), tiny()
    terms = Plain(network, aux_weight=0.4)(data)
    output = network(data["image"])
    seg, aux = (double_seg(o, data["label"]) for o in (output.logits, output.aux[0]))
    assert terms["seg"].item() == pytest.approx(seg, rel=1e-5)
    assert terms["loss"].item() == pytest.approx(seg + 0.4 * aux, rel=1e-5)
    assert terms["loss"].requires_grad
    assert not terms["seg"].requires_grad


@pytest.mark.parametrize("form", ["one-way", "symmetric"])
def test_teacher_loss_is_equation_7(form: str) -> None:
    data = batch()
    source = torch.Generator().manual_seed(3)
    teacher = LabelAssisted(tiny(), num_classes=3, class_weights="random", generator=source)
    objective = TeacherObjective(teacher, consistency=2.0, consistency_form=form, aux_weight=0.4)  # type: ignore[arg-type]
    terms = objective(data)
    total, logits = 0.0, []
    for path in (1, 2):
        output = teacher(data["image"], data["label"], noise_generators(data, path))
        logits.append(output.logits)
        total += double_seg(output.logits, data["label"]) + 0.4 * double_seg(output.aux[0], data["label"])
    distance = equations.cwd(logits[0], logits[1], 4.0)
    if form == "symmetric":
        distance += equations.cwd(logits[1], logits[0], 4.0)
    assert terms["consistency"].item() == pytest.approx(distance, rel=1e-3)
    assert terms["loss"].item() == pytest.approx(total + 2.0 * distance, rel=1e-5)
    assert set(terms) == {"loss", "seg_1", "seg_2", "aux_1", "aux_2", "consistency"}


@pytest.mark.parametrize(
    ("class_weights", "consistency", "paths"),
    [("fixed", None, 1), ("none", None, 1), ("random", None, 2), ("random", 0.0, 1), ("fixed", 0.5, 2)],
)
def test_without_a_consistency_loss_one_path_is_trained(class_weights: Any, consistency: Any, paths: int) -> None:
    data = batch()
    teacher = LabelAssisted(tiny(), num_classes=3, class_weights=class_weights)
    objective = TeacherObjective(teacher, consistency, aux_weight=0.4)
    shown: list[int] = []
    teacher.network.register_forward_pre_hook(lambda module, inputs: shown.append(len(inputs[0])))
    terms = objective(data)
    assert shown == [paths * len(data["image"])]
    assert TeacherSettings(class_weights=class_weights, consistency=consistency).paths == paths
    assert objective.expected_terms <= set(terms)
    if paths == 1:
        output = teacher(data["image"], data["label"], noise_generators(data, 1))
        seg, aux = (double_seg(logits, data["label"]) for logits in (output.logits, output.aux[0]))
        assert set(terms) == {"loss", "seg", "aux"}
        assert terms["loss"].item() == pytest.approx(seg + 0.4 * aux, rel=1e-5)


def test_symmetric_consistency_has_the_gradient_of_detached_targets() -> None:
    one, two = (torch.randn(1, 3, 4, 4, requires_grad=True) for _ in range(2))
    objective = TeacherObjective(LabelAssisted(tiny(), 3), consistency_form="symmetric")
    gradient = torch.autograd.grad(objective._distance(one, two), one)[0]
    from ladseg.distillers import cwd_loss

    torch.testing.assert_close(gradient, torch.autograd.grad(cwd_loss(one, two.detach()), one)[0])


def test_equal_generators_give_zero_consistency() -> None:
    data = batch()
    teacher = LabelAssisted(tiny(norm=True), num_classes=3)
    one, two = teacher.two_paths(data["image"], data["label"], noise_generators(data, 1), noise_generators(data, 1))
    assert torch.equal(one.logits, two.logits)


def test_two_paths_see_independent_noise_in_one_pass() -> None:
    data = batch()
    teacher = LabelAssisted(tiny(norm=True), num_classes=3)
    calls: list[torch.Tensor] = []
    teacher.network.register_forward_pre_hook(lambda module, inputs: calls.append(inputs[0]))
    one, two = teacher.two_paths(data["image"], data["label"], noise_generators(data, 1), noise_generators(data, 2))
    assert len(calls) == 1
    assert calls[0].shape == (4, 4, 9, 11)
    assert torch.equal(calls[0][:2, :3], calls[0][2:, :3])
    assert not torch.equal(calls[0][:2, 3], calls[0][2:, 3])
    assert one.logits.shape == two.logits.shape == (2, 3, 5, 6)
    assert len(one.aux) == len(two.aux) == 1


def test_joint_batch_norm_normalises_both_paths_by_the_same_statistics() -> None:
    """What the docstring of two_paths says of running statistics: one move a step, of the joint mean."""
    data, network = batch(), tiny(norm=True)
    teacher = LabelAssisted(network, num_classes=3)
    seen: list[torch.Tensor] = []
    network.norm.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    teacher.two_paths(data["image"], data["label"], noise_generators(data, 1), noise_generators(data, 2))
    torch.testing.assert_close(network.norm.running_mean, 0.1 * seen[0].mean((0, 2, 3)))
    assert int(network.norm.num_batches_tracked) == 1


def test_student_loss_is_equation_8() -> None:
    data = batch()
    student, teacher = tiny(), LabelAssisted(tiny(seed=1), num_classes=3)
    objective = StudentObjective(student, teacher, CWD(tau=4.0), weight=3.0, aux_weight=0.4)
    terms = objective(data)
    output = student(data["image"])
    target = teacher(data["image"], data["label"], noise_generators(data, 1))
    seg, aux = (double_seg(o, data["label"]) for o in (output.logits, output.aux[0]))
    distance = equations.cwd(output.logits, target.logits, 4.0)
    assert terms["cwd"].item() == pytest.approx(distance, rel=1e-4)
    assert terms["loss"].item() == pytest.approx(seg + 0.4 * aux + 3.0 * distance, rel=1e-5)


def test_the_teacher_stays_frozen_and_in_eval_mode() -> None:
    data = batch()
    teacher = LabelAssisted(tiny(norm=True), num_classes=3)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    objective = StudentObjective(tiny(), teacher, CWD()).train()
    objective(data)["loss"].backward()
    assert not any(part.training for part in objective.teacher.modules())
    assert all(p.grad is None and not p.requires_grad for p in objective.teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(p.grad is not None for p in objective.student.parameters())


def test_a_classic_teacher_gets_the_image_in_its_own_normalisation() -> None:
    data, teacher = batch(), tiny(seed=1)
    seen: list[torch.Tensor] = []
    teacher.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))  # the view has it too
    scale, offset = torch.tensor([2.0, 1.0, 0.5]), torch.tensor([0.0, 1.0, -1.0])
    StudentObjective(tiny(), teacher, CWD(), teacher_input=(scale, offset))(data)
    torch.testing.assert_close(seen[0], data["image"] * scale.view(3, 1, 1) + offset.view(3, 1, 1))


def test_an_image_s_noise_does_not_depend_on_its_batch() -> None:
    data = batch(images=3)
    noise = LabelAssisted(tiny(), num_classes=3).noise
    whole = noise(data["label"], noise_generators(data, 1))
    last = {name: value[2:] for name, value in data.items()}
    assert torch.equal(whole[2:], noise(last["label"], noise_generators(last, 1)))


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"out": x, "aux": x}, lambda x: SegmentationOutput(x)])
def test_networks_of_any_return_type_can_be_assisted(wrap) -> None:  # type: ignore[no-untyped-def]
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, image: torch.Tensor):  # type: ignore[no-untyped-def]
            return wrap(self.conv(image))

    data = batch()
    terms = TeacherObjective(LabelAssisted(Other(), num_classes=3))(data)
    assert terms["loss"].isfinite()


def test_other_return_types_are_refused() -> None:
    with pytest.raises(TypeError, match="a segmentation network returned str"):
        SegmentationOutput.of("logits")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a segmentation network returned list"):
        SegmentationOutput.of([])


def test_a_zero_fourth_channel_gives_the_three_channel_output() -> None:
    """With integer weights and inputs every sum is exact, so equality is too."""
    network = tiny()
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(torch.randint(-3, 4, p.shape))
    image = torch.randint(-4, 5, (2, 3, 9, 11)).float()
    plain = network.eval()(image).logits
    widened = widen_input(network)(torch.cat([image, torch.zeros(2, 1, 9, 11)], 1)).logits
    assert torch.equal(plain, widened)


def test_without_label_is_the_network_with_a_zero_channel() -> None:
    data, teacher = batch(), LabelAssisted(tiny(), num_classes=3).eval()
    joined = torch.cat([data["image"], torch.zeros(2, 1, 9, 11)], 1)
    assert torch.equal(teacher.without_label(data["image"]).logits, teacher.network(joined).logits)


def test_a_teacher_that_distils_stays_as_it_was_trained() -> None:
    """Its modes, its noise and its need of gradients; the objective's view shares its weights and nothing else."""
    teacher = LabelAssisted(build_model("pspnet@test_resnet", 3), 3, alpha=0.01).train()
    distiller = CWD()
    distiller.reads_aux = True
    objective = StudentObjective(tiny(), teacher, distiller)
    view = objective.teacher
    assert isinstance(view, LabelAssisted)
    view.noise.alpha, view.noise.class_weights = 0.5, "none"
    assert (teacher.noise.alpha, teacher.noise.class_weights) == (0.01, "fixed")
    assert view.network.aux_in_eval
    assert not teacher.network.aux_in_eval
    assert all(part.training for part in teacher.modules())
    assert all(weight.requires_grad for weight in teacher.parameters())
    assert not any(weight.requires_grad for weight in view.parameters())
    for (name, ours), (other, theirs) in zip(view.state_dict().items(), teacher.state_dict().items(), strict=True):
        assert (name, ours.data_ptr()) == (other, theirs.data_ptr())


@pytest.mark.parametrize("weight", [0.0, 0.5, None])
def test_a_weight_is_that_of_the_first_term(weight: float | None) -> None:
    """As ``distill.weight`` in a recipe has it: the library's argument and the recipe's key give one loss."""

    class Two(Distiller):
        def __init__(self) -> None:
            super().__init__({"first": 2.0, "second": 7.0})

        def forward(self, student: Any, teacher: Any, label: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"second": torch.tensor(10.0), "first": torch.tensor(100.0)}

    distiller = Two()
    terms = StudentObjective(tiny().eval(), tiny(), distiller, weight=weight)(batch())
    expected = 100.0 * (2.0 if weight is None else weight) + 7.0 * 10.0
    assert (terms["loss"] - terms["seg"]).item() == pytest.approx(expected)
    assert distiller.terms == {"first": 2.0, "second": 7.0}, "the distiller is the caller's"


def test_the_label_assisted_network_has_one_ignore_index() -> None:
    """Objectives, losses and distillers leave out 255; a label map of another value is to be mapped before."""
    assert "ignore_index" not in inspect.signature(LabelAssisted).parameters
    data = batch()
    terms = TeacherObjective(LabelAssisted(tiny(), 3))(data)
    assert (data["label"] == 255).any()
    assert terms["loss"].isfinite()


@pytest.mark.parametrize("network", [tiny(), nn.Identity()])
def test_a_network_that_sees_no_labels_is_no_label_assisted_teacher(network: nn.Module) -> None:
    with pytest.raises(TypeError, match=r"trains a LabelAssisted network, and got a \w+; pass LabelAssisted\("):
        TeacherObjective(network)  # type: ignore[arg-type]


@pytest.mark.parametrize(("model", "weight"), [("pspnet@test_resnet", 0.4), ("stdc1", 1.0)])
def test_training_only_heads_have_the_networks_own_weight(model: str, weight: float) -> None:
    network = build_model(model, 3)
    teacher = LabelAssisted(build_model(model, 3), 3)
    objectives = [Plain(network), TeacherObjective(teacher), StudentObjective(network, teacher, CWD())]
    assert [objective.aux_weight for objective in objectives] == [weight] * 3
    assert Plain(network, aux_weight=0.0).aux_weight == 0.0


# What the library offers by itself, and the section of a recipe that sets the same.
KNOBS: list[tuple[Callable[..., Any], type]] = [
    (LabelNoise, TeacherSettings),
    (LabelAssisted, TeacherSettings),
    (widen_input, TeacherSettings),
    (TeacherObjective, TeacherSettings),
    (Plain, StudentSettings),
    (StudentObjective, StudentSettings),
    (StudentObjective, Distill),
    (poly_lr, Schedule),
    *((part, Distill) for part in vars(ladseg.distillers).values() if inspect.isclass(part)),
]


def test_a_knob_has_one_default() -> None:
    """In the library and in recipes. None in a recipe takes what the library has, which differs between distillers."""
    shared = set()
    for function, section in KNOBS:
        recipe = {field.name: field.default for field in dataclasses.fields(section)}
        for name, parameter in inspect.signature(function).parameters.items():
            if name in recipe and parameter.default is not parameter.empty and recipe[name] is not None:
                shared.add(name)
                assert parameter.default == recipe[name], f"{function.__name__}({name}=) and {section.__name__}"
    expected = {"alpha", "scale", "class_weights", "ignore", "slice_std", "consistency_form"}
    assert shared == expected | {"power", "warmup"}


def test_a_label_assisted_network_sees_the_label_at_the_size_of_a_rescaled_image() -> None:
    """As if the label had been resized by nearest neighbours before."""
    torch.manual_seed(0)
    network = LabelAssisted(tiny(), 3).eval()
    label = torch.randint(0, 3, (1, 32, 48))
    image = torch.randn(1, 3, 32, 48)
    batch = {"image": image, "label": label, "seed": torch.tensor([4])}
    found = predictor_of(network, Inference(rescale=(96, 64)))(batch)
    large = label.repeat_interleave(2, 1).repeat_interleave(2, 2)
    scaled = F.interpolate(image, (64, 96), mode="bilinear")
    expected = class_ids(lambda x: network(scaled, large, noise_generators({**batch, "label": large}, 1)), image)
    assert found.shape == label.shape
    assert float((found == expected).float().mean()) > 0.99
    assert not torch.equal(found, predictor_of(network)(batch))


def test_labels_become_int64_where_they_reach_the_device() -> None:
    moved = to_device(
        {"image": torch.rand(1, 3, 4, 4), "label": torch.zeros(1, 4, 4, dtype=torch.uint8)}, torch.device("cpu")
    )
    assert moved["label"].dtype == torch.int64

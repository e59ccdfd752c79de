"""Distillation losses against their formulas with loops, and their laws."""

from statistics import fmean

import pytest
import torch
import yaml
from accelerate import Accelerator
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ladseg import SegmentationOutput
from ladseg.distillation_methods import ADVERSARIAL, METHODS, TERM_WEIGHTS
from ladseg.distillers import (
    Combined,
    at_loss,
    build_distiller,
    cwd_loss,
    dist_losses,
    feature_loss,
    ifv_loss,
    kd_loss,
    pairwise_loss,
)
from ladseg.distillers.adversary import Adversary, SelfAttention
from ladseg.distillers.alignment import Projector
from ladseg.distillers.dsd import csd_loss, psd_loss
from ladseg.distillers.maskd import ReceptiveTokens, masked_loss
from ladseg.errors import ModelError, RecipeError
from ladseg.models import build_model
from ladseg.objectives import FirstStageObjective, StudentObjective
from ladseg.recipe import Distill, Schedule
from ladseg.recipe_files import dump_recipe, make_recipe
from ladseg.training.optimizers import build_optimizer
from ladseg.training.step import train_step
from tests.reference import distillation, equations

LOSSES = {"cwd": (cwd_loss, equations.cwd), "kd": (kd_loss, equations.kd)}


def pair(seed: int = 0, shape: tuple[int, ...] = (2, 4, 5, 7), size: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(*shape, generator=source) * size for _ in range(2))  # type: ignore[return-value]


@pytest.mark.parametrize("name", LOSSES)
@given(seed=st.integers(0, 1000), tau=st.sampled_from([0.5, 1.0, 4.0]), h=st.integers(1, 5), w=st.integers(1, 5))
@settings(max_examples=15, deadline=None)
def test_equals_the_formula(name: str, seed: int, tau: float, h: int, w: int) -> None:
    student, teacher = pair(seed, (2, 3, h, w))
    fast, slow = LOSSES[name]
    assert float(fast(student, teacher, tau)) == pytest.approx(slow(student, teacher, tau), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_zero_only_for_equal_outputs(name: str) -> None:
    student, teacher = pair()
    loss, _ = LOSSES[name]
    assert float(loss(student, student)) == pytest.approx(0.0, abs=1e-5)
    assert float(loss(student, teacher)) > 0.01


def test_cwd_ignores_a_constant_a_channel_and_kd_a_constant_a_position() -> None:
    student, teacher = pair()
    channel, position = torch.randn(2, 4, 1, 1), torch.randn(2, 1, 5, 7)
    torch.testing.assert_close(cwd_loss(student + channel, teacher), cwd_loss(student, teacher))
    torch.testing.assert_close(kd_loss(student + position, teacher), kd_loss(student, teacher))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_extreme_logits_in_low_precision_stay_finite(name: str, dtype: torch.dtype) -> None:
    student, teacher = (logits.to(dtype).requires_grad_() for logits in pair(size=3000.0))
    loss = LOSSES[name][0](student, teacher)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert student.grad is not None
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_of_both_arguments(name: str) -> None:
    loss = LOSSES[name][0]
    student, teacher = (logits.requires_grad_() for logits in pair(shape=(1, 3, 3, 2)))
    for which, value in (("student", student), ("teacher", teacher)):
        (gradient,) = torch.autograd.grad(loss(student, teacher), value)
        for index in [(0, 0, 0, 0), (0, 2, 1, 1)]:
            step = torch.zeros_like(value)
            step[index] = 1e-2
            moved = [
                (student + s * step, teacher) if which == "student" else (student, teacher + s * step) for s in (1, -1)
            ]
            reference = LOSSES[name][1]
            tau = 4.0 if name == "cwd" else 1.0
            slope = (reference(*moved[0], tau) - reference(*moved[1], tau)) / 2e-2
            assert float(gradient[index]) == pytest.approx(slope, rel=2e-3, abs=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_the_larger_map_is_resized_to_the_smaller(name: str) -> None:
    loss = LOSSES[name][0]
    small, _ = pair(shape=(2, 4, 5, 7))
    large = torch.randn(2, 4, 9, 13)
    reduced = equations.upsample(large, 5, 7).float()
    torch.testing.assert_close(loss(small, large), loss(small, reduced))
    torch.testing.assert_close(loss(large, small), loss(reduced, small))


def test_other_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="images and classes must be the same"):
        cwd_loss(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4, 4))


def outputs(
    seed: int = 0, widths: tuple[int, int] = (6, 6), size: tuple[int, int] = (5, 7)
) -> list[SegmentationOutput]:
    """Of a student and a teacher of these widths."""
    source = torch.Generator().manual_seed(seed)
    found = []
    for width in widths:
        logits = 3 * torch.randn(2, 4, *size, generator=source)
        features = {name: torch.randn(2, width, *size, generator=source) for name in ("head", "backbone")}
        found.append(SegmentationOutput(logits, features))
    return found


LABEL = torch.randint(0, 4, (2, 40, 56), generator=torch.Generator().manual_seed(0))
LABEL[:, :9] = 255


@pytest.mark.parametrize("widths", [(6, 6), (4, 9)])
@pytest.mark.parametrize("method", METHODS)
def test_every_distiller_returns_named_finite_terms(method: str, widths: tuple[int, int]) -> None:
    student, teacher = outputs(widths=widths)
    leaves = [leaf.requires_grad_() for leaf in (student.logits, *student.features.values())]
    distiller = build_distiller(Distill(method=method), student, teacher)
    terms = distiller(student, teacher, LABEL)
    assert set(terms) == set(METHODS[method].terms) == set(distiller.terms)
    for value in terms.values():
        assert value.shape == ()
        assert value.dtype == torch.float32
        learners = [*leaves, *(p for p in distiller.parameters() if p.requires_grad)]
        found = torch.autograd.grad(value, learners, allow_unused=True, retain_graph=True)
        gradients = [gradient for gradient in found if gradient is not None]
        assert gradients
        assert all(gradient.isfinite().all() for gradient in gradients)
        assert sum(float(gradient.abs().sum()) for gradient in gradients) > 0
    if terms:
        # What a distiller trains itself has a gradient too.
        sum(terms.values()).backward()  # type: ignore[union-attr]
        assert all(p.grad is not None for p in distiller.parameters() if p.requires_grad)


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"none", "feature", "fitnet", "mgd", "cirkd"}))
def test_nothing_is_left_to_learn_from_an_equal_teacher(method: str) -> None:
    """Those with a projector are left out: theirs starts at random. An adversary's terms have no zero."""
    student, _ = outputs()
    terms = build_distiller(Distill(method=method), student, student)(student, student, LABEL)
    compared = [value for name, value in terms.items() if name not in ADVERSARIAL]
    assert compared
    assert all(value.item() == pytest.approx(0.0, abs=1e-5) for value in compared)


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"none"}))
@pytest.mark.parametrize(("dtype", "size"), [(torch.bfloat16, 100), (torch.float16, 100), (torch.bfloat16, 10_000)])
def test_extreme_outputs_in_low_precision_stay_finite(method: str, dtype: torch.dtype, size: float) -> None:
    # As the objective hands them over: in float32, whatever they were computed in.
    student, teacher = (
        output.map(lambda value: (size * value).to(dtype).float().requires_grad_()) for output in outputs()
    )
    distiller = build_distiller(Distill(method=method), student, teacher)
    for value in distiller(student, teacher, LABEL).values():
        leaves = (student.logits, *student.features.values())
        for gradient in torch.autograd.grad(value, leaves, allow_unused=True, retain_graph=True):
            assert gradient is None or gradient.isfinite().all()
        assert value.isfinite()


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (4, 3)])
@pytest.mark.parametrize("seed", range(3))
def test_feature_and_attention_equal_their_formulas(size: tuple[int, int], seed: int) -> None:
    student, teacher = (output.features["head"] for output in outputs(seed, size=size))
    assert float(feature_loss(student, teacher)) == pytest.approx(distillation.feature(student, teacher), rel=1e-5)
    narrow = student[:, :4]
    assert float(at_loss(narrow, teacher)) == pytest.approx(distillation.at(narrow, teacher), rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("tau", [1.0, 2.5])
@pytest.mark.parametrize("seed", range(3))
def test_dist_equals_pythons_own_correlation(tau: float, seed: int) -> None:
    student, teacher = (output.logits for output in outputs(seed, size=(3, 4)))
    inter, intra = dist_losses(student, teacher, tau)
    expected = distillation.dist(student, teacher, tau)
    assert (float(inter), float(intra)) == (pytest.approx(expected[0], rel=1e-4), pytest.approx(expected[1], rel=1e-4))


def test_dist_of_classes_that_are_nowhere_likely() -> None:
    """Their probabilities differ in the tenth digit only; equal is equal all the same, and gradients stay finite."""
    logits = torch.randn(2, 4, 5, 7)
    logits[:, 3] -= 30
    inter, intra = dist_losses(logits.requires_grad_(), logits.detach().clone())
    (inter + intra).backward()
    assert inter.item() == pytest.approx(0, abs=1e-5)
    assert intra.item() == pytest.approx(0, abs=1e-5)
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("size", [(4, 6), (5, 3), (1, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_similarities_and_variations_equal_their_formulas(size: tuple[int, int], seed: int) -> None:
    """Odd sizes, unequal widths, ignored pixels, classes with one pixel or none."""
    student, teacher = (output.features["head"] for output in outputs(seed, (3, 6), size))
    assert pairwise_loss(student, teacher).item() == pytest.approx(distillation.pairwise(student, teacher), rel=1e-4)
    label = torch.randint(0, 4, (2, *size), generator=torch.Generator().manual_seed(seed))
    label[0, 0, 0] = 255
    expected = distillation.ifv(student, teacher, label, classes=4)
    assert ifv_loss(student, teacher, label, classes=4).item() == pytest.approx(expected, rel=1e-4, abs=1e-9)
    # A label of the image's size is looked at where nearest neighbours of the map's positions lie.
    large = label.repeat_interleave(8, 1).repeat_interleave(8, 2)
    assert ifv_loss(student, teacher, large, classes=4).item() == pytest.approx(expected, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("size", [(4, 6), (5, 3), (2, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_double_similarity_equals_its_formula(size: tuple[int, int], seed: int) -> None:
    student, teacher = outputs(seed, (3, 6), size)
    ours, theirs = ([o.features["backbone"], o.features["head"], o.logits] for o in (student, teacher))
    assert psd_loss(ours, theirs).item() == pytest.approx(distillation.psd(ours, theirs), rel=1e-4)
    expected = distillation.csd(student.logits, teacher.logits, 4.0)
    assert csd_loss(student.logits, teacher.logits).item() == pytest.approx(expected, rel=1e-4, abs=1e-9)


def test_double_similarity_of_maps_of_several_sizes() -> None:
    small, large = torch.randn(2, 3, 3, 4), torch.randn(2, 5, 6, 8)
    shrunk = equations.upsample(large, 3, 4).float()
    torch.testing.assert_close(psd_loss([large, small], [large, small]), torch.tensor(0.0))
    other = torch.randn(2, 5, 6, 8)
    torch.testing.assert_close(
        psd_loss([large, small], [other, small]),
        psd_loss([shrunk, small], [equations.upsample(other, 3, 4).float(), small]),
    )


@pytest.mark.parametrize("size", [(4, 6), (1, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_masks_equal_their_formulas(size: tuple[int, int], seed: int) -> None:
    student, teacher = outputs(seed, size=size)
    tokens = ReceptiveTokens(4, count=3)
    torch.nn.init.normal_(tokens.tokens)
    loss = masked_loss(student.logits, teacher.logits, tokens)
    assert loss.item() == pytest.approx(distillation.maskd(student.logits, teacher.logits, tokens.tokens), rel=1e-4)
    masked, terms = tokens(teacher)
    assert terms["mask_dice"].item() == pytest.approx(distillation.dice(teacher.logits, tokens.tokens), rel=1e-4)
    regions = torch.tensor(distillation.masks(teacher.logits, tokens.tokens)).view(2, 3, *size)
    sums = sum(teacher.logits.double() * regions[:, k : k + 1] for k in range(3))
    torch.testing.assert_close(masked.logits.double(), sums, rtol=1e-4, atol=1e-4)


def test_tokens_learn_regions_that_keep_the_teachers_answer_and_differ() -> None:
    """A first stage in miniature."""
    torch.manual_seed(0)
    student, teacher = outputs()
    distiller = build_distiller(Distill(method="maskd"), student, teacher)
    # The teacher is shown its own answer.
    objective = FirstStageObjective(torch.nn.Identity(), distiller.first_stage())
    batch = {"image": teacher.logits, "label": teacher.logits.argmax(1)}
    optimizer = torch.optim.SGD(distiller.first_stage().parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    history = []
    for _ in range(60):
        terms = objective.train()(batch)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        history.append(terms)
    assert set(history[0]) == {"loss", "seg", "mask_dice"} == objective.expected_terms | {"loss"}
    assert history[-1]["loss"] < history[0]["loss"]
    assert history[-1]["mask_dice"] < history[0]["mask_dice"]


class Noisy(torch.nn.Module):
    """A teacher with what differs between train and eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4), torch.nn.Dropout2d(0.5))

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.layers(image)
        return logits


@pytest.mark.parametrize("train_mode", [True, False])
def test_tokens_are_learned_with_the_teacher_in_train_mode(train_mode: bool) -> None:
    """As published: dropout is active and statistics are the batch's; the teacher is the same afterwards."""
    student, teacher = outputs()
    distiller = build_distiller(Distill(method="maskd", options={"train_mode": train_mode}), student, teacher)
    network = Noisy()
    image, label = 5 + torch.randn(2, 3, 8, 8), torch.zeros(2, 8, 8, dtype=torch.int64)
    before = network.eval()(image)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    seen: list[Tensor] = []
    network.register_forward_hook(lambda module, inputs, output: seen.append(output))
    objective = FirstStageObjective(network, distiller.first_stage()).train()
    torch.manual_seed(0)
    objective({"image": image, "label": label})
    twin = Noisy()
    twin.load_state_dict(state)
    torch.manual_seed(0)
    expected = twin.train(train_mode)(image)
    torch.testing.assert_close(seen[0], expected)
    assert torch.equal(seen[0], before) != train_mode
    assert torch.equal(network(image), before)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


IDS = torch.randint(0, 4, (2, 3, 2), generator=torch.Generator().manual_seed(0))
TOKENS = ReceptiveTokens(6).double().requires_grad_(False)
DIFFERENTIABLE = {
    "kd": kd_loss,
    "cwd": cwd_loss,
    "feature": feature_loss,
    "at": at_loss,
    "dist": lambda s, t: sum(dist_losses(s, t)),
    "skd": pairwise_loss,
    "ifvd": lambda s, t: ifv_loss(s, t, IDS, 4),
    "dsd_pixel": lambda s, t: psd_loss([s, s[:, 1:4], s.exp()], [t, t[:, 2:], t.exp()]),
    "dsd_category": csd_loss,
    "maskd": lambda s, t: masked_loss(s, t, TOKENS),
}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_by_gradcheck(name: str) -> None:
    """In float64, which the losses keep; the teacher's map is larger, so resizing is in it."""
    student, _ = (output.features["head"].double() for output in outputs(size=(3, 2)))
    teacher = torch.randn(2, 6, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert torch.autograd.gradcheck(lambda s: DIFFERENTIABLE[name](s, teacher), student.requires_grad_())


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"none"}))
def test_gradients_of_whole_distillers_by_gradcheck(method: str) -> None:
    """Projectors, generated maps, memories, the student's side of the adversary: all that reaches the student."""
    student, teacher = (output.map(Tensor.double) for output in outputs(widths=(3, 4), size=(3, 2)))
    # In eval mode batch norms and memories stay as they are between two calls.
    distiller = build_distiller(Distill(method=method), student, teacher).double().eval()

    def loss(logits: Tensor, head: Tensor, backbone: Tensor) -> Tensor:
        torch.manual_seed(0)  # the same mask, and the same memories
        output = SegmentationOutput(logits, {"head": head, "backbone": backbone})
        terms = distiller(output, teacher, LABEL)
        # Weights bring the terms to one size, which numerical gradients need.
        return sum(distiller.terms[name] * term for name, term in terms.items() if name != "discriminator")

    leaves = [student.logits, student.features["head"], student.features["backbone"]]
    assert torch.autograd.gradcheck(loss, [leaf.requires_grad_() for leaf in leaves], fast_mode=True)


def test_the_adversary_equals_its_formula() -> None:
    """The discriminator layer by layer in float64, with exact singular values; the hinge loss from its scores."""
    torch.manual_seed(0)
    adversary = Adversary(3)
    network = adversary.discriminator
    for layer in network.layers:
        if isinstance(layer, SelfAttention):
            torch.nn.init.constant_(layer.gamma, 0.7)
        elif hasattr(layer, "parametrizations"):
            for _ in range(300):  # each look is one more step of the power iteration
                _ = layer.weight
    student, teacher = (torch.randn(2, 3, 64, 80) + shift for shift in (0.0, 0.5))
    with torch.no_grad():
        terms = adversary(student, teacher)
        fake, real = (distillation.discriminator(x, network.norm, network.layers) for x in (student, teacher))
    assert fake.shape == (2, 1, 1, 2)
    assert terms["adversarial"].item() == pytest.approx(-fake.mean().item(), rel=1e-3)
    hinge = [max(0.0, 1 - r) for r in real.flatten().tolist()], [max(0.0, 1 + f) for f in fake.flatten().tolist()]
    assert terms["discriminator"].item() == pytest.approx(sum(map(fmean, hinge)), rel=1e-3)


@pytest.mark.parametrize("size", [(5, 7), (45, 45), (64, 128), (70, 64)])
def test_the_adversary_plays_both_sides_at_any_crop(size: tuple[int, int]) -> None:
    """The student's term has no gradient for the discriminator, the discriminator's none for the networks."""
    adversary = Adversary(4)
    student, teacher = (torch.randn(2, 4, *size).requires_grad_() for _ in range(2))
    terms = adversary(student, teacher)
    leaves = [student, teacher, *adversary.parameters()]
    first, *rest = torch.autograd.grad(terms["adversarial"], leaves, allow_unused=True, retain_graph=True)
    assert first.abs().sum() > 0
    assert all(gradient is None for gradient in rest)
    for_student, for_teacher, *rest = torch.autograd.grad(terms["discriminator"], leaves, allow_unused=True)
    assert for_student is None
    assert for_teacher is None
    assert all(gradient is not None for gradient in rest)


def test_a_discriminator_learns_to_tell_two_kinds_of_scores_apart() -> None:
    torch.manual_seed(0)
    adversary = Adversary(3)
    optimizer = torch.optim.Adam(adversary.parameters(), **adversary.discriminator.own_adam)
    student = torch.randn(4, 3, 64, 64)
    teacher = torch.randn(4, 3, 64, 64) + torch.tensor([3.0, 0, 0]).view(3, 1, 1)
    losses = []
    for _ in range(12):
        loss = adversary(student, teacher)["discriminator"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


def test_a_discriminator_keeps_its_learning_rate_while_the_schedules_falls() -> None:
    torch.manual_seed(0)

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.student, self.adversary = torch.nn.Conv2d(3, 4, 1), Adversary(4)

        def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            terms = self.adversary(self.student(batch["image"]), batch["teacher"])
            return {"loss": sum(terms.values())}  # type: ignore[dict-item]

    model = Model()
    optimizer = build_optimizer(model, Schedule(lr=0.5))
    batch = {"image": torch.randn(2, 3, 4, 4), "teacher": torch.randn(2, 4, 4, 4)}
    for lr in (0.5, 0.1):
        train_step(model, batch, optimizer, list(model.parameters()), lr, Schedule(lr=0.5), Accelerator(cpu=True))
        assert [group["lr"] for group in optimizer.param_groups] == [lr, 4e-4]


@pytest.mark.parametrize("method", ["cwd-full", "cwd-features"])
@pytest.mark.parametrize(("options", "divisor"), [({}, 4), ({"divide_by": "teacher"}, 9)])
def test_cwd_of_features_is_divided_by_the_students_width(method: str, options: dict, divisor: int) -> None:
    """As published; by the summed channels' number on request."""
    student, teacher = outputs(widths=(4, 9))
    distiller = build_distiller(Distill(method=method, options=options), student, teacher)
    terms = distiller(student, teacher, LABEL)
    projector = next(part for part in distiller.modules() if isinstance(part, Projector))
    assert projector.map.bias is None
    projected = distillation.convolution(student.features["head"], projector.map.weight, torch.zeros(9)).detach()
    expected = distillation.cwd_features(projected, teacher.features["head"], 4.0, divisor)
    assert terms["cwd_features"].item() == pytest.approx(expected, rel=1e-4)


def test_fitnet_is_a_projection_without_bias_and_kd() -> None:
    student, teacher = outputs(widths=(4, 9))
    distiller = build_distiller(Distill(method="fitnet"), student, teacher)
    terms = distiller(student, teacher, LABEL)
    weight = distiller.parts[0].projector.map.weight
    assert [p.shape for p in distiller.parameters()] == [(9, 4, 1, 1)]
    projected = distillation.convolution(student.features["head"], weight, torch.zeros(9)).detach()
    assert terms["fitnet"].item() == pytest.approx(distillation.feature(projected, teacher.features["head"]), rel=1e-4)
    assert terms["kd"].item() == pytest.approx(equations.kd(student.logits, teacher.logits, 1.0), rel=1e-4)


def test_dist_sees_neither_scale_nor_shift_of_probabilities() -> None:
    probabilities = torch.rand(4, 30).softmax(0)
    from ladseg.distillers.dist import _correlation

    torch.testing.assert_close(_correlation(probabilities, 3 * probabilities + 2), torch.ones(4))
    torch.testing.assert_close(_correlation(probabilities, -probabilities), -torch.ones(4))
    torch.testing.assert_close(_correlation(torch.ones(2, 5), torch.ones(2, 5)), torch.ones(2))


@pytest.mark.parametrize("size", [(4, 6), (5, 3), (1, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_mgd_equals_its_formula(size: tuple[int, int], seed: int) -> None:
    """Of the backbones' last maps, and CWD of the logits beside it."""
    student, teacher = outputs(seed, (3, 6), size)
    distiller = build_distiller(Distill(method="mgd"), student, teacher)
    assert distiller.terms == {"mgd": 2e-5, "cwd": 3.0}
    torch.manual_seed(seed)
    terms = distiller(student, teacher, LABEL)
    torch.manual_seed(seed)
    kept = torch.rand(2, 1, *size) >= 0.75
    features = distiller.parts[0]
    projected = distillation.convolution(
        student.features["backbone"], features.projector.map.weight, features.projector.map.bias
    )
    first, _, second = features.generation
    expected = distillation.mgd(projected, teacher.features["backbone"], kept, first, second)
    assert terms["mgd"].item() == pytest.approx(expected, rel=1e-4)
    assert terms["cwd"].item() == pytest.approx(equations.cwd(student.logits, teacher.logits, 4.0), rel=1e-4, abs=1e-6)


def with_aux(heads: int = 1) -> list[SegmentationOutput]:
    """Of a student and a teacher with auxiliary heads."""
    source = torch.Generator().manual_seed(7)
    aux = [[3 * torch.randn(2, 4, 5, 7, generator=source) for _ in range(heads)] for _ in range(2)]
    return [SegmentationOutput(o.logits, o.features, tuple(a)) for o, a in zip(outputs(), aux, strict=True)]


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize(("options", "weight"), [({}, 0.4), ({"aux_weight": 0}, 0.0), ({"aux_weight": 2.0}, 2.0)])
def test_auxiliary_logits_count_beside_the_main_ones(heads: int, options: dict, weight: float) -> None:
    """MasKD's masks of them are by the same tokens, of the teacher's auxiliary logits."""
    student, teacher = with_aux(heads)
    distiller = build_distiller(Distill(method="maskd", options=options), student, teacher)
    tokens = torch.nn.init.normal_(distiller.tokens.tokens)
    pairs = list(zip((student.logits, *student.aux), (teacher.logits, *teacher.aux), strict=True))
    main, *aux = (distillation.maskd(ours, theirs, tokens) for ours, theirs in pairs)
    assert distiller.reads_aux == (weight > 0)
    assert distiller(student, teacher, LABEL)["maskd"].item() == pytest.approx(main + weight * sum(aux), rel=1e-4)

    distiller = build_distiller(Distill(method="dist", options=options), student, teacher)
    assert distiller.reads_aux == (weight > 0)
    main, *aux = (distillation.dist(ours, theirs, 1.0) for ours, theirs in pairs)
    terms = distiller(student, teacher, LABEL)
    for index, name in enumerate(("dist_inter", "dist_intra")):
        expected = main[index] + weight * sum(pair[index] for pair in aux)
        assert terms[name].item() == pytest.approx(expected, rel=1e-4), name


def test_a_teacher_without_auxiliary_logits_leaves_the_main_ones() -> None:
    student, teacher = with_aux()[0], outputs()[1]
    for method in ("maskd", "dist"):
        distiller = build_distiller(Distill(method=method), student, teacher)
        alone = distiller(SegmentationOutput(student.logits), teacher, LABEL)
        assert distiller(student, teacher, LABEL) == alone


def test_double_similarity_begins_with_auxiliary_logits_where_both_have_them() -> None:
    student, teacher = with_aux()
    distiller = build_distiller(Distill(method="dsd"), student, teacher)
    ours, theirs = ([o.aux[0], o.features["head"], o.logits] for o in (student, teacher))
    loss = distiller(student, teacher, LABEL)["dsd_pixel"].item()
    assert loss == pytest.approx(distillation.psd(ours, theirs), rel=1e-4)
    lacking = SegmentationOutput(teacher.logits, teacher.features)
    ours, theirs = ([o.features["backbone"], o.features["head"], o.logits] for o in (student, teacher))
    loss = distiller(student, lacking, LABEL)["dsd_pixel"].item()
    assert loss == pytest.approx(distillation.psd(ours, theirs), rel=1e-4)


@pytest.mark.parametrize("model", ["pspnet@test_resnet", "stdc1", "ocrnet_w18s"])
@pytest.mark.parametrize(("method", "reads"), [("maskd", True), ("dsd", True), ("kd", False)])
def test_a_frozen_teacher_gives_what_its_distiller_reads(model: str, method: str, reads: bool) -> None:
    student, teacher = (build_model(model, 4) for _ in range(2))
    distiller = build_distiller(Distill(method=method), student.trial_output(), teacher.trial_output())
    objective = StudentObjective(student, teacher, Combined([distiller])).train()
    image = torch.randn(2, 3, 64, 64)
    output = objective.teacher_output({"image": image})
    assert len(output.aux) == (len(student.train()(image).aux) if reads else 0)
    assert output.boundary is None


@pytest.mark.parametrize("share", [0.75, 0.25])
def test_mgd_masks_its_share_and_draws_anew(share: float) -> None:
    """With a generation that hands its input on, the loss is (T - M S)^2 summed: positions masked show as T^2."""
    student, teacher = outputs(size=(40, 50))
    distiller = build_distiller(Distill(method="mgd", options={"masked": share}), student, teacher)
    distiller.parts[0].generation = torch.nn.Identity()
    same = SegmentationOutput(student.logits, {"backbone": torch.ones(2, 6, 40, 50)})
    torch.manual_seed(0)
    values = [distiller(same, same, LABEL)["mgd"].item() / (6 * 40 * 50) for _ in range(3)]
    assert values == pytest.approx([share] * 3, abs=0.02)
    assert len(set(values)) == 3


@pytest.mark.parametrize(
    "method", ["feature", "at", "fitnet", "skd", "ifvd", "cwd-features", "cwd-full", "cirkd", "dsd"]
)
def test_the_layer_is_chosen_and_must_be_there(method: str) -> None:
    student, teacher = outputs()
    wide = SegmentationOutput(teacher.logits, {"backbone": torch.randn(2, 11, 5, 7)})
    distiller = build_distiller(Distill(method=method, layer="backbone"), student, wide)
    assert next(iter(distiller(student, wide, LABEL).values())).item() > 0
    with pytest.raises(
        ModelError,
        match=r"'head': the teacher gives no such feature map \(it gives backbone\); set distill.layer: backbone",
    ):
        build_distiller(Distill(method=method), student, wide)(student, wide, LABEL)


def test_any_term_has_a_weight_of_its_own() -> None:
    student, teacher = outputs()
    distill = Distill(method="cirkd", weight=2.0, term_weights={"cirkd_pixel": 0.01, "kd": 0.5})
    weights = build_distiller(distill, student, teacher).terms
    assert weights == {"cirkd_batch": 2.0, "cirkd_pixel": 0.01, "cirkd_region": 0.1, "kd": 0.5}
    with pytest.raises(RecipeError, match="cirkd has no 'cirkd_pixels'; did you mean 'cirkd_pixel'"):
        build_distiller(Distill(method="cirkd", term_weights={"cirkd_pixels": 1.0}), student, teacher)
    # A discriminator's weights are one dict for all: it stays as it is.
    build_distiller(Distill(method="skd", term_weights={"adversarial": 0.0}), student, teacher)
    assert TERM_WEIGHTS["adversarial"] == 1e-3


def test_several_at_once_with_weights_of_their_own() -> None:
    recipe = make_recipe({"distill": [{"method": "cwd", "weight": 2}, {"method": "fitnet", "weight": 7}]})
    assert recipe.distill.also == [{"method": "fitnet", "weight": 7}]
    student, teacher = outputs()
    both = build_distiller(recipe.distill, student, teacher)
    assert both.terms == {"cwd": 2, "fitnet": 7, "kd": 1.0}
    assert set(both(student, teacher, LABEL)) == {"cwd", "fitnet", "kd"}
    assert len(list(both.parameters())) == 1
    assert make_recipe(yaml.safe_load(dump_recipe(recipe))) == recipe


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ([], "distill is a list, but not of sections"),
        (["cwd"], "distill is a list, but not of sections"),
        (
            [{"method": "cwd"}, {"methd": "kd"}],
            "unknown key 'methd' of a further method of distill; did you mean 'method'",
        ),
        ([{"method": "cwd"}, {"warm_start": True}], "unknown key 'warm_start' of a further method"),
    ],
)
def test_lists_that_make_no_sense(methods: list, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make_recipe({"distill": methods})


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ([{"method": "fitnet"}, {"method": "kd"}], "two of the methods give the term 'kd'"),
        ([{"method": "cwd"}, {"method": "kdd"}], "distill\\[1\\].method is 'kdd'; it must be one of none, kd, feature"),
    ],
)
def test_methods_that_do_not_go_together(methods: list, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build_distiller(make_recipe({"distill": methods}).distill, *outputs())

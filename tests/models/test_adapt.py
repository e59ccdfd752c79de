"""Networks of others: what they return, what sizes they take, where the image enters, what is tapped."""

from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from ladseg import LabelAssisted, SegmentationOutput, adapt, build_model, widen_input
from ladseg.distillers import CWD, cwd_loss
from ladseg.errors import ModelError
from ladseg.models.weights import say_once
from ladseg.objectives import Plain, StudentObjective


class Net(nn.Module):
    """A user's network: 3 classes, stride 4, fails on sides that 4 does not divide."""

    def __init__(self, num_classes: int = 3, returns: Callable[[Tensor], Any] = lambda x: x) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.classifier = nn.Conv2d(8 * 16, num_classes, 1)
        self.returns = returns

    def forward(self, image: Tensor) -> Any:
        return self.returns(self.classifier(F.pixel_unshuffle(self.encoder(image), 4)))


@pytest.mark.parametrize(
    ("returns", "aux"),
    [
        (lambda x: x, 0),
        (lambda x: {"out": x, "aux": x}, 1),
        (lambda x: (x, x, x), 2),
        (lambda x: SegmentationOutput(x, aux=(x,)), 1),
    ],
)
def test_what_it_returns_is_read_and_aux_only_trains(returns: Callable[[Tensor], Any], aux: int) -> None:
    network = adapt(Net(returns=returns))
    assert network.num_classes == 3
    image = torch.randn(2, 3, 8, 12)
    assert len(network.train()(image).aux) == aux
    assert network.eval()(image).aux == ()
    assert torch.equal(network(image).logits, SegmentationOutput.of(network.module(image)).logits)


def test_other_sizes_are_padded_and_cut_back() -> None:
    network = adapt(Net()).eval()
    assert network.size_divisor == 4
    image = torch.randn(2, 3, 9, 14)
    with torch.no_grad():
        padded = network.module(F.pad(image, (0, 2, 0, 3)))
        assert torch.equal(network(image).logits, padded[:, :, :3, :4])


def test_being_tried_leaves_no_trace() -> None:
    module = Net()
    module.encoder.eval()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    adapt(module)
    assert module.training
    assert not module.encoder[1].training
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_its_own_normalisation_counts() -> None:
    module = Net()
    assert adapt(module).input_mean == (0.485, 0.456, 0.406)
    module.input_mean, module.input_std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    assert adapt(module).input_std == (0.25, 0.25, 0.25)
    assert adapt(module, mean=(0.0, 0.0, 0.0)).input_mean == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Net(returns=lambda x: x.mean((2, 3))), r"Net gives \(1, 3\); logits are \(N, C, h, w\)"),
        (Net(returns=str), "Net: a segmentation network returned str"),
        (nn.Linear(7, 3), "Linear fails on images of zeros of every size tried"),
    ],
)
def test_what_is_no_segmentation_network_is_told_so(module: nn.Module, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        adapt(module)


def test_a_feature_map_is_tapped_by_path() -> None:
    network = adapt(Net(), features="encoder.1")
    image = torch.randn(2, 3, 8, 12)
    network.eval()
    assert torch.equal(network(image).features["backbone"], network.module.encoder[:2](image))
    ours = build_model("pspnet@test_resnet", 3).tap("backbone.layer2").eval()
    assert ours(image).features["backbone"].shape[1] == ours.backbone.layer2[-1].conv2.out_channels


def test_a_wrong_path_lists_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"features 'backbone.layer33' is not a module of Enc.*; nearest: .*layer3"):
        build_model("pspnet@test_resnet", 3).tap("backbone.layer33")
    with pytest.raises(ModelError, match=r"features 'classifer' is not a module of Net; nearest: classifier"):
        adapt(Net(), features="classifer")


def test_something_else_than_a_map_is_refused() -> None:
    class Pooled(Net):
        def __init__(self) -> None:
            super().__init__()
            self.flat = nn.Flatten()

        def forward(self, image: Tensor) -> Any:
            self.flat(image)
            return super().forward(image)

    with pytest.raises(ModelError, match=r"features 'flat' gives \(1, 49152\), not a feature map"):
        adapt(Pooled(), features="flat")


class Heads(nn.Module):
    """Gives what it is told to, by its mode: c are class scores, a those of another head, f features, b boundaries."""

    def __init__(self, evaluating: Callable[..., Any], training: Callable[..., Any] | None = None) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5)
        )
        self.c, self.a, self.f, self.b = (nn.Conv2d(8, width, 1) for width in (3, 3, 5, 1))
        self.evaluating, self.in_training = evaluating, training or evaluating

    def forward(self, image: Tensor) -> Any:
        x = self.stem(image)
        maps = {key: getattr(self, key)(x) for key in "cafb"}
        return (self.in_training if self.training else self.evaluating)(**maps)


@dataclass
class Result:
    aux: Tensor
    logits: Tensor


Pair = namedtuple("Pair", ["features", "prediction"])
# What it returns in eval mode, in training mode, and which heads' scores are read in training.
RETURNS: dict[str, tuple[Callable[..., Any], Callable[..., Any] | None, str]] = {
    "a tensor": (lambda c, **_: c, None, "c"),
    "features after the logits": (lambda c, f, **_: [c, f], None, "c"),
    "features before the logits": (lambda c, f, **_: (f, c), None, "c"),
    "boundaries and another head": (lambda c, a, b, **_: (c, a, b), None, "ca"),
    "a list within": (lambda c, a, f, **_: (c, [a, f]), None, "ca"),
    "a mapping": (lambda c, a, **_: {"out": c, "aux": a}, None, "ca"),
    "an aux that is none": (lambda c, f, **_: {"aux": f, "out": c}, None, "c"),
    "other names": (lambda c, f, **_: {"feat": f, "pred": c}, None, "c"),
    "a dataclass": (lambda c, a, **_: Result(a, c), None, "ca"),
    "a named tuple": (lambda c, f, **_: Pair(f, c), None, "c"),
    "logits and a loss": (lambda c, **_: (c.mean(), c), None, "c"),
    "more in training": (lambda c, **_: c, lambda c, a, **_: (c, a), "ca"),
    "the main head last in training": (lambda c, **_: c, lambda c, a, b, **_: (a, c, b), "ca"),
    "features in training": (lambda c, **_: c, lambda c, f, **_: {"features": f, "out": c}, "c"),
    "more in eval mode": (lambda c, a, f, **_: (c, a, f), lambda c, **_: c, "c"),
    "the main head twice": (lambda c, **_: c, lambda c, **_: (c, c), "cc"),
}


@pytest.mark.parametrize("kind", RETURNS)
def test_class_scores_are_told_from_the_rest_in_both_modes(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    say_once.cache_clear()
    evaluating, training, read = RETURNS[kind]
    torch.manual_seed(0)
    module = Heads(evaluating, training)
    state = {key: value.clone() for key, value in module.state_dict().items()}
    generator = torch.get_rng_state()
    network = adapt(module, num_classes=3)
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())
    image = torch.randn(2, 3, 10, 12)
    for mode in (True, False):
        network.train(mode)
        torch.manual_seed(1)
        output = network(image)
        torch.manual_seed(1)
        x = module.stem(image)
        main, *aux = [getattr(module, head)(x) for head in read]
        torch.testing.assert_close(output.logits, main)
        assert len(output.aux) == (len(aux) if mode else 0)
        for given, expected in zip(output.aux, aux, strict=False):
            torch.testing.assert_close(given, expected)
    assert ("ladseg takes" in caplog.text) is (kind not in ("a tensor", "logits and a loss"))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Heads(lambda c, **_: c.mean((2, 3))), r"Heads gives \(1, 3\); logits are \(N, C, h, w\)"),
        (Heads(lambda c, **_: c, lambda c, **_: c.mean()), r"Heads in training mode gives \(\); logits are"),
        (Heads(lambda c, **_: c, lambda **_: {}), "Heads in training mode: a segmentation network returned dict"),
        (
            Heads(lambda c, **_: c, lambda c, targets, **_: c),
            "Heads fails in training mode on an image alone: .*targets",
        ),
        (Heads(lambda c, **_: c, lambda f, **_: f), r"returns no map of 3 channels in training mode: \(1, 5, "),
        (Heads(lambda f, **_: f), "Heads gives 5 classes, not 3"),
    ],
)
def test_what_can_not_be_trained_on_is_one_line(module: nn.Module, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        adapt(module, num_classes=3)
    assert "\n" not in str(caught.value)


def test_a_result_that_changes_later_is_one_line() -> None:
    module = Heads(lambda c, a, **_: (c, a))
    network = adapt(module)
    module.evaluating = module.in_training = lambda c, **_: c
    with pytest.raises(ModelError, match=r"returns no '\[0\]', which it did when it was first run"):
        network(torch.zeros(2, 3, 8, 8))


def test_nobody_elses_image_is_changed_in_place() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, image: Tensor) -> Tensor:
            return self.conv(image.sub_(0.5).mul_(2 if self.training else 3))

    network = adapt(InPlace())
    for size in ((8, 8), (9, 7)):
        image = torch.randn(2, 3, *size)
        before = image.clone()
        for mode in (True, False):
            network.train(mode)(image)
            network.segment(image)
            assert torch.equal(image, before)
    widened = LabelAssisted(network, 3)
    widened(image, torch.zeros(2, *size, dtype=torch.int64))
    assert torch.equal(image, before)


def test_student_and_teacher_see_the_same_image() -> None:
    """Of plain modules that change their input; the reference is each network on a copy."""

    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, image: Tensor) -> Tensor:
            return self.conv(image.add_(1))

    torch.manual_seed(0)
    student, teacher = InPlace(), InPlace()
    image, label = torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8))
    expected = cwd_loss(student(image.clone()), teacher(image.clone()), 4.0)
    batch = {"image": image.clone(), "label": label}
    terms = StudentObjective(student, teacher, CWD())(batch)
    torch.testing.assert_close(terms["cwd"], expected.detach())
    terms["loss"].backward()
    Plain(student)(batch)
    assert torch.equal(batch["image"], image)


def test_one_image_is_too_few_for_pooling_with_batch_norm() -> None:
    class Pools(Net):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))

        def forward(self, image: Tensor) -> Tensor:
            return super().forward(image) + self.pool(image)

    network = adapt(Pools())
    network.train()(torch.randn(2, 3, 8, 8))
    with pytest.raises(ModelError, match="can't train on one image a process; use a batch_size of 2 or more"):
        network(torch.randn(1, 3, 8, 8))


class Focus(nn.Module):
    """The space-to-depth stem of YOLOv5: four shifted images side by side."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)], 1)


class Patches(nn.Module):
    """A linear patch embedding, pixels of a patch first, channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(16 * 3, 6)

    def forward(self, x: Tensor) -> Tensor:
        images, _, height, _ = x.shape
        patches = F.unfold(x, 4, stride=4).view(images, x.shape[1], 16, -1)
        return self.embed(patches.permute(0, 3, 2, 1).flatten(2)).transpose(1, 2).view(images, 6, height // 4, -1)


STEMS: dict[str, Callable[[], nn.Module]] = {
    "grouped": lambda: nn.Conv2d(3, 6, 3, groups=3),
    "pixel unshuffle": lambda: nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, 5, 3, padding=1)),
    "focus": lambda: nn.Sequential(Focus(), nn.Conv2d(12, 5, 3, padding=1)),
    "timm's space-to-depth": lambda: timm.create_model("tresnet_m", num_classes=0, global_pool=""),
    "linear patches": Patches,
    "patch embedding": lambda: nn.Conv2d(3, 8, 14, stride=14),
}


@pytest.mark.parametrize("kind", STEMS)
def test_every_stem_is_widened_and_a_zero_channel_changes_nothing(kind: str) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(STEMS[kind]()).double().eval()
    image = torch.randn(1, 3, 224, 224, dtype=torch.float64)
    with torch.no_grad():
        plain = network(image)
        widen_input(network, slice_std=1.0)
        zero = torch.zeros_like(image[:, :1])
        torch.testing.assert_close(network(torch.cat([image, zero], 1)), plain, rtol=1e-10, atol=1e-10)
        assert not torch.allclose(network(torch.cat([image, zero + 1], 1)), plain)
        widen_input(network, 2)
        again = network(torch.cat([image, zero, zero, zero], 1))
    torch.testing.assert_close(again, plain, rtol=1e-10, atol=1e-10)


def test_each_pixel_of_the_new_channel_has_a_weight_of_its_own() -> None:
    """Space-to-depth by the definition: the widened layer is the convolution with stride 2 of the whole image."""
    torch.manual_seed(0)
    stem = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, 5, 1, bias=False))
    widen_input(stem, slice_std=1.0)
    image = torch.randn(1, 4, 224, 224)
    weight = stem[1].weight.detach().view(5, 4, 2, 2)
    torch.testing.assert_close(stem(image), F.conv2d(image, weight, stride=2))


def test_an_input_that_is_no_image_is_told_so_or_left_as_it_is() -> None:
    class Normalised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, 5, 1))

        def forward(self, image: Tensor) -> Tensor:
            return self.stem(image / 255 - 0.5)

    with pytest.raises(ModelError, match=r"Normalised takes no image of 4 channels .*set input_layer: stem$"):
        widen_input(Normalised(), input_layer="stem.1")
    network = widen_input(Normalised())
    assert network(torch.zeros(1, 4, 64, 64)).shape == (1, 5, 32, 32)


def test_the_users_own_paths_lead_into_an_adapted_network() -> None:
    teacher = LabelAssisted(adapt(Net()), num_classes=3, input_layer="encoder.0")
    assert teacher.network.module.encoder[0].in_channels == 4  # type: ignore[union-attr, index]
    assert teacher.network.in_channels == 4


@pytest.mark.parametrize(
    ("name", "args", "classes", "message"),
    [
        ("nowhere.net:Net", None, 3, r"can't import 'nowhere.net' \(No module named 'nowhere'\)"),
        ("torch.nn:Linea", None, 3, "'torch.nn' has no 'Linea'"),
        ("os:sep", None, 3, "neither a class nor a function"),
        ("os:getcwd", None, 3, "gives str, not a torch.nn.Module"),
        ("torch.nn:Conv2d", {"in_channels": 3}, 3, "can't be built: TypeError: .*out_channels"),
        (
            "torch.nn:Conv2d",
            {"in_channels": 3, "out_channels": 4, "kernel_size": 1},
            3,
            "gives 4 classes but the data has 3",
        ),
    ],
)
def test_a_name_that_leads_nowhere_is_one_line(name: str, args: Any, classes: int, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        build_model(name, classes, args=args)
    assert "\n" not in str(caught.value)


def test_args_of_a_network_of_ours_are_refused() -> None:
    with pytest.raises(ModelError, match="'pspnet_r18' has no argument 'width'"):
        build_model("pspnet_r18", 3, args={"width": 2})
    with pytest.raises(ModelError, match="weights: timm has no meaning"):
        build_model("torch.nn:Conv2d", 3, weights="timm")


def test_a_module_in_the_current_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_net_of_test_adapt.py").write_text(
        "from torch import nn\ndef make(width, num_classes):\n"
        "    return nn.Sequential(nn.Conv2d(3, width, 1), nn.Conv2d(width, num_classes, 1))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    network = build_model("my_net_of_test_adapt:make", 5, args={"width": 4})
    assert network.num_classes == 5
    assert network.core[0].out_channels == 4  # type: ignore[index]


def test_weights_in_its_own_names(tmp_path: Path) -> None:
    make = "torchvision.models.segmentation:lraspp_mobilenet_v3_large"
    theirs = torchvision.models.segmentation.lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=4
    )
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    ours = build_model(make, 4, args={"weights_backbone": None}, weights=str(tmp_path / "w.pth"))
    image = torch.randn(1, 3, 33, 47)
    with torch.no_grad():
        assert torch.equal(ours.eval()(image).logits, theirs.eval()(image)["out"])
    other = build_model(make, 6, args={"weights_backbone": None}, weights=str(tmp_path / "w.pth"))
    state = theirs.state_dict()
    differ = {k for k, v in other.core.state_dict().items() if v.shape != state[k].shape}
    assert differ == {k for k in state if k.startswith(("classifier.low_classifier", "classifier.high_classifier"))}
    assert all(torch.equal(v, state[k]) for k, v in other.core.state_dict().items() if k not in differ)


class Wrapped(nn.Module):
    """A convolution whose output is changed."""

    def __init__(self, change: Callable[[Tensor], Tensor], grad: bool = True) -> None:
        super().__init__()
        self.convolution, self.change, self.grad = nn.Conv2d(3, 5, 3, padding=1), change, grad

    def forward(self, image: Tensor) -> Tensor:
        with torch.set_grad_enabled(self.grad and torch.is_grad_enabled()):
            return self.change(self.convolution(image))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Wrapped(lambda logits: logits.softmax(1)), "Wrapped returns probabilities, not logits"),
        (Wrapped(lambda logits: logits.detach()), "Wrapped's logits have no gradient in training mode"),
        (Wrapped(lambda logits: logits, grad=False), "Wrapped's logits have no gradient in training mode"),
    ],
)
def test_outputs_that_would_not_train_are_refused(network: nn.Module, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        adapt(network)


@pytest.mark.parametrize("change", [nn.LogSoftmax(1), nn.ReLU(), nn.Sigmoid()])
def test_other_outputs_are_logits(change: nn.Module) -> None:
    assert adapt(Wrapped(change)).num_classes == 5
    assert adapt(Wrapped(change).requires_grad_(False)).num_classes == 5

"""One way of upsampling from training to delivery: each path against the same class map, for both values."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ladseg import adapt, load, resize
from ladseg.deploy.export import export_student
from ladseg.deploy.student_file import load_student, save_student
from ladseg.evaluation import Inference, by_argmax, class_ids, probabilities
from ladseg.evaluation.evaluate import evaluate
from ladseg.losses import boundary_loss
from ladseg.losses.cross_entropy import cross_entropy
from ladseg.objectives.plain import supervised_terms
from ladseg.outputs import SegmentationOutput
from ladseg.resize import resize_logits
from tests.reference import equations

SIZE = (64, 96)
COLORS = [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
BOTH = pytest.mark.parametrize("align_corners", [True, False])


class Stride8(nn.Module):
    """Logits that are the mean colour of 8x8 squares, far apart."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.scale = nn.Conv2d(3, num_classes, 1, bias=False)
        self.scale.weight.data.copy_(200 * torch.eye(num_classes)[:, :, None, None])

    def forward(self, image: Tensor) -> Tensor:
        return self.scale(nn.functional.avg_pool2d(image, 8))


def squares() -> Tensor:
    """An RGB image of pure colours, one a square of 8x8 pixels."""
    classes = torch.randint(0, 3, (SIZE[0] // 8, SIZE[1] // 8), generator=torch.Generator().manual_seed(0))
    colors = torch.eye(3)[classes].permute(2, 0, 1)
    return colors.repeat_interleave(8, 1).repeat_interleave(8, 2)[None]


def network_of(align_corners: bool) -> nn.Module:
    network = adapt(Stride8(3), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)).eval()
    network.align_corners = align_corners
    network.origin = {"name": f"{__name__}:Stride8", "args": None}
    return network


def expected_map(align_corners: bool) -> Tensor:
    logits = nn.functional.avg_pool2d(squares(), 8)
    return equations.upsample(logits, *SIZE, align_corners=align_corners).argmax(1)


def agreement(found: Tensor, align_corners: bool) -> float:
    """Share of pixels that agree; at a border in the middle of two squares rounding decides."""
    return (found.long() == expected_map(align_corners)).float().mean().item()


def test_the_two_ways_differ_on_ideal_logits() -> None:
    assert 0.05 < 1 - agreement(expected_map(True), False) < 0.5


@BOTH
@pytest.mark.parametrize("size", [(13, 9), (5, 4), (3, 4), (1, 7)])
def test_upsampling_is_the_formula(align_corners: bool, size: tuple[int, int]) -> None:
    logits = torch.randn(2, 3, 3, 4)
    expected = equations.upsample(logits, *size, align_corners=align_corners).float()
    torch.testing.assert_close(resize_logits(logits, size, align_corners), expected)


@BOTH
def test_every_path_gives_the_same_class_map(align_corners: bool, tmp_path: Path) -> None:
    network, image = network_of(align_corners), squares()
    predicted = class_ids(network, image)
    assert agreement(predicted, align_corners) > 0.99
    save_student(tmp_path / "s.safetensors", network, {"class_names": list("abc"), "colors": COLORS})
    name = f"{__name__}:Stride8"
    student = load(tmp_path / "s.safetensors", model=name, device="cpu")
    assert student.header.align_corners is align_corners
    assert student.network.align_corners is align_corners
    assert torch.equal(student.predict(image), predicted.long())
    assert torch.equal(student(image).argmax(1), predicted.long())
    assert torch.equal(student.probabilities(image).argmax(1), predicted.long())
    # Windows that are multiples of the stride see whole squares; their own corners are where they are.
    windowed = class_ids(network, image, Inference(window=SIZE))
    assert torch.equal(windowed, predicted)
    batch = {"image": image, "label": predicted.long(), "index": torch.tensor([0])}
    assert evaluate(by_argmax(lambda b: network(b["image"])), [batch], 3).matrix.pixel_accuracy() == 1.0
    exported = export_student(tmp_path / "s.safetensors", "torch", model=name).path
    traced = torch.export.load(exported).module()(image).argmax(1)
    assert (traced == predicted).float().mean() > 0.999


@BOTH
def test_an_onnx_file_gives_the_same_class_map(align_corners: bool, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    network, image = network_of(align_corners), squares()
    save_student(tmp_path / "s.safetensors", network, {"class_names": list("abc"), "colors": COLORS})
    path = export_student(tmp_path / "s.safetensors", "onnx", model=f"{__name__}:Stride8").path
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["align_corners"] == str(align_corners).lower()
    (logits,) = session.run(None, {"image": image.numpy()})
    assert agreement(torch.from_numpy(logits).argmax(1), align_corners) > 0.99


@BOTH
def test_training_sees_the_same_class_map(align_corners: bool) -> None:
    """The loss is that of the formula, and lower where the label is upsampled the same way than the other way."""
    network, label = network_of(align_corners), expected_map(align_corners)
    output = network(squares())
    terms = supervised_terms(output, label)
    full = equations.upsample(output.logits.detach(), *SIZE, align_corners=align_corners)
    assert terms["seg"].item() == pytest.approx(nn.functional.cross_entropy(full, label).item(), rel=1e-4)
    assert terms["seg"] < supervised_terms(output, expected_map(not align_corners))["seg"] / 2


@BOTH
def test_heads_that_only_train_have_their_own(align_corners: bool) -> None:
    torch.manual_seed(0)
    label = torch.randint(0, 3, (1, 11, 13))
    logits, aux, boundary = (torch.randn(1, c, 2, 3) for c in (3, 3, 2))
    output = SegmentationOutput(
        logits, aux=(aux,), boundary=boundary, align_corners=align_corners, aux_align_corners=not align_corners
    )
    terms = supervised_terms(output.map(torch.Tensor.float).split([1])[0], label)
    ways = {key: equations.upsample(x, 11, 13, align_corners=way) for key, x, way in (
        ("seg", logits, align_corners), ("aux", aux, not align_corners))}  # fmt: skip
    for key, full in ways.items():
        assert terms[key].item() == pytest.approx(nn.functional.cross_entropy(full, label).item(), rel=1e-5)
    full = equations.upsample(boundary, 11, 13, align_corners=align_corners).float()
    assert terms["boundary"].item() == pytest.approx(boundary_loss(full, label).item(), rel=1e-5)


@BOTH
@pytest.mark.parametrize(("small", "size"), [((3, 4), (13, 9)), ((6, 7), (6, 7)), ((1, 1), (8, 8)), ((9, 9), (5, 4))])
def test_loss_and_gradient_by_the_formula(align_corners: bool, small: tuple[int, int], size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 5, *small, dtype=torch.float64, requires_grad=True)
    label = torch.randint(0, 5, (2, *size))
    expected = nn.functional.cross_entropy(equations.upsample(logits, *size, align_corners=align_corners), label)
    (gradient,) = torch.autograd.grad(expected, logits)
    found = cross_entropy(logits, label, align_corners=align_corners)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, logits)[0], gradient)


@BOTH
@pytest.mark.parametrize("window", [None, (16, 20)])
def test_prediction_in_chunks_is_the_formula(
    align_corners: bool, window: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(resize.CHUNK, "cpu", 3 * 3 * 31)
    torch.manual_seed(0)
    stride4 = nn.Conv2d(3, 3, 5, stride=4, padding=2).eval().requires_grad_(False)
    image = torch.randn(1, 3, 29, 31)
    found = probabilities(
        lambda part: SegmentationOutput(stride4(part), align_corners=align_corners), image, Inference(window, window)
    )
    if window is None:
        full = equations.upsample(stride4(image), 29, 31, align_corners=align_corners)
    else:
        full, counts = torch.zeros(1, 3, 29, 31, dtype=torch.float64), torch.zeros(29, 31)
        for top in (0, 29 - 16):
            for left in (0, 31 - 20):
                part = (..., slice(top, top + 16), slice(left, left + 20))
                full[part] += equations.upsample(stride4(image[part]), 16, 20, align_corners=align_corners)
                counts[part[1:]] += 1
        full /= counts
    torch.testing.assert_close(found.double(), full.softmax(1), rtol=1e-4, atol=1e-5)


def test_files_from_before_have_aligned_corners(tmp_path: Path) -> None:
    network = network_of(False)
    save_student(tmp_path / "s.safetensors", network, {"class_names": list("abc"), "colors": COLORS})
    with safe_open(tmp_path / "s.safetensors", "pt") as file:
        metadata = file.metadata()
    header = json.loads(metadata["ladseg"])
    del header["align_corners"]
    save_file(
        load_file(tmp_path / "s.safetensors"), tmp_path / "old.safetensors", {**metadata, "ladseg": json.dumps(header)}
    )
    assert load_student(tmp_path / "old.safetensors", f"{__name__}:Stride8")[0].align_corners is True

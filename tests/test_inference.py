"""Prediction in bands, windows and scales against full-size maps; boundaries against erosion."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ladseg import Inference, resize
from ladseg.evaluation import BoundaryIoU, class_ids, probabilities

SIZES = [(37, 53), (64, 96), (5, 200), (130, 41), (1, 9)]
CLASSES = 7


@pytest.fixture
def net() -> nn.Module:
    return nn.Conv2d(3, CLASSES, 5, stride=4, padding=2).eval().requires_grad_(False)


def full(logits: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(logits.double(), size=size, mode="bilinear", align_corners=True)


def starts(side: int, window: int, stride: int) -> list[int]:
    """Windows as one would lay them by hand: on and on, the last one moved back."""
    places = [0]
    while places[-1] + window < side:
        places.append(min(places[-1] + stride, side - window))
    return places


def slid(net: nn.Module, image: Tensor, window: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    """Full-size sums and counts, the plain way."""
    height, width = image.shape[-2:]
    window = (min(window[0], height), min(window[1], width))
    total = torch.zeros(len(image), CLASSES, height, width, dtype=torch.float64)
    count = torch.zeros(height, width, dtype=torch.float64)
    for top in starts(height, window[0], stride[0]):
        for left in starts(width, window[1], stride[1]):
            place = (..., slice(top, top + window[0]), slice(left, left + window[1]))
            total[place] += full(net(image[place]), window)
            count[place[1:]] += 1
    return total / count


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_whole_image_is_upsampled_logits(
    net: nn.Module, size: tuple[int, int], rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(resize.CHUNK, "cpu", rows * 2 * CLASSES * size[1])
    image = torch.randn(2, 3, *size)
    expected = full(net(image), size)
    torch.testing.assert_close(probabilities(net, image), expected.softmax(1).float(), rtol=1e-4, atol=1e-5)
    ids = class_ids(net, image)
    assert (ids.shape, ids.dtype) == ((2, *size), torch.uint8)
    second, first = expected.topk(2, dim=1).values.unbind(1)[::-1]
    assert torch.equal(ids.long()[first - second > 1e-4], expected.argmax(1)[first - second > 1e-4])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("window", "stride"), [((16, 20), (16, 20)), ((16, 20), (7, 19)), ((200, 30), (5, 9))])
def test_windows_average_their_overlaps(
    net: nn.Module,
    size: tuple[int, int],
    window: tuple[int, int],
    stride: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(resize.CHUNK, "cpu", 3 * CLASSES * size[1])
    image = torch.randn(1, 3, *size)
    expected = slid(net, image, window, stride).softmax(1).float()
    found = probabilities(net, image, Inference(window, stride))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_stride_left_open_is_two_thirds(net: nn.Module) -> None:
    image = torch.randn(1, 3, 50, 70)
    expected = probabilities(net, image, Inference((24, 30), (16, 20)))
    assert torch.equal(probabilities(net, image, Inference((24, 30))), expected)


@pytest.mark.parametrize("window", [None, (40, 36)])
def test_scales_and_mirror_average_softmaxes(
    net: nn.Module, window: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(resize.CHUNK, "cpu", 5 * CLASSES * 90)
    size, scales = (70, 90), (0.5, 1.0, 1.3)
    image = torch.randn(1, 3, *size)
    passes = []
    for scale in scales:
        sides = (round(size[0] * scale), round(size[1] * scale))
        scaled = F.interpolate(image, size=sides, mode="bilinear", antialias=scale < 1) if scale != 1 else image
        for mirrored in (scaled, scaled.flip(-1)):
            logits = net(mirrored) if window is None else slid(net, mirrored, window, (20, 18))
            shares = full(logits, size).softmax(1)
            passes.append(shares.flip(-1) if mirrored is not scaled else shares)
    expected = torch.stack(passes).mean(0)
    how = Inference(window, window and (20, 18), scales, flip=True)
    found = probabilities(net, image, how)
    torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.sum(1), torch.ones(1, *size))
    assert (class_ids(net, image, how) == expected.argmax(1)).float().mean() > 0.999


class Largest(TorchDispatchMode):
    """The most elements that any tensor, or any floating-point one, has had."""

    elements = 0

    def __init__(self, floating: bool = False) -> None:
        super().__init__()
        self.floating = floating

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else [result]:
            if isinstance(value, Tensor) and (value.is_floating_point() or not self.floating):
                self.elements = max(self.elements, value.numel())
        return result


@pytest.mark.parametrize("how", [Inference(), Inference((64, 64)), Inference((64, 64), scales=(0.5, 1.0), flip=True)])
def test_no_full_size_map_of_scores_is_ever_held(
    net: nn.Module, how: Inference, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(resize.CHUNK, "cpu", 1 << 14)
    height, width = 1024, 96
    image = torch.randn(1, 3, height, width)
    with Largest() as largest:
        class_ids(net, image, how)
    assert largest.elements <= image.numel() < CLASSES * height * width


def test_windows_of_bytes_make_no_floating_copy_of_the_image(net: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(resize.CHUNK, "cpu", 1 << 12)
    image = torch.randint(0, 256, (1, 3, 2048, 96), dtype=torch.uint8)
    for how in (Inference(), Inference((32, 32)), Inference((32, 32), scales=(0.5, 1.0), flip=True)):
        assert torch.equal(class_ids(net, image, how), class_ids(net, image.float() / 255, how))
    with Largest(floating=True) as largest:
        class_ids(net, image, Inference((32, 32)))
    assert 0 < largest.elements <= image.numel() / 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scales": ()}, "one or more"),
        ({"scales": (1.0, 0.0)}, "above 0"),
        ({"stride": (4, 4)}, "give the window too"),
        ({"window": (8, 8), "stride": (4, 9)}, "leaves gaps"),
        ({"window": (8, 8), "stride": (0, 4)}, "leaves gaps"),
        ({"window": (0, 8)}, "at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Inference(**arguments)


@pytest.mark.parametrize("share", [0.02, 0.005, 0.05])
@pytest.mark.parametrize("size", [(40, 56), (101, 33), (5, 4)])
def test_boundary_iou_equals_erosion_of_every_class(size: tuple[int, int], share: float) -> None:
    source = torch.Generator().manual_seed(0)
    measured = BoundaryIoU(4, share=share)
    agree, labelled, predicted = (np.zeros(4) for _ in range(3))
    reach = max(1, round(share * float(np.hypot(*size))))
    for _ in range(3):
        coarse = torch.randint(0, 3, (2, 1, 4, 5), generator=source).float()  # class 3 never occurs
        label, prediction = F.interpolate(coarse, size=size, mode="nearest").long()[:, 0]
        label[: size[0] // 3, : size[1] // 2] = 255
        measured.update(prediction.to(torch.uint8), label)
        counted = (label != 255).numpy()
        for number in range(4):
            edges = []
            for ids in (label, prediction):
                mask = (ids.numpy() == number) & counted
                edges.append(mask & ~ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=reach, border_value=0))
            agree[number] += (edges[0] & edges[1]).sum()
            labelled[number] += edges[0].sum()
            predicted[number] += edges[1].sum()
    assert measured.counts.tolist() == [agree.tolist(), labelled.tolist(), predicted.tolist()]
    expected = agree[:3] / (labelled + predicted - agree)[:3]
    assert measured.iou()[:3].tolist() == pytest.approx(expected.tolist())
    assert measured.iou()[3].isnan()
    assert measured.mean_iou() == pytest.approx(expected.mean())


def test_cityscapes_boundaries_are_11_pixels_wide_at_half_a_per_cent() -> None:
    """And 46 at 2 %, as the authors' code has it for 1024x2048: a straight edge has so many pixels on each side."""
    label = torch.zeros(1024, 2048, dtype=torch.int64)
    label[:, 1000:] = 1
    for share, width in ((0.005, 11), (0.02, 46)):
        measured = BoundaryIoU(2, share=share)
        measured.update(label, label)
        inner = (1024 - 2 * width) * (1000 - 2 * width)
        assert measured.counts[1, 0] == 1024 * 1000 - inner


def test_logits_may_be_averaged_in_place_of_softmaxes(net: nn.Module) -> None:
    image = torch.randn(1, 3, 40, 52)
    logits = [full(net(image), (40, 52)), full(net(image.flip(-1)), (40, 52)).flip(-1)]
    found = probabilities(net, image, Inference(flip=True, average="logits"))
    torch.testing.assert_close(found, torch.stack(logits).mean(0).softmax(1).float(), rtol=1e-4, atol=1e-5)
    softmaxes = probabilities(net, image, Inference(flip=True))
    assert float((found - softmaxes).abs().max()) > 1e-3


@pytest.mark.parametrize(("size", "inside"), [((30, 40), (48, 64)), ((40, 30), (64, 48)), ((100, 20), (100, 20))])
def test_an_image_is_fitted_into_a_box_and_its_logits_brought_back(
    net: nn.Module, size: tuple[int, int], inside: tuple[int, int]
) -> None:
    """Of long side 100 and short side 48; 30x40 grows by 1.6."""
    image = torch.randn(1, 3, *size)
    scaled = F.interpolate(image, size=inside, mode="bilinear") if inside != size else image
    found = probabilities(net, image, Inference(rescale=(100, 48)))
    torch.testing.assert_close(found, full(net(scaled), size).softmax(1).float(), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="rescale is"):
        Inference(rescale=(0, 4))

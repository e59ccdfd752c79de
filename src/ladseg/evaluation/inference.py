"""Predict an image of any size in bounded memory: whole or in windows, at several scales, mirrored.

Full-size logits are never in memory. Every pass over the image yields its logits as bands of rows from top to bottom,
at its own resolution. The bands are resized to chunks of full-size rows, and each chunk is consumed before the next
one is made.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ladseg.outputs import SegmentationOutput
from ladseg.resize import fit_factor, resize_logits, resize_rows, row_chunks

# A network maps an image (N, 3, H, W), or a window of one, to anything that SegmentationOutput.of reads. The output
# records how its logits are upsampled, so that callers need not know.
Network = Callable[[Tensor], Any]
# Rows of logits, and whether they are upsampled with aligned corners.
Band = tuple[Tensor, bool]

# The least side of a scaled image in pixels.
SHORTEST = 32


@dataclass(frozen=True)
class Inference:
    """How to predict.

    Attributes:
        window: Height and width of windows that are predicted one at a time, with the logits averaged where they
            overlap; None predicts the whole image at once. A smaller image is one window of its own size.
        stride: Rows and columns from one window to the next; None means two thirds of the window.
        scales: Factors on the image's size.
        flip: Whether to predict the mirrored image too, at each scale.
        average: What is averaged over scales and mirrored images: ``"softmax"``, as in CIRKD and most other code, or
            ``"logits"``.
        rescale: Long and short side of the box that the image is first scaled to fit; None keeps its size.

    Raises:
        ValueError: A stride leaves gaps between windows, or a size or scale is not above 0.
    """

    window: tuple[int, int] | None = None
    stride: tuple[int, int] | None = None
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    average: Literal["softmax", "logits"] = "softmax"
    rescale: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not self.scales or min(self.scales) <= 0:
            raise ValueError(f"scales are {self.scales}; expected one or more, each above 0")
        if self.stride is not None:
            if self.window is None:
                raise ValueError("a stride needs windows; give the window too")
            if min(self.stride) < 1 or any(s > w for s, w in zip(self.stride, self.window, strict=True)):
                raise ValueError(f"stride {self.stride} leaves gaps between windows of {self.window}")
        if self.rescale is not None and min(self.rescale) < 1:
            raise ValueError(f"rescale is {self.rescale}; both sides must be at least 1")
        if self.window is not None and min(self.window) < 1:
            raise ValueError(f"window is {self.window}; both sides must be at least 1")


WHOLE = Inference()


@torch.inference_mode()
def class_ids(network: Network, image: Tensor, how: Inference = WHOLE) -> Tensor:
    """Return the argmax over classes at every pixel.

    Args:
        network: Maps an image to its output.
        image: ``(N, 3, H, W)``, floating point as ``network`` takes it, or uint8. From uint8, the network gets
            floating-point values in 0..1, window by window, so that a large image is not copied as a whole.
        how: How to predict.

    Returns:
        ``(N, H, W)`` uint8.
    """
    return torch.cat([chunk.argmax(1).to(torch.uint8) for chunk in _scores(network, image, how)], dim=1)


@torch.inference_mode()
def probabilities(network: Network, image: Tensor, how: Inference = WHOLE) -> Tensor:
    """Return class probabilities ``(N, C, H, W)``, float32, that sum to 1; the arguments are :func:`class_ids`'s."""
    single = _is_single(how) or how.average == "logits"
    chunks = _scores(network, image, how)
    return torch.cat([chunk.softmax(1) if single else chunk for chunk in chunks], dim=2)


def _is_single(how: Inference) -> bool:
    return len(how.scales) == 1 and not how.flip


def _scores(network: Network, image: Tensor, how: Inference) -> Iterator[Tensor]:
    """Yield chunks ``(N, C, rows, W)`` from top to bottom: logits of a single pass, or the mean of several."""
    size = (image.shape[-2], image.shape[-1])
    factor = fit_factor(size, how.rescale)
    passes = [(scale, mirrored) for scale in how.scales for mirrored in ((False, True) if how.flip else (False,))]
    streams = [_pass(network, image, how, scale * factor, mirrored) for scale, mirrored in passes]
    chunks = [_full_size(bands, height, size) for bands, height in streams]
    for parts in zip(*chunks, strict=True):
        if len(parts) == 1:
            yield parts[0]
        else:
            unmirrored = (
                part.flip(-1) if mirrored else part for part, (_, mirrored) in zip(parts, passes, strict=True)
            )
            logits = how.average == "logits"
            yield torch.stack([part if logits else part.softmax(1) for part in unmirrored]).mean(0)


def _pass(
    network: Network, image: Tensor, how: Inference, scale: float, mirrored: bool
) -> tuple[Iterator[Band], int | None]:
    """Return the bands of logits of the image at one scale, and their number of rows; None if there is one band."""
    height, width = (max(round(side * scale), min(side, SHORTEST)) for side in image.shape[-2:])
    if (height, width) != tuple(image.shape[-2:]):
        image = F.interpolate(
            _floating(image), size=(height, width), mode="bilinear", align_corners=False, antialias=scale < 1
        )
    if mirrored:
        image = image.flip(-1)
    if how.window is None:
        output = SegmentationOutput.of(network(_floating(image)))
        return iter([(output.logits.float(), output.align_corners)]), None
    window = (min(how.window[0], height), min(how.window[1], width))
    stride = how.stride or (max(1, window[0] * 2 // 3), max(1, window[1] * 2 // 3))
    return _windows(network, image, window, stride), height


def _floating(image: Tensor) -> Tensor:
    """Convert uint8 to floating point in 0..1."""
    return image.float() / 255 if image.dtype == torch.uint8 else image


def _windows(network: Network, image: Tensor, window: tuple[int, int], stride: tuple[int, int]) -> Iterator[Band]:
    """Yield bands of full-size logits, averaged where windows overlap, each once no later window covers it."""
    height, width = image.shape[-2:]
    tops, lefts = _starts(height, window[0], stride[0]), _starts(width, window[1], stride[1])
    total = torch.empty(0)
    for top, after in pairwise([*tops, height]):
        sums = torch.zeros(0)
        for left in lefts:
            part = image[..., top : top + window[0], left : left + window[1]]
            output = SegmentationOutput.of(network(_floating(part)))
            logits = resize_logits(output.logits, window, output.align_corners)
            if not sums.numel():
                sums = logits.new_zeros(*logits.shape[:2], window[0], width)
            sums[..., left : left + window[1]] += logits
        kept = total.shape[-2] if total.numel() else 0  # rows that the windows above share with these
        if kept:
            sums[..., :kept, :] += total
        ready = after - top
        counts = _cover(tops, window[0], top, after, sums)[:, None] * _cover(lefts, window[1], 0, width, sums)
        yield sums[..., :ready, :] / counts, output.align_corners
        total = sums[..., ready:, :]


def _cover(starts: list[int], length: int, begin: int, end: int, like: Tensor) -> Tensor:
    """Count the windows that cover each position from ``begin`` to ``end``, on the device of ``like``."""
    positions, first = torch.arange(begin, end)[:, None], torch.tensor(starts)
    return ((positions >= first) & (positions < first + length)).sum(1).to(like.device, non_blocking=True)


def _starts(side: int, window: int, stride: int) -> list[int]:
    """Return where windows start along a side; the last one is moved back to end at the image's edge."""
    return [*range(0, side - window, stride), side - window]


def _full_size(bands: Iterator[Band], height: int | None, size: tuple[int, int]) -> Iterator[Tensor]:
    """Resize bands of any resolution to chunks of rows of ``size``, as :func:`resize_logits` would the whole map.

    Args:
        bands: ``(N, C, rows, w)`` from top to bottom.
        height: Number of rows of all bands; None if there is a single band.
        size: Height and width of the result.
    """
    held, align_corners = next(bands)
    first, total = 0, height or held.shape[-2]  # ``first`` is the row index at which ``held`` starts
    for chunk in row_chunks(held, total, size, align_corners):
        low, high = chunk.source.start, chunk.source.stop
        while first + held.shape[-2] < high:
            held = torch.cat([held[..., max(0, low - first) :, :], next(bands)[0]], dim=-2)
            first = max(first, low)
        yield resize_rows(held[..., low - first : high - first, :], chunk.weights, size[1], align_corners)

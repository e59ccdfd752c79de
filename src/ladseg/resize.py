"""Upsample logits to the size of an image, whole or a few rows at a time."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def resize_logits(logits: Tensor, size: tuple[int, int], align_corners: bool = True) -> Tensor:
    """Resize logits ``(N, C, h, w)`` bilinearly to ``size``.

    Args:
        logits: Logits of any floating-point type; computed in float32, or in float64 if they are float64.
        size: Height and width of the result.
        align_corners: As the network was trained; see :class:`ladseg.SegmentationOutput`. The wrong value shifts class
            boundaries: on ideal logits of stride 8 it changes the class of 9 % of the pixels.

    Returns:
        ``(N, C, *size)``.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if logits.shape[-2:] == size:
        return logits
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=align_corners)


def fit_factor(size: tuple[int, int], box: Sequence[int] | None) -> float:
    """Return the factor that scales a height and width to fit a box of a long and a short side; 1 without a box."""
    return 1.0 if box is None else min(max(box) / max(size), min(box) / min(size))


# Number of float32 values in a processor's widest register (AVX-512).
VECTOR = 16
# Number of logits in a chunk of full-size rows: few enough for a CPU's cache, and many enough for few kernels on a GPU.
CHUNK = {"cpu": 1 << 20, "cuda": 1 << 26}


@dataclass(frozen=True)
class RowChunk:
    """Consecutive rows of an upsampled map, as weighted means of rows of the small map.

    Attributes:
        rows: Indices of the rows in the upsampled map.
        source: Indices of the rows of the small map from which they are computed.
        weights: Weights ``(rows, source)`` of the source rows in each row, which sum to 1.
    """

    rows: slice
    source: slice
    weights: Tensor


def row_chunks(logits: Tensor, rows: int, size: tuple[int, int], align_corners: bool = True) -> list[RowChunk]:
    """Divide the rows of :func:`resize_logits` into chunks, from top to bottom.

    Args:
        logits: ``(N, C, h, w)``, or a band of rows of such a map.
        rows: Number of rows h of the whole map.
        size: Height and width of the result.
        align_corners: As for :func:`resize_logits`.

    Returns:
        Chunks of about ``CHUNK`` logits each.
    """
    several = max(1, CHUNK.get(logits.device.type, CHUNK["cuda"]) // (len(logits) * logits.shape[1] * size[1]))
    chunks = []
    for begin in range(0, size[0], several):
        end = min(begin + several, size[0])
        places = [_source_row(row, rows, size[0], align_corners) for row in range(begin, end)]
        source = slice(int(places[0]), min(int(places[-1]) + 2, rows))
        distances = torch.tensor(places, dtype=torch.float64)[:, None] - torch.arange(source.start, source.stop)
        weights = (1 - distances.abs()).clamp(min=0)
        weights = weights.to(logits.device, logits.dtype, non_blocking=True)
        chunks.append(RowChunk(slice(begin, end), source, weights))
    return chunks


def _source_row(row: int, rows: int, height: int, align_corners: bool) -> float:
    """Return the position of a result's row among the small map's rows, as in torch's interpolation."""
    if align_corners:
        return row * ((rows - 1) / max(height - 1, 1))
    return min(max((row + 0.5) * (rows / height) - 0.5, 0.0), rows - 1.0)


def resize_rows(band: Tensor, weights: Tensor, width: int, align_corners: bool = True) -> Tensor:
    """Return one chunk of rows of :func:`resize_logits`, without gradient.

    The small map's rows are widened, and one matrix product combines them to the chunk's rows.

    Args:
        band: The chunk's ``source`` rows of the small map, ``(N, C, source, w)``.
        weights: The chunk's ``weights``.
        width: Width of the result.
        align_corners: As for :func:`resize_logits`.

    Returns:
        ``(N, C, rows, width)`` in channels_last, in which CPUs process many classes at once.
    """
    wide = resize_logits(band, (band.shape[-2], width), align_corners).permute(0, 2, 3, 1)
    rows = mix_rows(weights, wide.flatten(2))
    return rows.unflatten(2, wide.shape[2:]).permute(0, 3, 1, 2)


class RowMixing(nn.Module):
    """Multiply the rows of every image by one matrix, in the precision of the rows even under autocast.

    It is a module so that profilers and :func:`ladseg.measure.mac_counter.count_macs` can distinguish this product from
    those of a network.
    """

    def forward(self, weights: Tensor, rows: Tensor) -> Tensor:
        """Return ``weights @ rows``: ``(k, source)`` and ``(N, source, values)`` to ``(N, k, values)``."""
        with torch.autocast(rows.device.type, enabled=False):
            return torch.bmm(weights.to(rows.dtype).expand(len(rows), -1, -1), rows)


mix_rows = RowMixing()

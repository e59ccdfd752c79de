"""Upsample logits to the size of an image, whole or a few rows at a time."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def resize_logits(logits: Tensor, size: tuple[int, int], align_corners: bool = True) -> Tensor:
    """Resize logits ``(N, C, h, w)`` bilinearly to ``size``.

    Args:
        logits: Any floating type; computed in float32, or in float64 if they are that.
        size: Height and width of the result.
        align_corners: As the network was trained, see :class:`ladseg.SegmentationOutput`. The wrong one shifts class
            borders: on ideal logits of stride 8 it changes the class of 9 % of the pixels.

    Returns:
        ``(N, C, *size)``.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if logits.shape[-2:] == size:
        return logits
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=align_corners)


# Float32 values of a processor's widest register (AVX-512).
VECTOR = 16
# Scores of a chunk of full-size rows: few enough to stay in a processor's cache, and to launch few kernels on a GPU.
CHUNK = {"cpu": 1 << 20, "cuda": 1 << 26}


@dataclass(frozen=True)
class RowChunk:
    """Some rows of a map of full size, between those of a small map.

    Attributes:
        rows: Which rows they are.
        source: The small map's rows that they are made of.
        weights: How much each of ``source`` counts in each of ``rows``, of sum 1: ``(rows, source)``.
    """

    rows: slice
    source: slice
    weights: Tensor


def row_chunks(logits: Tensor, rows: int, size: tuple[int, int], align_corners: bool = True) -> list[RowChunk]:
    """Split the rows of :func:`resize_logits`, from top to bottom, into chunks that are worth one operation each.

    Args:
        logits: ``(N, C, h, w)``, or a band of rows of such a map.
        rows: Rows h of the whole map.
        size: Height and width of the result.
        align_corners: As for :func:`resize_logits`.
    """
    several = max(1, CHUNK.get(logits.device.type, CHUNK["cuda"]) // (len(logits) * logits.shape[1] * size[1]))
    chunks = []
    for begin in range(0, size[0], several):
        end = min(begin + several, size[0])
        places = _source_rows(begin, end, rows, size[0], align_corners)
        source = slice(int(places[0]), min(int(places[-1]) + 2, rows))
        weights = (1 - (places[:, None] - torch.arange(source.start, source.stop)).abs()).clamp(min=0)
        weights = weights.to(logits.device, logits.dtype, non_blocking=True)
        chunks.append(RowChunk(slice(begin, end), source, weights))
    return chunks


def _source_rows(begin: int, end: int, rows: int, height: int, align_corners: bool) -> Tensor:
    """Return where rows ``begin`` to ``end`` of the result lie among the small map's, as torch's interpolation does."""
    wanted = torch.arange(begin, end, dtype=torch.float64)
    if align_corners:
        return wanted * ((rows - 1) / max(height - 1, 1))
    return ((wanted + 0.5) * (rows / height) - 0.5).clamp(0, rows - 1)


def resize_rows(band: Tensor, weights: Tensor, width: int, align_corners: bool = True) -> Tensor:
    """Make a chunk ``(N, C, rows, width)`` of :func:`resize_logits`, of the small map's rows ``(N, C, source, w)``.

    They are widened, and one matrix product makes the others of them. The result is channels_last whatever came:
    processors then work on many classes at once. No gradient flows.
    """
    wide = resize_logits(band, (band.shape[-2], width), align_corners).permute(0, 2, 3, 1)
    rows = mix_rows(weights, wide.flatten(2))
    return rows.unflatten(2, wide.shape[2:]).permute(0, 3, 1, 2)


def mix_rows(weights: Tensor, rows: Tensor) -> Tensor:
    """``weights @ rows`` of every image: ``(k, source)`` and ``(N, source, values)`` to ``(N, k, values)``.

    In the precision that comes, whatever autocast does. No gradient flows.
    """
    with torch.autocast(rows.device.type, enabled=False):
        mixed: Tensor = torch.ops.ladseg.mix_rows(weights, rows)
    return mixed


def _mix_rows(weights: Tensor, rows: Tensor) -> Tensor:
    return torch.bmm(weights.to(rows.dtype).expand(len(rows), -1, -1), rows)


# An operation of its own, as torch's interpolation is one: what counts products does not take it for a network's.
_OPERATIONS = torch.library.Library("ladseg", "DEF")
_OPERATIONS.define("mix_rows(Tensor weights, Tensor rows) -> Tensor")
_OPERATIONS.impl("mix_rows", _mix_rows, "CompositeExplicitAutograd")

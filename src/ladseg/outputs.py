"""What every segmentation network returns, and every loss, distiller and evaluator reads."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class SegmentationOutput:
    """The outputs of one forward pass, by name.

    Attributes:
        logits: Class scores ``(N, C, h, w)`` at the network's own stride; whoever needs the image's size
            upsamples.
        features: Named feature maps ``(N, D, h', w')`` for feature distillers. ``"head"`` is the map
            before the classifier, ``"backbone"`` the last one of the backbone or what a recipe's ``features`` names.
        aux: Scores ``(N, C, h'', w'')`` of training-only heads, main head excluded. Empty in ``eval`` mode, unless a
            distiller asks a teacher for them.
        boundary: Scores ``(N, 1, h', w')`` of a training-only head that tells class boundaries; None without one.
    """

    logits: Tensor
    features: dict[str, Tensor] = field(default_factory=dict)
    aux: tuple[Tensor, ...] = ()
    boundary: Tensor | None = None

    @classmethod
    def of(cls, result: Any) -> "SegmentationOutput":
        """Read what a network of any family returns.

        Args:
            result: A :class:`SegmentationOutput`, the logits themselves, a mapping with ``"out"`` and perhaps
                ``"aux"`` (torchvision), an object with ``.logits`` (transformers), or a tuple or list of logits whose
                first is the main head's.

        Raises:
            TypeError: None of these.
        """
        if isinstance(result, cls):
            return result
        if isinstance(result, Tensor):
            return cls(result)
        if isinstance(result, Mapping) and "out" in result:
            return cls(result["out"], aux=(result["aux"],) if "aux" in result else ())
        if isinstance(getattr(result, "logits", None), Tensor):
            return cls(result.logits)
        if isinstance(result, tuple | list) and result and all(isinstance(part, Tensor) for part in result):
            return cls(result[0], aux=tuple(result[1:]))
        raise TypeError(
            f"a segmentation network returned {type(result).__name__}; expected logits (N, C, h, w), "
            "a mapping with 'out', an object with .logits, or a tuple with the main logits first"
        )

    def map(self, change: Callable[[Tensor], Tensor]) -> "SegmentationOutput":
        """The same with every tensor changed."""
        return SegmentationOutput(
            change(self.logits),
            {name: change(value) for name, value in self.features.items()},
            tuple(change(value) for value in self.aux),
            None if self.boundary is None else change(self.boundary),
        )

    def split(self, sizes: list[int]) -> list["SegmentationOutput"]:
        """Take a joint batch apart again: the outputs of its consecutive parts of these sizes."""
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        return [
            self.map(lambda value, a=start, b=start + size: value[a:b])  # type: ignore[misc]
            for start, size in zip(starts, sizes, strict=True)
        ]


def resize_logits(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits ``(N, C, h, w)`` at ``size``, bilinear with aligned corners as these models are trained.

    In float32, whatever came; float64 stays.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if logits.shape[-2:] == size:
        return logits
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=True)


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


def row_chunks(logits: Tensor, rows: int, size: tuple[int, int]) -> list[RowChunk]:
    """The rows of :func:`resize_logits`, from top to bottom in chunks that are worth one operation each.

    Args:
        logits: ``(N, C, h, w)``, or a band of rows of such a map.
        rows: Rows h of the whole map.
        size: Height and width of the result.
    """
    step = (rows - 1) / max(size[0] - 1, 1)
    several = max(1, CHUNK.get(logits.device.type, CHUNK["cuda"]) // (len(logits) * logits.shape[1] * size[1]))
    chunks = []
    for begin in range(0, size[0], several):
        end = min(begin + several, size[0])
        source = slice(int(begin * step), min(int((end - 1) * step) + 2, rows))
        places = torch.arange(begin, end, dtype=torch.float64) * step
        weights = (1 - (places[:, None] - torch.arange(source.start, source.stop)).abs()).clamp(min=0)
        weights = weights.to(logits.device, logits.dtype, non_blocking=True)
        chunks.append(RowChunk(slice(begin, end), source, weights))
    return chunks


def resize_rows(band: Tensor, weights: Tensor, width: int) -> Tensor:
    """A chunk ``(N, C, rows, width)`` of :func:`resize_logits`, of the small map's rows ``(N, C, source, w)``.

    They are widened, and one matrix product makes the others of them. The result is channels_last whatever came:
    processors then work on many classes at once. No gradient flows.
    """
    wide = resize_logits(band, (band.shape[-2], width)).permute(0, 2, 3, 1)
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

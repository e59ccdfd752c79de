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
    if tuple(logits.shape[-2:]) == tuple(size):
        return logits
    return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=True)


# Scores of a chunk of full-size rows: few enough to stay in a processor's cache, and to launch few kernels on a GPU.
CHUNK = {"cpu": 1 << 21, "cuda": 1 << 26}


def row_chunks(logits: Tensor, rows: int, size: tuple[int, int]) -> list[Tensor]:
    """Where the rows of :func:`resize_logits` lie between those of a map, in chunks that are worth one operation each.

    Args:
        logits: ``(N, C, h, w)``, or a band of rows of such a map.
        rows: Rows h of the whole map.
        size: Height and width of the result.

    Returns:
        Float64 ``(chunk,)`` each, from 0 to h - 1, on the CPU: nobody waits for a device to know them.
    """
    places = torch.arange(size[0], dtype=torch.float64) * ((rows - 1) / max(size[0] - 1, 1))
    chunk = CHUNK.get(logits.device.type, CHUNK["cuda"]) // (len(logits) * logits.shape[1] * size[1])
    return list(places.split(max(1, chunk)))


def resize_rows(logits: Tensor, places: Tensor, width: int) -> Tensor:
    """Rows ``(N, C, rows, width)`` of :func:`resize_logits`: at fractional ``places`` of a map ``(N, C, h, w)``.

    They are channels_last whatever came: processors then work on many classes at once.
    """
    above = places.floor().long().clamp(max=logits.shape[-2] - 1)
    below = (above + 1).clamp(max=logits.shape[-2] - 1)
    share = (places - above).to(logits.dtype)[:, None, None]
    above, below, share = (value.to(logits.device, non_blocking=True) for value in (above, below, share))
    classes_last = logits.permute(0, 2, 3, 1)
    rows = classes_last.index_select(1, above).lerp(classes_last.index_select(1, below), share).permute(0, 3, 1, 2)
    return resize_logits(rows, (len(places), width))

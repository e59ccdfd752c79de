"""What every segmentation network returns, and every loss, distiller and evaluator reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class SegmentationOutput:
    """The outputs of one forward pass, by name.

    Attributes:
        logits: Class scores ``(N, C, h, w)`` at the network's own stride; whoever needs the image's size
            upsamples.
        features: Named feature maps ``(N, D, h', w')`` for feature distillers. ``"head"`` is the map
            before the classifier, ``"backbone"`` the last one of the backbone.
        aux: Scores ``(N, C, h'', w'')`` of training-only heads, main head excluded. Empty in ``eval`` mode.
    """

    logits: Tensor
    features: dict[str, Tensor] = field(default_factory=dict)
    aux: tuple[Tensor, ...] = ()

    @classmethod
    def of(cls, result: Any) -> "SegmentationOutput":
        """Read what a network of any family returns.

        Args:
            result: A :class:`SegmentationOutput`, the logits themselves, a mapping with ``"out"`` and perhaps
                ``"aux"`` (torchvision), or an object with ``.logits`` (transformers).

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
        raise TypeError(
            f"a segmentation network returned {type(result).__name__}; expected logits (N, C, h, w), "
            "a mapping with 'out', or an object with .logits"
        )

    def split(self, sizes: list[int]) -> list["SegmentationOutput"]:
        """Take a joint batch apart again: the outputs of its consecutive parts of these sizes."""
        logits = self.logits.split(sizes)
        features = {name: value.split(sizes) for name, value in self.features.items()}
        aux = [value.split(sizes) for value in self.aux]
        return [
            SegmentationOutput(logits[i], {n: v[i] for n, v in features.items()}, tuple(a[i] for a in aux))
            for i in range(len(sizes))
        ]


def resize_logits(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits ``(N, C, h, w)`` at ``size`` in float32, bilinear with aligned corners as these models are trained."""
    logits = logits.float()
    if tuple(logits.shape[-2:]) == tuple(size):
        return logits
    return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=True)

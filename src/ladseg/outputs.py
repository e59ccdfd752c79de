"""What every segmentation network returns, and every loss, distiller and evaluator reads."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class SegmentationOutput:
    """The outputs of one forward pass, by name.

    Attributes:
        logits: Class scores ``(N, C, h, w)`` at the network's own stride; whoever needs the image's size
            upsamples, by :func:`ladseg.resize.resize_logits` with ``align_corners``.
        features: Named feature maps ``(N, D, h', w')`` for feature distillers. ``"head"`` is the map
            before the classifier, ``"backbone"`` the last one of the backbone or what a recipe's ``features`` names.
        aux: Scores ``(N, C, h'', w'')`` of training-only heads, main head excluded. Empty in ``eval`` mode, unless a
            distiller asks a teacher for them.
        boundary: Scores ``(N, 1 or 2, h', w')`` of a training-only head that tells class boundaries; None without one.
        align_corners: How ``logits`` and ``boundary`` are upsampled: whether the centres of the corner positions of the
            map and of the image coincide, as ``torch.nn.functional.interpolate`` defines it.
        aux_align_corners: The same for ``aux``.
    """

    logits: Tensor
    features: dict[str, Tensor] = field(default_factory=dict)
    aux: tuple[Tensor, ...] = ()
    boundary: Tensor | None = None
    align_corners: bool = True
    aux_align_corners: bool = True

    @classmethod
    def of(cls, result: Any) -> "SegmentationOutput":
        """Read what a network of any family returns.

        Args:
            result: A :class:`SegmentationOutput`, the logits themselves, a mapping with ``"out"`` and perhaps
                ``"aux"`` (torchvision), an object with ``.logits`` (transformers), or a tuple or list of tensors whose
                first is the main head's logits. Others of as many channels are those of training-only heads.

        Raises:
            TypeError: None of these.
        """
        if isinstance(result, cls):
            return result
        if isinstance(result, Tensor):
            return cls(result)
        if isinstance(result, Mapping) and "out" in result:
            return cls(result["out"], aux=_of_equal_channels(result["out"], [result.get("aux")]))
        if isinstance(getattr(result, "logits", None), Tensor):
            return cls(result.logits)
        if isinstance(result, tuple | list) and result and all(isinstance(part, Tensor) for part in result):
            return cls(result[0], aux=_of_equal_channels(result[0], result[1:]))
        raise TypeError(
            f"a segmentation network returned {type(result).__name__}; expected logits (N, C, h, w), "
            "a mapping with 'out', an object with .logits, or a tuple with the main logits first"
        )

    def map(self, change: Callable[[Tensor], Tensor]) -> "SegmentationOutput":
        """Return a copy with every tensor changed."""
        return replace(
            self,
            logits=change(self.logits),
            features={name: change(value) for name, value in self.features.items()},
            aux=tuple(change(value) for value in self.aux),
            boundary=None if self.boundary is None else change(self.boundary),
        )

    def split(self, sizes: list[int]) -> list["SegmentationOutput"]:
        """Take a joint batch apart again: the outputs of its consecutive parts of these sizes."""
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        return [
            self.map(lambda value, a=start, b=start + size: value[a:b])  # type: ignore[misc]
            for start, size in zip(starts, sizes, strict=True)
        ]


def _of_equal_channels(logits: Tensor, others: Sequence[Any]) -> tuple[Tensor, ...]:
    """Those that can be class scores, as the logits are."""
    return tuple(x for x in others if isinstance(x, Tensor) and x.ndim == 4 and x.shape[1] == logits.shape[1])

"""The output of every segmentation network, which losses, distillers and evaluation read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class SegmentationOutput:
    """The outputs of one forward pass, by name.

    Attributes:
        logits: Class scores ``(N, C, h, w)`` at the network's own stride; :func:`ladseg.resize.resize_logits` upsamples
            them to the image's size.
        features: Feature maps ``(N, D, h', w')`` by name, for feature distillers. ``"head"`` is the map before the
            classifier; ``"backbone"`` is the backbone's last map, or the map that a recipe's ``features`` names.
        aux: Logits ``(N, C, h'', w'')`` of training-only heads. Empty in ``eval`` mode, unless a distiller needs those
            of a teacher.
        boundary: Logits ``(N, 1 or 2, h', w')`` of a training-only head for class boundaries; None without one.
        align_corners: How ``logits`` and ``boundary`` are upsampled: whether the centres of the corner positions of
            map and image coincide, as ``torch.nn.functional.interpolate`` defines it.
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
        """Convert the output of any library's segmentation network.

        Args:
            result: A :class:`SegmentationOutput`, the logits themselves, a mapping with ``"out"`` and optionally
                ``"aux"`` (torchvision), an object with ``.logits`` (transformers), or a tuple or list of tensors whose
                first is the main head's logits; others with as many channels are taken as training-only heads' logits.

        Raises:
            TypeError: The result is none of these.
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
        """Return a copy with ``change`` applied to every tensor."""
        return replace(
            self,
            logits=change(self.logits),
            features={name: change(value) for name, value in self.features.items()},
            aux=tuple(change(value) for value in self.aux),
            boundary=None if self.boundary is None else change(self.boundary),
        )

    def split(self, sizes: list[int]) -> list["SegmentationOutput"]:
        """Split the output of a joint batch into those of its consecutive parts of these sizes."""
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        return [
            self.map(lambda value, a=start, b=start + size: value[a:b])  # type: ignore[misc]
            for start, size in zip(starts, sizes, strict=True)
        ]


def _of_equal_channels(logits: Tensor, others: Sequence[Any]) -> tuple[Tensor, ...]:
    """Return the tensors with as many channels as the logits."""
    return tuple(x for x in others if isinstance(x, Tensor) and x.ndim == 4 and x.shape[1] == logits.shape[1])

"""Bring the outputs of two networks to one size and width."""

import math

from torch import Tensor, nn

from ladseg.errors import ModelError
from ladseg.outputs import SegmentationOutput
from ladseg.resize import resize_logits


def match_logits(student_logits: Tensor, teacher_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float32, the larger map resized to the smaller's size.

    Raises:
        ValueError: Batch or class counts differ.
    """
    if student_logits.shape[:2] != teacher_logits.shape[:2]:
        raise ValueError(
            f"student logits are {tuple(student_logits.shape)}, teacher logits {tuple(teacher_logits.shape)}: "
            "images and classes must be the same"
        )
    return match_sizes(student_logits, teacher_logits)


def match_sizes(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Maps ``(N, C, h, w)`` and ``(N, C', h', w')`` in float32, the larger one resized to the smaller's size."""
    height, width = min(student.shape[-2:], teacher.shape[-2:], key=math.prod)
    return resize_logits(student, (height, width)), resize_logits(teacher, (height, width))


def both_aux(student: SegmentationOutput, teacher: SegmentationOutput) -> list[tuple[Tensor, Tensor]]:
    """The class scores of the networks' auxiliary heads in pairs; none where they don't have as many."""
    if len(student.aux) != len(teacher.aux):
        return []
    return list(zip(student.aux, teacher.aux, strict=True))


def feature_of(output: SegmentationOutput, layer: str) -> Tensor:
    """The feature map of that name.

    Raises:
        ModelError: The network gives none.
    """
    if layer not in output.features:
        known = ", ".join(output.features) or "none"
        raise ModelError(
            f"distill.layer '{layer}': the network gives no such feature map (it gives {known}); "
            "name a module of it with student.features or teacher.features"
        )
    return output.features[layer]


class Projector(nn.Module):
    """1x1 convolution from the student's width to the teacher's; it is trained, and dropped at the end.

    Args:
        student_width: Channels of the student's map.
        teacher_width: Channels of the teacher's; where both are the same the map is left as it is, unless ``always``.
        always: Whether to learn a map even between equal widths.
    """

    def __init__(self, student_width: int, teacher_width: int, always: bool = False) -> None:
        super().__init__()
        equal = student_width == teacher_width and not always
        self.map = nn.Identity() if equal else nn.Conv2d(student_width, teacher_width, 1)

    def forward(self, student: Tensor) -> Tensor:
        result: Tensor = self.map(student)
        return result

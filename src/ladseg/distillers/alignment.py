"""Match the outputs of two networks in size and width."""

import math

from torch import Tensor, nn

from ladseg.errors import ModelError
from ladseg.outputs import SegmentationOutput
from ladseg.resize import resize_logits


def align_logits(student_logits: Tensor, teacher_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return both logits in float32, with the larger map resized to the smaller.

    Raises:
        ValueError: The numbers of images or classes differ.
    """
    if student_logits.shape[:2] != teacher_logits.shape[:2]:
        raise ValueError(
            f"student logits are {tuple(student_logits.shape)}, teacher logits {tuple(teacher_logits.shape)}: "
            "images and classes must be the same"
        )
    return align_sizes(student_logits, teacher_logits)


def align_sizes(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Return maps ``(N, C, h, w)`` and ``(N, C', h', w')`` in float32, with the larger resized to the smaller."""
    height, width = min(student.shape[-2:], teacher.shape[-2:], key=math.prod)
    return resize_logits(student, (height, width)), resize_logits(teacher, (height, width))


def auxiliary_pairs(student: SegmentationOutput, teacher: SegmentationOutput) -> list[tuple[Tensor, Tensor]]:
    """Pair the auxiliary logits of the two networks; return no pair if their numbers of auxiliary heads differ."""
    if len(student.aux) != len(teacher.aux):
        return []
    return list(zip(student.aux, teacher.aux, strict=True))


class MissingFeatureMap(ModelError):
    """A method reads a feature map that a network does not give.

    Attributes:
        role: Which network lacks it, ``"student"`` or ``"teacher"``.
        has_backbone: Whether it gives the backbone's map.
    """

    def __init__(self, output: SegmentationOutput, layer: str, role: str) -> None:
        self.role, self.has_backbone = role, "backbone" in output.features
        known = ", ".join(output.features) or "none"
        way_out = "set distill.layer: backbone"
        if not self.has_backbone:
            way_out += f", and name the module that makes the map in {role}.features"
        super().__init__(f"distill.layer '{layer}': the {role} gives no such feature map (it gives {known}); {way_out}")


def feature_map(output: SegmentationOutput, layer: str, role: str = "student") -> Tensor:
    """Return a network's feature map, ``(N, D, h, w)``.

    Args:
        output: Output of either network.
        layer: ``"head"`` or ``"backbone"``.
        role: The network's name in the error message, ``"student"`` or ``"teacher"``.

    Raises:
        MissingFeatureMap: The network gives no such map.
    """
    if layer not in output.features:
        raise MissingFeatureMap(output, layer, role)
    return output.features[layer]


class Projector(nn.Module):
    """Map the student's width to the teacher's by a trained 1x1 convolution, which is dropped after training.

    Args:
        student_width: Channels of the student's map.
        teacher_width: Channels of the teacher's map; if it equals the student's, the map passes unchanged.
        always: Whether to use a convolution even between equal widths.
        bias: Whether the convolution has a bias.
    """

    def __init__(self, student_width: int, teacher_width: int, always: bool = False, bias: bool = True) -> None:
        super().__init__()
        equal = student_width == teacher_width and not always
        self.map = nn.Identity() if equal else nn.Conv2d(student_width, teacher_width, 1, bias=bias)

    def forward(self, student: Tensor) -> Tensor:
        result: Tensor = self.map(student)
        return result

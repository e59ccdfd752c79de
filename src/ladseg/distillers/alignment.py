"""Bring the outputs of two networks to one size and width."""

import math

from torch import Tensor, nn

from ladseg.errors import ModelError
from ladseg.outputs import SegmentationOutput
from ladseg.resize import resize_logits


def align_logits(student_logits: Tensor, teacher_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return both in float32, the larger map resized to the size of the smaller.

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
    """Return maps ``(N, C, h, w)`` and ``(N, C', h', w')`` in float32, the larger resized to the smaller's size."""
    height, width = min(student.shape[-2:], teacher.shape[-2:], key=math.prod)
    return resize_logits(student, (height, width)), resize_logits(teacher, (height, width))


def auxiliary_pairs(student: SegmentationOutput, teacher: SegmentationOutput) -> list[tuple[Tensor, Tensor]]:
    """Pair the auxiliary logits of the two networks; none where one network has more auxiliary heads."""
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
    """Return the feature map of that name, ``(N, D, h, w)``.

    Args:
        output: Of either network.
        layer: ``"head"`` or ``"backbone"``.
        role: How a message calls the network: ``"student"`` or ``"teacher"``.

    Raises:
        MissingFeatureMap: The network gives no such map.
    """
    if layer not in output.features:
        raise MissingFeatureMap(output, layer, role)
    return output.features[layer]


class Projector(nn.Module):
    """1x1 convolution from the student's width to the teacher's; it is trained, and dropped at the end.

    Args:
        student_width: Channels of the student's map.
        teacher_width: Channels of the teacher's; where both are the same the map is left as it is, unless ``always``.
        always: Whether to learn a map even between equal widths.
        bias: Whether the convolution has a bias.
    """

    def __init__(self, student_width: int, teacher_width: int, always: bool = False, bias: bool = True) -> None:
        super().__init__()
        equal = student_width == teacher_width and not always
        self.map = nn.Identity() if equal else nn.Conv2d(student_width, teacher_width, 1, bias=bias)

    def forward(self, student: Tensor) -> Tensor:
        result: Tensor = self.map(student)
        return result

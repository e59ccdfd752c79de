"""Bring the logits of two networks to one size."""

from torch import Tensor

from ladseg.outputs import resize_logits


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
    size = min(student_logits.shape[-2:], teacher_logits.shape[-2:], key=lambda s: s[0] * s[1])
    height, width = size
    return resize_logits(student_logits, (height, width)), resize_logits(teacher_logits, (height, width))

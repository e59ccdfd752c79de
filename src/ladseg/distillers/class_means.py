"""Which positions of a feature map belong to which class."""

import torch
import torch.nn.functional as F
from torch import Tensor


def resize_label(label: Tensor, size: tuple[int, int], classes: int) -> Tensor:
    """Labels ``(N, H, W)`` at the positions of a map of ``size``, ``(N, P)`` int64, by nearest position.

    What is no class becomes ``classes``, a class that nobody asks for.
    """
    small = F.interpolate(label[:, None].float(), size, mode="nearest").long().flatten(1)
    return torch.where((small >= 0) & (small < classes), small, classes)


def class_means(feature: Tensor, label: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Mean feature of each class in each image.

    Args:
        feature: ``(N, C, P)``.
        label: ``(N, P)`` from :func:`resize_label`.
        classes: K.

    Returns:
        ``(N, C, K + 1)`` means, zero where an image has nothing of the class, and ``(N, K + 1)`` counts.
    """
    members = F.one_hot(label, classes + 1).to(feature.dtype)  # (N, P, K + 1)
    counts = members.sum(1)
    return feature @ members / counts[:, None].clamp_min(1.0), counts

"""The class of each position of a feature map, and the mean feature of each class."""

import torch
import torch.nn.functional as F
from torch import Tensor


def resize_label(label: Tensor, size: tuple[int, int], classes: int) -> Tensor:
    """Resize labels to a feature map by nearest neighbour.

    Args:
        label: ``(N, H, W)`` int64.
        size: Height and width of the map.
        classes: K.

    Returns:
        ``(N, P)`` int64 in 0..K; K stands for ids outside the classes.
    """
    small = F.interpolate(label[:, None].float(), size, mode="nearest").long().flatten(1)
    return torch.where((small >= 0) & (small < classes), small, classes)


def class_means(feature: Tensor, label: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return the mean feature of each class in each image.

    Args:
        feature: ``(N, C, P)``.
        label: ``(N, P)`` from :func:`resize_label`.
        classes: K.

    Returns:
        Means ``(N, C, K + 1)``, zero where a class does not occur in the image, and counts ``(N, K + 1)``.
    """
    members = F.one_hot(label, classes + 1).to(feature.dtype)  # (N, P, K + 1)
    counts = members.sum(1)
    return feature @ members / counts[:, None].clamp_min(1.0), counts

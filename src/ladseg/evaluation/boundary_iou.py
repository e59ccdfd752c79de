"""Boundary IoU, the accuracy along class boundaries (Cheng et al., "Boundary IoU", CVPR 2021)."""

import numpy as np
import torch
from scipy.ndimage import maximum_filter, minimum_filter  # type: ignore[attr-defined]
from torch import Tensor

from ladseg.evaluation.confusion_matrix import iou_of

# Width of a boundary as a share of the image's diagonal.
SHARE = 0.02


class BoundaryIoU:
    """IoU of the boundary regions of labels and predictions, with counts summed over a data set as for mIoU.

    A pixel belongs to its class's boundary if another id or the image's edge lies within d rows and columns (d erosions
    by a 3x3 square would remove it); d is a share of the image's diagonal, at least 1. Ignored pixels are first removed
    from both label and prediction, so that both have a boundary around them.

    Args:
        num_classes: Number of classes C, up to 255.
        ignore_index: The label of ignored pixels.
        share: d as a share of the diagonal; the authors take 0.02 on COCO and LVIS, and 0.005 on Cityscapes.

    Attributes:
        counts: ``(3, C)`` int64, the boundary pixels that agree, those of the label, and those of the prediction.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255, share: float = SHARE) -> None:
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.share = share
        self.counts = torch.zeros(3, num_classes, dtype=torch.int64)

    def update(self, prediction: Tensor, label: Tensor) -> None:
        """Count one image, given the class ids ``(H, W)`` of prediction and label."""
        height, width = label.shape
        reach = max(1, round(self.share * float(np.hypot(height, width))))
        ignored = (label == self.ignore_index).cpu().numpy()
        maps = [np.where(ignored, 255, ids.cpu().numpy()).astype(np.uint8) for ids in (label, prediction)]
        in_label, in_prediction = (_boundary(ids, reach) & ~ignored for ids in maps)
        agree = in_label & in_prediction & (maps[0] == maps[1])
        for row, (ids, chosen) in enumerate(((maps[0], agree), (maps[0], in_label), (maps[1], in_prediction))):
            self.counts[row] += torch.from_numpy(np.bincount(ids[chosen], minlength=self.num_classes))

    def iou(self) -> Tensor:
        """Return the per-class IoU ``(C,)``, float64 in 0..1; NaN for a class without any boundary."""
        return iou_of(self.counts)

    def mean_iou(self) -> float:
        """Return the mean over the classes that have a boundary; NaN if none has."""
        return float(self.iou().nanmean())


def _boundary(ids: np.ndarray, reach: int) -> np.ndarray:
    """Return bool ``(H, W)``: where another id or the image's edge lies within ``reach`` rows and columns."""
    size = 2 * reach + 1
    near = maximum_filter(ids, size, mode="nearest") != minimum_filter(ids, size, mode="nearest")
    near[:reach] = near[-reach:] = True
    near[:, :reach] = near[:, -reach:] = True
    return near

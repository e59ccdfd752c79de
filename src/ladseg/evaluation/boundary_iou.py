"""Boundary IoU: the accuracy along the borders of classes (Cheng et al., "Boundary IoU", CVPR 2021)."""

import numpy as np
import torch
from scipy.ndimage import maximum_filter, minimum_filter  # type: ignore[attr-defined]
from torch import Tensor

from ladseg.evaluation.confusion_matrix import iou_of

# Width of a boundary as a share of the image's diagonal.
SHARE = 0.02


class BoundaryIoU:
    """IoU of the boundary regions of labels and predictions, counts summed over a data set as for mIoU.

    A pixel belongs to its class's boundary if there is another id, or the image's edge, within d rows and columns (what
    d erosions by a 3x3 square would take away), d being a share of the image's diagonal and at least 1. Pixels whose
    label is ``ignore_index`` are taken out of label and prediction alike before, so their rim is a boundary of both.

    Args:
        num_classes: Number of classes C, up to 255.
        ignore_index: The label of pixels that don't count.
        share: d as a share of the diagonal: 0.02 on COCO and LVIS, 0.005 on Cityscapes, as the authors have it.

    Attributes:
        counts: ``(3, C)`` int64: boundary pixels of both that agree, of the label, of the prediction.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255, share: float = SHARE) -> None:
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.share = share
        self.counts = torch.zeros(3, num_classes, dtype=torch.int64)

    def update(self, prediction: Tensor, label: Tensor) -> None:
        """Count one image: class ids ``(H, W)`` of both."""
        height, width = label.shape
        reach = max(1, round(self.share * float(np.hypot(height, width))))
        ignored = (label == self.ignore_index).cpu().numpy()
        maps = [np.where(ignored, 255, ids.cpu().numpy()).astype(np.uint8) for ids in (label, prediction)]
        in_label, in_prediction = (_boundary(ids, reach) & ~ignored for ids in maps)
        agree = in_label & in_prediction & (maps[0] == maps[1])
        for row, (ids, chosen) in enumerate(((maps[0], agree), (maps[0], in_label), (maps[1], in_prediction))):
            self.counts[row] += torch.from_numpy(np.bincount(ids[chosen], minlength=self.num_classes))

    def iou(self) -> Tensor:
        """``(C,)`` float64 in 0..1; NaN for a class without a boundary in labels and predictions."""
        return iou_of(self.counts)

    def mean_iou(self) -> float:
        """Mean over the classes that have one; NaN if none does."""
        return float(self.iou().nanmean())


def _boundary(ids: np.ndarray, reach: int) -> np.ndarray:
    """Return where another id, or the image's edge, is within ``reach`` rows and columns: bool ``(H, W)``."""
    size = 2 * reach + 1
    near = maximum_filter(ids, size, mode="nearest") != minimum_filter(ids, size, mode="nearest")
    near[:reach] = near[-reach:] = True
    near[:, :reach] = near[:, -reach:] = True
    return near

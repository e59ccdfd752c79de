"""A confusion matrix over a whole data set, and the measures computed from it.

mIoU is the mean over classes of TP / (TP + FP + FN) with counts summed over all images. Pixels whose label is
``ignore_index`` are left out, and so is a class that occurs in neither labels nor predictions. It is not the mean of
per-image values, which several libraries compute under the same name.
"""

import torch
import torch.distributed as dist
from torch import Tensor


class ConfusionMatrix:
    """Counts of (label, prediction) pairs, in memory that does not grow with the data.

    Args:
        num_classes: Number of classes C.
        ignore_index: The label of ignored pixels.

    Attributes:
        counts: ``(C, C)`` int64 on CPU; row = label, column = prediction.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.counts = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, prediction: Tensor, label: Tensor) -> None:
        """Count a batch of class ids; both tensors have the same shape and any integer type.

        Raises:
            ValueError: Shapes differ, or an id is outside 0..C-1 (labels may be ``ignore_index``).
        """
        if prediction.shape != label.shape:
            raise ValueError(f"prediction is {tuple(prediction.shape)}, label {tuple(label.shape)}")
        valid = label != self.ignore_index
        label, prediction = label[valid].long(), prediction[valid].long()
        for name, ids in (("label", label), ("prediction", prediction)):
            if ids.numel() and not (int(ids.min()) >= 0 and int(ids.max()) < self.num_classes):
                raise ValueError(
                    f"{name} has ids {int(ids.min())}..{int(ids.max())} but there are {self.num_classes} classes"
                )
        pairs = torch.bincount(label * self.num_classes + prediction, minlength=self.num_classes**2)
        self.counts += pairs.view(self.num_classes, self.num_classes).cpu()

    def merge(self, other: "ConfusionMatrix") -> "ConfusionMatrix":
        """Add another matrix's counts to this one's, and return this one."""
        if other.num_classes != self.num_classes:
            raise ValueError(f"cannot merge {other.num_classes} classes into {self.num_classes}")
        self.counts += other.counts
        return self

    def merge_processes(self, device: torch.device | str = "cpu") -> "ConfusionMatrix":
        """Sum the matrices of all processes on each of them; they exchange tensors on ``device``."""
        if dist.is_available() and dist.is_initialized():
            counts = self.counts.to(device)
            dist.all_reduce(counts)
            self.counts = counts.cpu()
        return self

    def class_counts(self) -> Tensor:
        """Return ``(3, C)`` int64: each class's correct pixels, those of the label, and those predicted."""
        return torch.stack([self.counts.diagonal(), self.counts.sum(1), self.counts.sum(0)])

    def iou(self) -> Tensor:
        """Return the per-class IoU ``(C,)``, float64 in 0..1; NaN for a class in neither labels nor predictions."""
        return iou_of(self.class_counts())

    def mean_iou(self) -> float:
        """Return the mean IoU over the classes that occur, in 0..1; NaN if none does."""
        return float(self.iou().nanmean())

    def constant_mean_iou(self) -> float:
        """Return the mIoU of predicting the most frequent class everywhere, in 0..1; NaN if no pixel was counted.

        The IoU of this class is its share of the pixels, and that of every other labelled class is 0.
        """
        labelled = self.counts.sum(1)
        return float(labelled.max().double() / labelled.sum() / (labelled > 0).sum())

    def pixel_accuracy(self) -> float:
        """Return the share of counted pixels that are correct, in 0..1; NaN if none was counted."""
        return float(self.counts.diagonal().sum().double() / self.counts.sum())


def iou_of(class_counts: Tensor) -> Tensor:
    """Return the IoU ``(..., C)``, float64, of counts ``(..., 3, C)`` as in :meth:`ConfusionMatrix.class_counts`."""
    right, labelled, predicted = class_counts.unbind(-2)
    return right.double() / (labelled + predicted - right)  # 0 / 0 is NaN

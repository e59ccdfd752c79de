"""Intra-class feature variation: Wang et al., "Intra-class Feature Variation Distillation for Semantic Segmentation",
ECCV 2020, with KD and an adversary beside it."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ladseg.distillation_methods import default_weights
from ladseg.distillers.adversary import Adversarial
from ladseg.distillers.alignment import align_sizes, feature_map
from ladseg.distillers.class_means import class_means, resize_label
from ladseg.distillers.distiller import Combined, Distiller
from ladseg.distillers.kd import KD
from ladseg.outputs import SegmentationOutput


def ifv_loss(student: Tensor, teacher: Tensor, label: Tensor, classes: int) -> Tensor:
    """Mean squared difference of how alike each position's feature is to its class's centre (Eq. 3 and 4).

    The likeness is the cosine to the mean feature of the position's class in its image; 1 where the label is ignored.

    Args:
        student: ``(N, C, h, w)``.
        teacher: ``(N, C', h', w')``; the larger map is resized to the smaller.
        label: ``(N, H, W)`` int64, resized to the maps by nearest position; ids outside the classes are ignored.
        classes: Number of classes.
    """
    student, teacher = align_sizes(student, teacher)
    small = resize_label(label, (student.shape[2], student.shape[3]), classes)
    return F.mse_loss(_variation(student, small, classes), _variation(teacher, small, classes))


def _variation(feature: Tensor, label: Tensor, classes: int) -> Tensor:
    """``(N, P)`` cosines of features ``(N, C, h, w)`` to the centres of their classes, by labels ``(N, P)``."""
    flat = feature.flatten(2)  # (N, C, P)
    centres, _ = class_means(flat, label, classes)
    own = centres.gather(2, label[:, None].expand(-1, flat.shape[1], -1))
    return torch.where(label < classes, F.cosine_similarity(flat, own, dim=1), torch.ones_like(label, dtype=flat.dtype))


class Variation(Distiller):
    """:func:`ifv_loss` of one feature map, with weight 20.

    Args:
        classes: Number of classes.
        layer: Which map; ``head`` is the one before the classifier.
    """

    def __init__(self, classes: int, layer: str = "head") -> None:
        super().__init__(default_weights("ifvd"))
        self.classes, self.layer = classes, layer

    def forward(self, student: SegmentationOutput, teacher: SegmentationOutput, label: Tensor) -> dict[str, Tensor]:
        maps = feature_map(student, self.layer), feature_map(teacher, self.layer)
        return {"ifvd": ifv_loss(*maps, label, self.classes)}


class IFVD(Combined):
    """Feature variation, KD at temperature 1 and the adversary.

    Args:
        classes: Number of classes.
        layer: As for :class:`Variation`.
    """

    def __init__(self, classes: int, layer: str = "head") -> None:
        super().__init__([Variation(classes, layer), KD(), Adversarial(classes)])

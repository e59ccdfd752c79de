"""Intra-class feature variation distillation, with KD and an adversarial term.

Source: Wang et al., "Intra-class Feature Variation Distillation for Semantic Segmentation", ECCV 2020.
"""

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
    """Return the mean squared difference of the two networks' intra-class variation maps (Eq. 3 and 4).

    The map holds the cosine similarity of each position's feature to the mean feature of its class in the image, and 1
    where the label is ignored.

    Args:
        student: Feature map ``(N, C, h, w)``.
        teacher: Feature map ``(N, C', h', w')``; the larger map is resized to the smaller.
        label: ``(N, H, W)`` int64, resized to the maps by nearest neighbour; ids outside the classes are ignored.
        classes: Number of classes.

    Returns:
        A float32 scalar.
    """
    student, teacher = align_sizes(student, teacher)
    small = resize_label(label, (student.shape[2], student.shape[3]), classes)
    return F.mse_loss(_variation(student, small, classes), _variation(teacher, small, classes))


def _variation(feature: Tensor, label: Tensor, classes: int) -> Tensor:
    """Return the cosines ``(N, P)`` of features ``(N, C, h, w)`` to the means of their classes in ``label`` (N, P)."""
    flat = feature.flatten(2)  # (N, C, P)
    centres, _ = class_means(flat, label, classes)
    own = centres.gather(2, label[:, None].expand(-1, flat.shape[1], -1))
    return torch.where(label < classes, F.cosine_similarity(flat, own, dim=1), torch.ones_like(label, dtype=flat.dtype))


class Variation(Distiller):
    """Apply :func:`ifv_loss` to one feature map, with weight 20.

    Args:
        classes: Number of classes.
        layer: The feature map to read: ``head``, before the classifier, or ``backbone``.
    """

    def __init__(self, classes: int, layer: str = "head") -> None:
        super().__init__(default_weights("ifvd"))
        self.classes, self.layer = classes, layer

    def forward(self, student: SegmentationOutput, teacher: SegmentationOutput, label: Tensor) -> dict[str, Tensor]:
        maps = feature_map(student, self.layer), feature_map(teacher, self.layer)
        return {"ifvd": ifv_loss(*maps, label, self.classes)}


class IFVD(Combined):
    """Combine intra-class feature variation, KD at temperature 1 and the adversarial term.

    Args:
        classes: Number of classes.
        layer: As for :class:`Variation`.
    """

    def __init__(self, classes: int, layer: str = "head") -> None:
        super().__init__([Variation(classes, layer), KD(), Adversarial(classes)])

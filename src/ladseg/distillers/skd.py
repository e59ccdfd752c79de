"""Structured knowledge distillation: pair-wise similarity, KD and an adversarial term.

Source: Liu et al., "Structured Knowledge Distillation for Dense Prediction", TPAMI 2020.
"""

import torch.nn.functional as F
from torch import Tensor

from ladseg.distillation_methods import default_weights
from ladseg.distillers.adversary import Adversarial
from ladseg.distillers.alignment import align_sizes, feature_map
from ladseg.distillers.distiller import Combined, Distiller
from ladseg.distillers.kd import KD
from ladseg.outputs import SegmentationOutput


def pairwise_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference of the two networks' similarities of all pairs of positions (Eq. 2).

    The maps are max-pooled 2x2. The similarity of two positions is the cosine of their features, so the networks'
    widths may differ.

    Args:
        student: Feature map ``(N, C, h, w)``.
        teacher: Feature map ``(N, C', h', w')``; the larger map is resized to the smaller.

    Returns:
        A float32 scalar.
    """
    student, teacher = align_sizes(student, teacher)
    return F.mse_loss(_similarities(student), _similarities(teacher))


def _similarities(feature: Tensor) -> Tensor:
    pooled = F.normalize(F.max_pool2d(feature, 2, ceil_mode=True).flatten(2), dim=1)
    return pooled.transpose(1, 2) @ pooled


class Pairwise(Distiller):
    """Apply :func:`pairwise_loss` to one feature map, with weight 10.

    Args:
        layer: The feature map to read: ``head``, before the classifier, or ``backbone``.
    """

    def __init__(self, layer: str = "head") -> None:
        super().__init__(default_weights("skd"))
        self.layer = layer

    def forward(self, student: SegmentationOutput, teacher: SegmentationOutput, label: Tensor) -> dict[str, Tensor]:
        return {"skd": pairwise_loss(feature_map(student, self.layer), feature_map(teacher, self.layer))}


class SKD(Combined):
    """Combine pair-wise similarity, KD at temperature 1 and the adversarial term.

    Args:
        classes: Number of classes.
        layer: As for :class:`Pairwise`.
    """

    def __init__(self, classes: int, layer: str = "head") -> None:
        super().__init__([Pairwise(layer), KD(), Adversarial(classes)])

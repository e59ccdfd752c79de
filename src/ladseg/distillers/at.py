"""Attention transfer: Zagoruyko and Komodakis, "Paying More Attention to Attention", ICLR 2017, Eq. 2."""

import torch.nn.functional as F
from torch import Tensor

from ladseg.distillation_methods import default_weights
from ladseg.distillers.alignment import align_sizes, feature_map
from ladseg.distillers.distiller import Distiller
from ladseg.distillers.kd import kd_loss
from ladseg.outputs import SegmentationOutput


def at_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the two attention maps: mean of squares over channels, flattened, of length one.

    Args:
        student: ``(N, C, h, w)``.
        teacher: ``(N, C', h', w')``, of any width; the larger map is resized to the smaller.
    """
    student, teacher = align_sizes(student, teacher)
    return F.mse_loss(attention(student), attention(teacher))


def attention(feature: Tensor) -> Tensor:
    """``(N, P)``: the mean of squares over channels at each position, of length one over an image."""
    return F.normalize(feature.square().mean(1).flatten(1), dim=1)


class AT(Distiller):
    """:func:`at_loss` with weight 10,000, and KD at temperature 1 with weight 1, as the comparisons used it.

    Args:
        layer: Which feature map; ``head`` is the one before the classifier.
    """

    def __init__(self, layer: str = "head") -> None:
        super().__init__(default_weights("at", "kd"))
        self.layer = layer

    def forward(self, student: SegmentationOutput, teacher: SegmentationOutput, label: Tensor) -> dict[str, Tensor]:
        distance = at_loss(feature_map(student, self.layer), feature_map(teacher, self.layer))
        return {"at": distance, "kd": kd_loss(student.logits, teacher.logits)}

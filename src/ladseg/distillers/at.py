"""Attention transfer.

Source: Zagoruyko and Komodakis, "Paying More Attention to Attention", ICLR 2017, Eq. 2.
"""

import torch.nn.functional as F
from torch import Tensor

from ladseg.distillation_methods import default_weights
from ladseg.distillers.alignment import align_sizes, feature_map
from ladseg.distillers.distiller import Distiller
from ladseg.distillers.kd import kd_loss
from ladseg.outputs import SegmentationOutput


def at_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference of the two attention maps.

    Args:
        student: Feature map ``(N, C, h, w)``.
        teacher: Feature map ``(N, C', h', w')`` of any width; the larger map is resized to the smaller.

    Returns:
        A float32 scalar.
    """
    student, teacher = align_sizes(student, teacher)
    return F.mse_loss(attention(student), attention(teacher))


def attention(feature: Tensor) -> Tensor:
    """Return the attention map ``(N, P)``: mean squares over channels, scaled to Euclidean norm 1 for each image."""
    return F.normalize(feature.square().mean(1).flatten(1), dim=1)


class AT(Distiller):
    """Combine :func:`at_loss` with weight 10,000 and KD at temperature 1 with weight 1, as in CIRKD's comparison.

    Args:
        layer: The feature map to read: ``head``, before the classifier, or ``backbone``.
    """

    def __init__(self, layer: str = "head") -> None:
        super().__init__(default_weights("at", "kd"))
        self.layer = layer

    def forward(self, student: SegmentationOutput, teacher: SegmentationOutput, label: Tensor) -> dict[str, Tensor]:
        distance = at_loss(feature_map(student, self.layer), feature_map(teacher, self.layer))
        return {"at": distance, "kd": kd_loss(student.logits, teacher.logits)}

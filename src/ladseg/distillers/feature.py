"""Plain feature distillation, which compares the student's projected map with the teacher's.

Source: "The Surprising Effectiveness of Canonical KD for Semantic Segmentation", arXiv 2604.25530. With KD and another
weight it is FitNets as in CIRKD's comparison: Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015.
"""

import torch.nn.functional as F
from torch import Tensor

from ladseg.distillation_methods import default_weights
from ladseg.distillers.alignment import Projector, align_sizes, feature_map
from ladseg.distillers.distiller import Combined, Distiller
from ladseg.distillers.kd import KD
from ladseg.outputs import SegmentationOutput


def feature_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference over images, channels and positions.

    Args:
        student: ``(N, C, h, w)``, projected to the teacher's width.
        teacher: ``(N, C, h', w')``; the larger map is resized to the smaller.
    """
    return F.mse_loss(*align_sizes(student, teacher))


class Feature(Distiller):
    """Apply :func:`feature_loss` to one feature map, after a 1x1 projector.

    Args:
        student_width: Channels of the student's map.
        teacher_width: Channels of the teacher's map.
        layer: The feature map to read: ``head``, before the classifier, or ``backbone``.
    """

    term, bias = "feature", True

    def __init__(self, student_width: int, teacher_width: int, layer: str = "head") -> None:
        super().__init__(default_weights(self.term))
        self.projector = Projector(student_width, teacher_width, always=True, bias=self.bias)
        self.layer = layer

    def forward(self, student: SegmentationOutput, teacher: SegmentationOutput, label: Tensor) -> dict[str, Tensor]:
        projected = self.projector(feature_map(student, self.layer))
        return {self.term: feature_loss(projected, feature_map(teacher, self.layer))}


class Hint(Feature):
    """The feature term of FitNets: its projector has no bias."""

    term, bias = "fitnet", False


class FitNet(Combined):
    """Combine the feature term with weight 10 and KD at temperature 1 with weight 1, as in CIRKD's comparison.

    Args:
        student_width: As for :class:`Feature`.
        teacher_width: As for :class:`Feature`.
        layer: As for :class:`Feature`.
    """

    def __init__(self, student_width: int, teacher_width: int, layer: str = "head") -> None:
        super().__init__([Hint(student_width, teacher_width, layer), KD()])

"""Plain feature distillation: the student's map, projected, against the teacher's.

With another weight and KD beside it this is FitNets (Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015);
by itself it is the feature distillation of "The Surprising Effectiveness of Canonical KD for Semantic Segmentation",
arXiv 2604.25530.
"""

import torch.nn.functional as F
from torch import Tensor

from ladseg.distillation_methods import default_weights
from ladseg.distillers.alignment import Projector, align_sizes, feature_map
from ladseg.distillers.distiller import Distiller
from ladseg.distillers.kd import kd_loss
from ladseg.outputs import SegmentationOutput


def feature_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference over images, channels and positions.

    Args:
        student: ``(N, C, h, w)``, projected to the teacher's width.
        teacher: ``(N, C, h', w')``; the larger map is resized to the smaller.
    """
    return F.mse_loss(*align_sizes(student, teacher))


class Feature(Distiller):
    """:func:`feature_loss` of one feature map, after a 1x1 projector.

    Args:
        student_width: Channels of the student's map.
        teacher_width: Channels of the teacher's.
        layer: Which map; ``head`` is the one before the classifier.
    """

    def __init__(self, student_width: int, teacher_width: int, layer: str = "head") -> None:
        super().__init__(default_weights("feature"))
        self.projector = Projector(student_width, teacher_width, always=True)
        self.layer = layer

    def forward(self, student: SegmentationOutput, teacher: SegmentationOutput, label: Tensor) -> dict[str, Tensor]:
        return {"feature": self.loss(student, teacher)}

    def loss(self, student: SegmentationOutput, teacher: SegmentationOutput) -> Tensor:
        """The one term."""
        return feature_loss(self.projector(feature_map(student, self.layer)), feature_map(teacher, self.layer))


class FitNet(Feature):
    """FitNets as the comparisons used it: feature weight 10, and KD at temperature 1 with weight 1."""

    def __init__(self, student_width: int, teacher_width: int, layer: str = "head") -> None:
        super().__init__(student_width, teacher_width, layer)
        self.terms = default_weights("fitnet", "kd")

    def forward(self, student: SegmentationOutput, teacher: SegmentationOutput, label: Tensor) -> dict[str, Tensor]:
        return {"fitnet": self.loss(student, teacher), "kd": kd_loss(student.logits, teacher.logits)}

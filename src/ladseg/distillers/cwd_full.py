"""Channel-wise distillation with more beside the logits: what "CWD" is in the field's tables."""

from torch import Tensor

from ladseg.distillers.adversary import WEIGHTS, Adversary
from ladseg.distillers.base import Distiller
from ladseg.distillers.cwd import cwd_loss
from ladseg.distillers.kd import kd_loss
from ladseg.distillers.match import Projector, feature_of
from ladseg.outputs import SegmentationOutput

FEATURES_WEIGHT = 50.0


class CWDFull(Distiller):
    """:func:`cwd_loss` of the logits with weight 3 and of a feature map; and KD and an adversary, if it is to be full.

    Args:
        student_width: Channels of the student's map; where it is not the teacher's, a 1x1 projector goes between.
        teacher_width: Channels of the teacher's.
        features_weight: Weight of the feature part.
        classes: Number of classes, for the adversary; None leaves KD and adversary out.
        tau: Temperature of both CWD terms.
        layer: Which feature map; ``head`` is the one before the classifier.
    """

    def __init__(
        self,
        student_width: int,
        teacher_width: int,
        features_weight: float = FEATURES_WEIGHT,
        classes: int | None = None,
        tau: float = 4.0,
        layer: str = "head",
    ) -> None:
        beside = {} if classes is None else {"kd": 1.0, **WEIGHTS}
        super().__init__({"cwd": 3.0, "cwd_features": features_weight, **beside})
        self.projector = Projector(student_width, teacher_width)
        self.adversary = None if classes is None else Adversary(classes)
        self.tau, self.layer = tau, layer

    def forward(self, student: SegmentationOutput, teacher: SegmentationOutput, label: Tensor) -> dict[str, Tensor]:
        projected = self.projector(feature_of(student, self.layer))
        terms = {
            "cwd": cwd_loss(student.logits, teacher.logits, self.tau),
            "cwd_features": cwd_loss(projected, feature_of(teacher, self.layer), self.tau),
        }
        if self.adversary is None:
            return terms
        return {
            **terms,
            "kd": kd_loss(student.logits, teacher.logits),
            **self.adversary(student.logits, teacher.logits),
        }

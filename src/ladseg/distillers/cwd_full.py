"""Channel-wise distillation with more beside the logits: what "CWD" is in the field's tables."""

from torch import Tensor

from ladseg.distillers.adversary import Adversarial
from ladseg.distillers.base import Distiller
from ladseg.distillers.cwd import CWD, cwd_loss
from ladseg.distillers.kd import KD
from ladseg.distillers.match import Projector, feature_of
from ladseg.distillers.several import Several
from ladseg.outputs import SegmentationOutput

FEATURES_WEIGHT = 50.0


class CWDFeatures(Distiller):
    """:func:`cwd_loss` of a feature map.

    Args:
        student_width: Channels of the student's map; where it is not the teacher's, a 1x1 projector goes between.
        teacher_width: Channels of the teacher's.
        weight: Weight of the term.
        tau: Temperature.
        layer: Which map; ``head`` is the one before the classifier.
    """

    def __init__(
        self,
        student_width: int,
        teacher_width: int,
        weight: float = FEATURES_WEIGHT,
        tau: float = 4.0,
        layer: str = "head",
    ) -> None:
        super().__init__({"cwd_features": weight})
        self.projector = Projector(student_width, teacher_width)
        self.tau, self.layer = tau, layer

    def forward(self, student: SegmentationOutput, teacher: SegmentationOutput, label: Tensor) -> dict[str, Tensor]:
        projected = self.projector(feature_of(student, self.layer))
        return {"cwd_features": cwd_loss(projected, feature_of(teacher, self.layer), self.tau)}


class CWDFull(Several):
    """CWD of the logits with weight 3 and of a feature map; and KD and an adversary, if it is to be full.

    Args:
        features: The feature part.
        classes: Number of classes, for the adversary; None leaves KD and adversary out.
    """

    def __init__(self, features: CWDFeatures, classes: int | None = None) -> None:
        beside = [] if classes is None else [KD(), Adversarial(classes)]
        super().__init__([CWD(features.tau), features, *beside])

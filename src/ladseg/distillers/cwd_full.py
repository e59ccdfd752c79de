"""Channel-wise distillation of features, and with all that the field's comparisons put beside it."""

from torch import Tensor

from ladseg.distillation_methods import default_weights
from ladseg.distillers.adversary import Adversarial
from ladseg.distillers.alignment import Projector, feature_map
from ladseg.distillers.cwd import CWD, cwd_loss
from ladseg.distillers.distiller import Combined, Distiller
from ladseg.distillers.kd import KD
from ladseg.outputs import SegmentationOutput


class CWDFeatures(Distiller):
    """:func:`ladseg.distillers.cwd_loss` of a feature map, divided by the student's width.

    The sum runs over the teacher's channels. CIRKD's comparison, whose "CWD" the field's tables repeat, divides it by
    the number of channels that the student's map has before projection, so that a wider teacher weighs more.

    Args:
        student_width: Channels of the student's map; where it is not the teacher's, a 1x1 projector goes between.
        teacher_width: Channels of the teacher's.
        tau: Temperature.
        layer: Which map; ``head`` is the one before the classifier.
        divide_by: ``student``, or ``teacher`` for the mean over the channels that are summed.
    """

    def __init__(
        self,
        student_width: int,
        teacher_width: int,
        tau: float = 4.0,
        layer: str = "head",
        divide_by: str = "student",
    ) -> None:
        super().__init__(default_weights("cwd_features"))
        self.projector = Projector(student_width, teacher_width, bias=False)
        self.tau, self.layer = tau, layer
        # cwd_loss itself divides by the teacher's width.
        self.factor = teacher_width / student_width if divide_by == "student" else 1.0

    def forward(self, student: SegmentationOutput, teacher: SegmentationOutput, label: Tensor) -> dict[str, Tensor]:
        projected = self.projector(feature_map(student, self.layer))
        return {"cwd_features": self.factor * cwd_loss(projected, feature_map(teacher, self.layer), self.tau)}


class CWDFull(Combined):
    """CWD of the logits and of a feature map, KD at temperature 1 and the adversary.

    Args:
        student_width: As for :class:`CWDFeatures`.
        teacher_width: As for :class:`CWDFeatures`.
        classes: Number of classes.
        tau: Temperature of both CWD terms.
        layer: As for :class:`CWDFeatures`.
        divide_by: As for :class:`CWDFeatures`.
    """

    def __init__(
        self,
        student_width: int,
        teacher_width: int,
        classes: int,
        tau: float = 4.0,
        layer: str = "head",
        divide_by: str = "student",
    ) -> None:
        super().__init__(
            [CWD(tau), CWDFeatures(student_width, teacher_width, tau, layer, divide_by), KD(), Adversarial(classes)]
        )

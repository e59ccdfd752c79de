"""Channel-wise distillation of features, and the combination that the field's tables call CWD."""

from torch import Tensor

from ladseg.distillation_methods import default_weights
from ladseg.distillers.adversary import Adversarial
from ladseg.distillers.alignment import Projector, feature_map
from ladseg.distillers.cwd import CWD, cwd_loss
from ladseg.distillers.distiller import Combined, Distiller
from ladseg.distillers.kd import KD
from ladseg.outputs import SegmentationOutput


class CWDFeatures(Distiller):
    """Apply :func:`ladseg.distillers.cwd_loss` to a feature map, and divide by the student's width.

    The sum runs over the teacher's channels. CIRKD's comparison, whose "CWD" the field's tables repeat, divides it by
    the student's number of channels before projection, so that a wider teacher has a larger loss.

    Args:
        student_width: Channels of the student's map; a 1x1 projector maps it to the teacher's width if they differ.
        teacher_width: Channels of the teacher's map.
        tau: Temperature, above 0.
        layer: The feature map to read: ``head``, before the classifier, or ``backbone``.
        divide_by: Which width to divide by: ``student``, or ``teacher`` for a mean over the summed channels.
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
    """Combine CWD of the logits and of a feature map, KD at temperature 1 and the adversarial term.

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

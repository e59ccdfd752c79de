"""Per-pixel knowledge distillation.

Source: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015.
"""

import torch.nn.functional as F
from torch import Tensor

from ladseg.distillation_methods import default_weights
from ladseg.distillers.alignment import align_logits
from ladseg.distillers.distiller import Distiller
from ladseg.outputs import SegmentationOutput


def kd_loss(student_logits: Tensor, teacher_logits: Tensor, tau: float = 1.0) -> Tensor:
    """Return the KL divergence, teacher to student, between each position's softmax over classes, a mean.

    ``tau^2 * mean_{n,p} KL(softmax(T / tau) || softmax(S / tau))``.

    Args:
        student_logits: ``(N, C, h, w)``.
        teacher_logits: ``(N, C, h', w')``; the larger map is resized to the smaller.
        tau: Temperature, above 0.

    Returns:
        A float32 scalar.
    """
    student, teacher = align_logits(student_logits, teacher_logits)
    positions = student.numel() / student.shape[1]
    log_student = F.log_softmax(student / tau, dim=1)
    log_teacher = F.log_softmax(teacher / tau, dim=1)
    return F.kl_div(log_student, log_teacher, reduction="sum", log_target=True) * (tau**2 / positions)


class KD(Distiller):
    """Apply :func:`kd_loss` to the logits.

    Args:
        tau: Temperature, above 0.
    """

    def __init__(self, tau: float = 1.0) -> None:
        super().__init__(default_weights("kd"))
        self.tau = tau

    def forward(self, student: SegmentationOutput, teacher: SegmentationOutput, label: Tensor) -> dict[str, Tensor]:
        return {"kd": kd_loss(student.logits, teacher.logits, self.tau)}

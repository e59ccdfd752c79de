"""Channel-wise distillation: Shu et al., "Channel-wise Knowledge Distillation for Dense Prediction", ICCV 2021.

LAD uses it on the logits, both to distil (L_kd of Eq. 8) and as the consistency loss D of Eq. 7.
"""

import torch.nn.functional as F
from torch import Tensor

from ladseg.distillers.base import Distiller
from ladseg.distillers.match import match_logits
from ladseg.outputs import SegmentationOutput


def cwd_loss(student_logits: Tensor, teacher_logits: Tensor, tau: float = 4.0) -> Tensor:
    """KL divergence between each channel's softmax over positions, teacher to student.

    ``tau^2 / (N C) * sum_{n,c,p} phi(T) (log phi(T) - log phi(S))`` with ``phi_c(x) = softmax_p(x_c / tau)``. It is 0
    for equal inputs and does not see a constant added to a channel. Gradients flow into both arguments.

    Args:
        student_logits: ``(N, C, h, w)``.
        teacher_logits: ``(N, C, h', w')``; the larger map is resized to the smaller.
        tau: Temperature, above 0.

    Returns:
        A float32 scalar, whatever autocast does: log-softmax in lower precision underflows.
    """
    student, teacher = match_logits(student_logits, teacher_logits)
    images, channels = student.shape[:2]
    log_student = F.log_softmax(student.flatten(2) / tau, dim=-1)
    log_teacher = F.log_softmax(teacher.flatten(2) / tau, dim=-1)
    divergence = F.kl_div(log_student, log_teacher, reduction="sum", log_target=True)
    return divergence * (tau**2 / (images * channels))


class CWD(Distiller):
    """:func:`cwd_loss` of the logits."""

    def __init__(self, tau: float = 4.0) -> None:
        super().__init__({"cwd": 3.0})
        self.tau = tau

    def forward(self, student: SegmentationOutput, teacher: SegmentationOutput, label: Tensor) -> dict[str, Tensor]:
        return {"cwd": cwd_loss(student.logits, teacher.logits, self.tau)}

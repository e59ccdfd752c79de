"""Channel-wise distillation: Shu et al., "Channel-wise Knowledge Distillation for Dense Prediction", ICCV 2021.

LAD applies it to the logits, both for distillation (L_kd of Eq. 8) and as the consistency loss D of Eq. 7.
"""

from torch import Tensor

from ladseg.distillation_methods import default_weights
from ladseg.distillers.alignment import align_logits
from ladseg.distillers.distiller import Distiller
from ladseg.outputs import SegmentationOutput


def cwd_loss(student_logits: Tensor, teacher_logits: Tensor, tau: float = 4.0) -> Tensor:
    """Return the KL divergence, teacher to student, between each channel's softmax over positions.

    ``tau^2 / (N C) * sum_{n,c,p} phi(T) (log phi(T) - log phi(S))`` with ``phi_c(x) = softmax_p(x_c / tau)``. It is 0
    for equal inputs and does not change when a constant is added to a channel. Gradients flow into both arguments.

    Args:
        student_logits: ``(N, C, h, w)``.
        teacher_logits: ``(N, C, h', w')``; the larger map is resized to the smaller.
        tau: Temperature, above 0.

    Returns:
        A scalar in float32, or in float64 if both inputs are. Log-softmax in lower precision would underflow.

    Raises:
        ValueError: Batch or class counts differ.

    Source:
        Shu et al., ICCV 2021, Eq. 3 to 5.
    """
    student, teacher = align_logits(student_logits, teacher_logits)
    log_s = (student.flatten(2) / tau).log_softmax(-1)
    log_t = (teacher.flatten(2) / tau).log_softmax(-1)
    divergence = (log_t.exp() * (log_t - log_s)).sum(-1)  # (N, C)
    return tau**2 * divergence.mean()


class CWD(Distiller):
    """Apply :func:`cwd_loss` to the logits.

    Args:
        tau: Temperature, above 0.
    """

    def __init__(self, tau: float = 4.0) -> None:
        super().__init__(default_weights("cwd"))
        self.tau = tau

    def forward(self, student: SegmentationOutput, teacher: SegmentationOutput, label: Tensor) -> dict[str, Tensor]:
        return {"cwd": cwd_loss(student.logits, teacher.logits, self.tau)}

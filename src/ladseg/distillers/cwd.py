"""Channel-wise distillation: Shu et al., "Channel-wise Knowledge Distillation for Dense Prediction", ICCV 2021.

LAD uses it on the logits, both to distil (L_kd of Eq. 8) and as the consistency loss D of Eq. 7.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ladseg.distillers.base import Distiller
from ladseg.distillers.match import match_logits
from ladseg.outputs import SegmentationOutput


def cwd_loss(student_logits: Tensor, teacher_logits: Tensor, tau: float = 4.0) -> Tensor:
    """KL divergence between each channel's softmax over positions, teacher to student.

    ``tau^2 / (N C) * sum_{n,c,p} phi(T) (log phi(T) - log phi(S))`` with ``phi_c(x) = softmax_p(x_c / tau)``. It is 0
    for equal inputs and does not see a constant added to a channel. Gradients flow into both arguments; they are made
    with the loss, which can't be differentiated again.

    Args:
        student_logits: ``(N, C, h, w)``.
        teacher_logits: ``(N, C, h', w')``; the larger map is resized to the smaller.
        tau: Temperature, above 0.

    Returns:
        A float32 scalar, whatever autocast does: softmax in lower precision underflows.
    """
    student, teacher = match_logits(student_logits, teacher_logits)
    loss: Tensor = _Divergence.apply(student, teacher, tau)
    return loss


class _Divergence(torch.autograd.Function):
    """:func:`cwd_loss` of maps of one size.

    With ``d`` for ``(T - S) / tau``, a channel's divergence is ``sum_p phi(T) (d - d_0) + log(phi_0(T) / phi_0(S))``,
    position 0 standing for any: softmaxes are all it takes, of which the gradients are made too.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, tau: float) -> Tensor:
        images, channels, height, width = student.shape
        # Channels last, as networks give them: torch's softmax then takes several channels at once.
        student, teacher = (logits.permute(0, 2, 3, 1).flatten(1, 2) / tau for logits in (student, teacher))
        own, wanted = student.softmax(1), teacher.softmax(1)
        log_ratio = _first_log_ratio(student, teacher, own, wanted)
        gap = teacher.sub_(student)
        gap -= gap[:, :1].clone()
        mean = (wanted * gap).sum(1)
        to_student, to_teacher = ctx.needs_input_grad[:2]
        slope = wanted * gap.sub_(mean[:, None]) if to_teacher else None
        ctx.save_for_backward(own.sub_(wanted) if to_student else None, slope)
        ctx.scale, ctx.shape = tau / (images * channels), (images, height, width, channels)
        return (mean + log_ratio).sum() * (tau * ctx.scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        factor = grad * ctx.scale
        student, teacher = (
            None if slope is None else (slope * factor).view(ctx.shape).permute(0, 3, 1, 2)
            for slope in ctx.saved_tensors
        )
        return student, teacher, None


def _first_log_ratio(student: Tensor, teacher: Tensor, own: Tensor, wanted: Tensor) -> Tensor:
    """The logarithm ``(N, C)`` of the teacher's over the student's share of the first position."""
    tiny = torch.finfo(own.dtype).tiny
    if own.device.type == "cpu" and torch.minimum(own[:, 0], wanted[:, 0]).amin() >= tiny:
        return (wanted[:, 0] / own[:, 0]).log()
    # A share that underflows has a logarithm all the same; on a GPU nobody waits to learn whether one does.
    one, other = (x[:, 0] - x.amax(1) + shares.amax(1).log() for x, shares in ((student, own), (teacher, wanted)))
    return other - one


class CWD(Distiller):
    """:func:`cwd_loss` of the logits."""

    def __init__(self, tau: float = 4.0) -> None:
        super().__init__({"cwd": 3.0})
        self.tau = tau

    def forward(self, student: SegmentationOutput, teacher: SegmentationOutput, label: Tensor) -> dict[str, Tensor]:
        return {"cwd": cwd_loss(student.logits, teacher.logits, self.tau)}

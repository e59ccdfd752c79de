"""Channel-wise distillation: Shu et al., "Channel-wise Knowledge Distillation for Dense Prediction", ICCV 2021.

LAD uses it on the logits, both to distil (L_kd of Eq. 8) and as the consistency loss D of Eq. 7.
"""

from typing import Any

import torch
from torch import Tensor

from ladseg.distillers.base import Distiller
from ladseg.distillers.match import match_logits
from ladseg.outputs import SegmentationOutput
from ladseg.resize import VECTOR


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

    Raises:
        ValueError: Batch or class counts differ.
        RuntimeError: When gradients are taken with ``create_graph=True``.
    """
    student, teacher = match_logits(student_logits, teacher_logits)
    loss: Tensor = _Divergence.apply(student, teacher, tau)
    return loss


class _Divergence(torch.autograd.Function):
    """:func:`cwd_loss` of maps of one size.

    A channel's divergence is ``sum_p phi(T) (T - S) / tau`` less what the logarithm of the teacher's sum of
    exponentials has over the student's. That one is an element's value less the logarithm of its share, so softmaxes
    are all it takes, of which the gradients are made too.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, tau: float) -> Tensor:
        images, channels, height, width = student.shape
        dim = _positions(student)
        student, teacher = _scaled(student, dim, tau), _scaled(teacher, dim, tau)
        own, wanted = student.softmax(dim), teacher.softmax(dim)
        gap = teacher - student
        first, first_wanted = own.narrow(dim, 0, 1), wanted.narrow(dim, 0, 1)
        if _log_is_exact(first, first_wanted):
            excess = gap.narrow(dim, 0, 1) - (first_wanted / first).log()
        else:
            excess = _log_sum(teacher, wanted, dim) - _log_sum(student, own, dim)
        del student, teacher  # their memory is the next map's
        mean = (wanted * gap).sum(dim, keepdim=True)
        to_student, to_teacher = ctx.needs_input_grad[:2]
        slope = wanted * gap.sub_(mean) if to_teacher else None
        ctx.save_for_backward(own.sub_(wanted) if to_student else None, slope)
        ctx.scale, ctx.shape, ctx.dim = tau / (images * channels), (images, channels, height, width), dim
        return (mean - excess).sum() * (tau * ctx.scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        # torch's once_differentiable would say so only later, and at a cost that shows on small maps.
        if torch.is_grad_enabled():
            raise RuntimeError("cwd_loss can be differentiated once only: take its gradient without create_graph=True")
        factor = grad * ctx.scale
        to_student, to_teacher = ctx.saved_tensors
        return _gradient(ctx, to_student, factor), _gradient(ctx, to_teacher, factor), None


def _gradient(ctx: Any, slope: Tensor | None, factor: Tensor) -> Tensor | None:
    return None if slope is None else (slope * factor).transpose(ctx.dim, 2).view(ctx.shape)


def _positions(logits: Tensor) -> int:
    """The dimension that positions take: 1 with classes after them, or 2 with classes before.

    torch's softmax takes many classes at once that lie side by side; one by one, if they don't fill a vector.
    """
    side_by_side = logits.is_contiguous(memory_format=torch.channels_last) and not logits.is_contiguous()
    return 1 if side_by_side and logits.shape[1] >= VECTOR else 2


def _scaled(logits: Tensor, dim: int, tau: float) -> Tensor:
    """Over tau, ``(N, P, C)`` or ``(N, C, P)``, in memory of their own."""
    if dim == 1:
        return logits.permute(0, 2, 3, 1).flatten(1, 2) / tau
    return logits.contiguous().flatten(2) / tau


def _log_is_exact(*shares: Tensor) -> bool:
    """Whether none has underflowed; on a GPU nobody waits to learn it."""
    return shares[0].device.type == "cpu" and torch.minimum(*shares).amin().item() >= torch.finfo(shares[0].dtype).tiny


def _log_sum(logits: Tensor, shares: Tensor, dim: int) -> Tensor:
    """The logarithm of the sum of exponentials, by the largest share, which does not underflow."""
    return logits.amax(dim, keepdim=True) - shares.amax(dim, keepdim=True).log()


class CWD(Distiller):
    """:func:`cwd_loss` of the logits."""

    def __init__(self, tau: float = 4.0) -> None:
        super().__init__({"cwd": 3.0})
        self.tau = tau

    def forward(self, student: SegmentationOutput, teacher: SegmentationOutput, label: Tensor) -> dict[str, Tensor]:
        return {"cwd": cwd_loss(student.logits, teacher.logits, self.tau)}

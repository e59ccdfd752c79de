"""How two networks relate the same positions to others: what CIRKD compares."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# Similarities held at once; beyond it they are computed in parts, and again in the backward pass.
AT_ONCE = 1 << 26


def relation_loss(
    student: Tensor,
    teacher: Tensor,
    student_keys: Tensor,
    teacher_keys: Tensor,
    temperature: float = 0.1,
    counts: Tensor | None = None,
) -> Tensor:
    """``KL(softmax_p(t K_T / temperature) || softmax_p(s K_S / temperature))``; the mean over groups and rows.

    Args:
        student: ``(R, C)`` rows of length one.
        teacher: ``(R, C')``, of the same positions.
        student_keys: ``(M, P, C)``: M groups of what the rows are compared with.
        teacher_keys: ``(M, P, C')``.
        temperature: Of the similarities.
        counts: ``(R,)``, whether a row counts; None if all do. The mean is over the rows of all processes then, so that
            gradients that are averaged over processes equal those of one.
    """
    groups, places = student_keys.shape[:2]
    rows = max(1, AT_ONCE // (groups * places))
    weights = (torch.ones_like(student[:, 0]) if counts is None else counts.to(student.dtype)).detach()
    total = student.new_zeros(())
    for s, t, w in zip(student.split(rows), teacher.split(rows), weights.split(rows), strict=True):
        inputs = (s, t, w, student_keys, teacher_keys, temperature)
        total = total + (
            _divergence(*inputs) if len(student) <= rows else checkpoint(_divergence, *inputs, use_reentrant=False)
        )
    count = weights.sum()
    if counts is not None and _processes() > 1:
        dist.all_reduce(count)
        count = count / _processes()
    return total / (count.clamp_min(1.0) * groups)


def _divergence(
    student: Tensor, teacher: Tensor, weights: Tensor, student_keys: Tensor, teacher_keys: Tensor, t: float
) -> Tensor:
    ours = F.log_softmax(torch.einsum("rc,mpc->rmp", student, student_keys) / t, dim=-1)
    theirs = F.log_softmax(torch.einsum("rc,mpc->rmp", teacher, teacher_keys) / t, dim=-1)
    return F.kl_div(ours, theirs, reduction="none", log_target=True).sum((1, 2)) @ weights


def of_all_processes(values: Tensor) -> Tensor:
    """The values of all processes in turn, ``(world * N, ...)``; gradients go back to where they are from."""
    if _processes() == 1:
        return values
    gathered: Tensor = _Gather.apply(values)
    return gathered


def _processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _Gather(torch.autograd.Function):
    """torch's own gathering with gradient does it by all-to-all, which not every backend has."""

    @staticmethod
    def forward(ctx: object, values: Tensor) -> Tensor:
        parts = [torch.empty_like(values, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, values.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]

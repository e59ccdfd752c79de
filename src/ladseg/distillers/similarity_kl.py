"""The KL divergence between two networks' feature similarities, which CIRKD minimises."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ladseg.distillers.gather import process_count

# The most similarities to hold in memory; more are computed in parts, and recomputed in the backward pass.
AT_ONCE = 1 << 26


def similarity_kl_loss(
    student: Tensor,
    teacher: Tensor,
    student_keys: Tensor,
    teacher_keys: Tensor,
    temperature: float = 0.1,
    counts: Tensor | None = None,
) -> Tensor:
    """Return ``KL(softmax_p(t K_T / temperature) || softmax_p(s K_S / temperature))``, averaged over groups and rows.

    Args:
        student: ``(R, C)`` unit vectors.
        teacher: ``(R, C')`` unit vectors at the same positions.
        student_keys: ``(M, P, C)``: M groups of P vectors to compare each row with.
        teacher_keys: ``(M, P, C')``.
        temperature: Temperature of the softmax, above 0.
        counts: ``(R,)``, whether each row counts; None if all do. With it the mean is over the rows of all processes,
            so that gradients averaged over processes equal those of one process.

    Returns:
        A scalar.
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
    if counts is not None and process_count() > 1:
        dist.all_reduce(count)
        count = count / process_count()
    return total / (count.clamp_min(1.0) * groups)


def _divergence(
    student: Tensor, teacher: Tensor, weights: Tensor, student_keys: Tensor, teacher_keys: Tensor, temperature: float
) -> Tensor:
    log_student = F.log_softmax(torch.einsum("rc,mpc->rmp", student, student_keys) / temperature, dim=-1)
    log_teacher = F.log_softmax(torch.einsum("rc,mpc->rmp", teacher, teacher_keys) / temperature, dim=-1)
    return F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum((1, 2)) @ weights

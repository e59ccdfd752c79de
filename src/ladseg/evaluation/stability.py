"""Measure how much a label-assisted teacher's output depends on the noise draw (paper section 4.3, Table 8)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def mean_pairwise_kl(logits: Sequence[Tensor]) -> float:
    """Return KL_mean of section 4.3, the mean over all m * m ordered pairs of draws, over images and over positions.

    The paper's formula leaves the reduction over positions open; the mean makes the result independent of the map's
    size. As in the printed formula, pairs of a draw with itself are included and contribute 0.

    Args:
        logits: m maps ``(N, C, h, w)`` of the same images under independent draws.

    Returns:
        Nats per position; the paper prints this value times 100.
    """
    log_probabilities = torch.stack([F.log_softmax(draw.float(), dim=1) for draw in logits])
    draws, images, _, height, width = log_probabilities.shape
    total = sum(
        float(F.kl_div(b, a, reduction="sum", log_target=True)) for a in log_probabilities for b in log_probabilities
    )
    return total / (draws**2 * images * height * width)

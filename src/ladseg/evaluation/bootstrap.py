"""How far a difference of two networks' mIoU depends on which images they were measured on."""

import torch
from torch import Tensor

from ladseg.evaluation.confusion_matrix import iou_of

DRAWS = 2000


def paired_interval(before: Tensor, after: Tensor, confidence: float = 0.95, draws: int = DRAWS) -> tuple[float, float]:
    """Bootstrap interval of ``mIoU(after) - mIoU(before)``, in 0..1, over the images of one data set.

    Each draw takes as many images as there are, with replacement and the same ones for both networks, and counts anew
    (Efron's percentile interval). It tells what other images might have said of these two networks; nothing of what
    another training might have given.

    Args:
        before: ``(M, 3, C)`` counts of M images as :class:`ladseg.evaluation.Evaluation` holds them.
        after: The other network's, of the same images.
        confidence: Share of the draws inside the interval.
        draws: Number of draws.

    Raises:
        ValueError: The shapes differ, or there is no image.
    """
    if before.shape != after.shape or not len(before):
        raise ValueError(
            f"counts of {tuple(before.shape)} and {tuple(after.shape)}; expected the same images, one or more"
        )
    images = len(before)
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randint(images, (draws, images), generator=generator)
    times = torch.zeros(draws, images, dtype=torch.float64).scatter_add_(
        1, chosen, torch.ones(1, 1, dtype=torch.float64).expand_as(chosen)
    )
    means = [
        iou_of((times @ counts.flatten(1).double()).unflatten(1, counts.shape[1:])).nanmean(-1)
        for counts in (before, after)
    ]
    tail = (1 - confidence) / 2
    low, high = torch.quantile(
        (means[1] - means[0]).nan_to_num(), torch.tensor([tail, 1 - tail], dtype=torch.float64)
    ).tolist()
    return low, high

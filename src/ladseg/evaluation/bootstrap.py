"""Bootstrap over images: how much a gain in mIoU depends on the choice of images."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ladseg.evaluation.confusion_matrix import iou_of

DRAWS = 2000


def paired_interval(before: Tensor, after: Tensor, confidence: float = 0.95, draws: int = DRAWS) -> tuple[float, float]:
    """Return the bootstrap interval of ``mIoU(after) - mIoU(before)``, in 0..1, over the images of one data set.

    Each draw takes M of the M images with replacement, the same ones for both networks, and computes both mIoUs
    (Efron's percentile interval). The interval covers the choice of images for these two networks, not what another
    training would have given.

    Args:
        before: ``(M, 3, C)`` counts of M images as in :class:`ladseg.evaluation.Evaluation`.
        after: The other network's counts of the same images.
        confidence: Share of the draws inside the interval.
        draws: Number of draws.

    Raises:
        ValueError: The shapes differ, or there is no image.
    """
    generator = torch.Generator().manual_seed(0)
    return _middle(_gains(before, after, draws, generator), confidence)


def interval_over_seeds(
    before: Sequence[Tensor], after: Sequence[Tensor], confidence: float = 0.95, draws: int = DRAWS
) -> tuple[float, float] | None:
    """Return the bootstrap interval of the mean gain over several seeds; each draw resamples seeds and their images.

    Args:
        before: The control's counts ``(M, 3, C)`` for each seed.
        after: The method's counts, for the same seeds and images in the same order.
        confidence: Share of the draws inside the interval.
        draws: Number of draws.

    Returns:
        The two ends, in 0..1; None with fewer than two seeds.

    Raises:
        ValueError: The numbers of seeds or the shapes differ, or there is no image.
    """
    generator = torch.Generator().manual_seed(0)
    gains = [_gains(b, a, draws, generator) for b, a in zip(before, after, strict=True)]
    if len(gains) < 2:
        return None
    seeds = torch.randint(len(gains), (len(gains), draws), generator=generator)
    return _middle(torch.stack(gains).gather(0, seeds).mean(0), confidence)


def _gains(before: Tensor, after: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """Return the gain in mIoU, ``(draws,)`` float64, on each of ``draws`` samples of the images."""
    if before.shape != after.shape or not len(before):
        raise ValueError(
            f"counts of {tuple(before.shape)} and {tuple(after.shape)}; expected the same images, one or more"
        )
    images = len(before)
    chosen = torch.randint(images, (draws, images), generator=generator)
    times = torch.zeros(draws, images, dtype=torch.float64).scatter_add_(
        1, chosen, torch.ones(1, 1, dtype=torch.float64).expand_as(chosen)
    )
    first, second = (
        iou_of((times @ counts.flatten(1).double()).unflatten(1, counts.shape[1:])).nanmean(-1)
        for counts in (before, after)
    )
    return (second - first).nan_to_num()


def _middle(values: Tensor, confidence: float) -> tuple[float, float]:
    """Return the ends of the central interval that holds the share ``confidence`` of the values."""
    tail = (1 - confidence) / 2
    low, high = torch.quantile(values, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high

"""Statistics of paired differences, for judging a method by a few seeds.

A difference is the mIoU of a method minus that of its control, trained with the same seed. All functions take the
differences of all seeds, in any unit, and are symmetric in their order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import mean, stdev

import numpy as np

CONFIDENCE = 0.95
DRAWS = 9999

Interval = tuple[float, float]


@dataclass(frozen=True)
class PairedTest:
    """The statistics of the differences of several seeds.

    Attributes:
        seeds: Number of differences.
        mean: Their mean.
        interval_t: Student's t interval of the mean; None with one seed.
        interval_bca: Bootstrap interval of the mean over seeds; None if it does not exist.
        p_sign_flip: Two-sided p of the exact sign-flip test.
        smallest_effect: See :func:`smallest_effect`; None with one seed.
    """

    seeds: int
    mean: float
    interval_t: Interval | None
    interval_bca: Interval | None
    p_sign_flip: float
    smallest_effect: float | None


def paired_test(differences: Sequence[float], confidence: float = CONFIDENCE) -> PairedTest:
    """Compute all statistics of the paired differences.

    Raises:
        ValueError: There are no differences.
    """
    if not differences:
        raise ValueError("expected one paired difference or more, got none")
    return PairedTest(
        len(differences),
        mean(differences),
        t_interval(differences, confidence),
        bca_interval(differences, confidence),
        sign_flip_p(differences),
        smallest_effect(differences, 1 - confidence),
    )


def t_interval(differences: Sequence[float], confidence: float = CONFIDENCE) -> Interval | None:
    """Return Student's t interval of the mean; None with fewer than two differences."""
    from scipy.special import stdtrit

    count = len(differences)
    if count < 2:
        return None
    half = float(stdtrit(count - 1, (1 + confidence) / 2)) * stdev(differences) / sqrt(count)
    center = mean(differences)
    return center - half, center + half


def bca_interval(differences: Sequence[float], confidence: float = CONFIDENCE, draws: int = DRAWS) -> Interval | None:
    """Return the bias-corrected and accelerated bootstrap interval of the mean.

    With six values or fewer it is known to be too narrow, so compare it with the t interval.

    Returns:
        The two ends, or None if there are fewer than two values or all are equal.

    Source:
        Efron, Better bootstrap confidence intervals, 1987; computed by ``scipy.stats.bootstrap``.
    """
    from scipy.stats import bootstrap

    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2 or np.ptp(values) == 0:
        return None
    found = bootstrap(
        (values,), np.mean, confidence_level=confidence, n_resamples=draws, method="BCa", random_state=0
    ).confidence_interval
    low, high = float(found.low), float(found.high)
    return (low, high) if np.isfinite([low, high]).all() else None


def sign_flip_p(differences: Sequence[float], draws: int = DRAWS) -> float:
    """Return the two-sided p-value of the sign-flip test of mean zero.

    For up to 13 differences all 2^n sign patterns are counted, so that the p-value is exact. With n differences it is
    at least 2 / 2^n (see :func:`fewest_seeds`).

    Source:
        Fisher, The design of experiments, 1935; computed by ``scipy.stats.permutation_test``.
    """
    from scipy.stats import permutation_test

    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2:
        return 1.0
    return float(
        permutation_test(
            (values,), np.mean, permutation_type="samples", vectorized=True, n_resamples=draws, random_state=0
        ).pvalue
    )


def fewest_seeds(level: float = 1 - CONFIDENCE) -> int:
    """Return the least number of seeds with which a two-sided sign-flip test can get below ``level``; 6 for 0.05."""
    seeds = 1
    while 2 / 2**seeds >= level:
        seeds += 1
    return seeds


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p-values adjusted for testing several methods, by name; none is smaller than before.

    Source:
        Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    adjusted, largest = {}, 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda key: p_values[key])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def smallest_effect(differences: Sequence[float], level: float = 1 - CONFIDENCE, power: float = 0.8) -> float | None:
    """Return the true mean difference that a t test with this many seeds and this spread finds with the given power.

    A smaller effect may exist and remain undetected. With fewer than two differences, return None.
    """
    from scipy.special import nctdtrinc, stdtrit

    count = len(differences)
    if count < 2:
        return None
    critical = float(stdtrit(count - 1, 1 - level / 2))
    return float(nctdtrinc(count - 1, 1 - power, critical)) * stdev(differences) / sqrt(count)

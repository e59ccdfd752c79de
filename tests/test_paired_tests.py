"""Paired statistics against scipy's tests, enumeration, published tables and simulation."""

import itertools

import numpy as np
import pytest
import scipy.stats
import torch

from ladseg.evaluation import interval_over_seeds, paired_interval
from ladseg.evaluation.paired_tests import (
    bca_interval,
    fewest_seeds,
    holm,
    paired_test,
    sign_flip_p,
    smallest_effect,
    t_interval,
)

TABLE = [
    [1.0, 2.0, 3.0],
    [0.9, 1.1, 0.4, -0.2, 0.8, 1.3],
    [-2.0, -1.5, -0.1, -3.0],
    [0.5, -0.5, 0.25, -0.25, 0.1],
    [1.0, 1.0, 1.0, 2.0],
    [0.0, 0.0, 1.0],
]


@pytest.mark.parametrize("differences", TABLE)
def test_sign_flip_by_enumeration(differences: list[float]) -> None:
    flipped = [abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
               for signs in itertools.product((1, -1), repeat=len(differences))]  # fmt: skip
    as_extreme = sum(value >= abs(sum(differences)) - 1e-12 for value in flipped)
    assert sign_flip_p(differences) == pytest.approx(as_extreme / len(flipped))


def test_sign_flip_of_many_seeds_is_close_to_the_t_test() -> None:
    values = np.random.default_rng(3).normal(0.4, 1, 40)
    assert sign_flip_p(list(values)) == pytest.approx(scipy.stats.ttest_1samp(values, 0).pvalue, abs=0.02)


@pytest.mark.parametrize("differences", TABLE)
def test_t_interval_is_that_of_scipy(differences: list[float]) -> None:
    expected = scipy.stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert t_interval(differences) == pytest.approx((expected.low, expected.high))


def bca_by_hand(values: np.ndarray, confidence: float) -> tuple[float, float]:
    """Efron's formulas over every possible sample of the values."""
    means = np.array([np.mean(draw) for draw in itertools.product(values, repeat=len(values))])
    share = (np.mean(means < values.mean() - 1e-12) + np.mean(means <= values.mean() + 1e-12)) / 2
    bias = scipy.stats.norm.ppf(share)
    without = np.array([np.delete(values, i).mean() for i in range(len(values))])
    deviations = without.mean() - without
    acceleration = (deviations**3).sum() / (6 * (deviations**2).sum() ** 1.5)
    ends = []
    for tail in ((1 - confidence) / 2, (1 + confidence) / 2):
        z = bias + scipy.stats.norm.ppf(tail)
        ends.append(np.quantile(means, scipy.stats.norm.cdf(bias + z / (1 - acceleration * z))))
    return ends[0], ends[1]


@pytest.mark.parametrize("differences", [TABLE[1], TABLE[3], [0.1, 0.2, 0.9, 2.5, 0.3, 0.4]])
def test_bca_interval_by_hand(differences: list[float]) -> None:
    spread = max(differences) - min(differences)
    expected = bca_by_hand(np.array(differences), 0.95)
    assert bca_interval(differences) == pytest.approx(expected, abs=0.03 * spread)


@pytest.mark.parametrize("differences", [[1.0], [2.0, 2.0, 2.0]])
def test_no_bootstrap_interval_without_a_distribution(differences: list[float]) -> None:
    assert bca_interval(differences) is None


def test_three_seeds_never_reach_five_per_cent_and_six_can() -> None:
    assert fewest_seeds(0.05) == 6
    assert sign_flip_p([5.0] * 5) == 2 / 32
    assert sign_flip_p([5.0] * 6) == 2 / 64
    assert sign_flip_p([5.0, 4.0, 6.0]) == 0.25


@pytest.mark.parametrize(
    ("raw", "adjusted"),
    [
        ({"a": 0.01, "b": 0.02, "c": 0.03, "d": 0.04}, {"a": 0.04, "b": 0.06, "c": 0.06, "d": 0.06}),
        ({"x": 0.6, "y": 0.001}, {"x": 0.6, "y": 0.002}),
        ({"x": 0.7, "y": 0.9}, {"x": 1.0, "y": 1.0}),
        ({}, {}),
    ],
)
def test_holm_by_hand(raw: dict[str, float], adjusted: dict[str, float]) -> None:
    assert holm(raw) == pytest.approx(adjusted)
    assert list(holm(raw)) == list(raw)


@pytest.mark.parametrize("count", [3, 6, 12])
def test_smallest_effect_is_found_in_four_experiments_of_five(count: int) -> None:
    rng = np.random.default_rng(0)
    unit = rng.normal(size=count)
    unit = list((unit - unit.mean()) / unit.std(ddof=1))
    effect = smallest_effect(unit)
    assert effect is not None
    experiments = rng.normal(effect, 1, (20000, count))
    found = scipy.stats.ttest_1samp(experiments, 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.015)


def test_one_seed_shows_nothing() -> None:
    found = paired_test([3.0])
    assert (found.seeds, found.mean, found.p_sign_flip) == (1, 3.0, 1.0)
    assert found.interval_t is found.interval_bca is found.smallest_effect is None
    with pytest.raises(ValueError, match="one paired difference"):
        paired_test([])


def counts(gain: float, images: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Counts of two classes on images whose share of right pixels rises by ``gain``."""
    pairs = []
    shares = torch.rand(images, 1, generator=generator) * 0.4 + 0.3
    for share in (shares, shares + gain):
        right = (share * 1000).round().long().expand(-1, 2)
        pairs.append(torch.stack([right, torch.full_like(right, 1000), torch.full_like(right, 1000)], 1))
    return pairs[0], pairs[1]


def test_interval_over_seeds_is_wider_where_seeds_differ() -> None:
    generator = torch.Generator().manual_seed(0)
    equal = [counts(0.1, 20, generator) for _ in range(4)]
    differing = [counts(gain, 20, generator) for gain in (0.0, 0.05, 0.15, 0.2)]
    alone = paired_interval(*differing[0])
    narrow, wide = (interval_over_seeds(*zip(*pairs, strict=True)) for pairs in (equal, differing))
    assert narrow is not None
    assert wide is not None
    assert wide[1] - wide[0] > 3 * (narrow[1] - narrow[0])
    assert wide[0] < np.mean([float(paired_interval(*p)[0]) for p in differing]) < wide[1]
    assert alone[0] <= 0 <= alone[1]
    assert interval_over_seeds([equal[0][0]], [equal[0][1]]) is None
    with pytest.raises(ValueError, match="same images"):
        interval_over_seeds([equal[0][0], equal[1][0]], [equal[0][1][:5], equal[1][1]])

"""Judging against the plain curve, by hand on tables of cases."""

import math

import pytest

from ladseg.comparison.plain_curve import PlainCurve, break_even_students, curves_by_seed, gains, mean_curve

CURVE = PlainCurve([1.0, 2.0, 4.0, 8.0], [0.40, 0.44, 0.45, 0.45])


@pytest.mark.parametrize(
    ("compute", "expected"),
    [
        (1.0, 0.40),
        (2.0, 0.44),
        (math.sqrt(2), 0.42),  # half way in the logarithm
        (2 * math.sqrt(2), 0.445),
        (6.0, 0.45),
        (8.0, 0.45),
        (8.004, 0.45),  # whole steps don't meet a compute exactly
        (0.9, None),
        (9.0, None),
    ],
)
def test_interpolates_in_the_logarithm_and_never_beyond(compute: float, expected: float | None) -> None:
    assert CURVE.at(compute) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("mean_iou", "total", "marginal", "students"),
    [
        (0.46, 4.0, 1.33, 1),  # better than plain training at its total compute
        # 1.33 + 2.67 / k: k = 2 costs 2.665 and plain reaches 0.444; k = 3 costs 2.22 and plain reaches 0.4415.
        (0.443, 4.0, 1.33, 3),
        (0.41, 4.0, 1.33, None),  # plain training at 1.33 reaches 0.4165
        # k solves 1.33 + 2.67 / k = 2 ** ((0.418 - 0.40) / 0.04).
        (0.418, 4.0, 1.33, math.floor(2.67 / (2**0.45 - 1.33)) + 1),
        (0.46, 20.0, 1.33, 3),  # one and two students lie beyond the curve
        (0.39, 1.0, 1.0, None),
    ],
)
def test_break_even_by_hand(mean_iou: float, total: float, marginal: float, students: int | None) -> None:
    assert break_even_students(mean_iou, total, marginal, CURVE) == students


def test_gains_are_paired_with_the_seeds_own_curve() -> None:
    curves = curves_by_seed({1.0: {0: 0.40, 1: 0.50, 2: 0.1}, 2.0: {0: 0.42, 1: 0.52}})
    assert set(curves) == {0, 1}
    assert gains({0: 0.43, 1: 0.51, 5: 0.9}, curves, 2.0) == pytest.approx([0.01, -0.01])
    assert gains({0: 0.43}, curves, 3.0) == []
    assert mean_curve(list(curves.values())).mean_iou == pytest.approx([0.45, 0.47])
    assert curves_by_seed({}) == {}

"""The plain curve: the mIoU that the student alone reaches, by the compute of its training.

Every method of a comparison is judged against this curve, at the compute of everything that was trained for its student
and at that of one more student whose teacher is there already.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# More students than anyone trains from one teacher.
MOST_STUDENTS = 1000
# Compute that differs by less counts as equal: lengths are whole steps.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class PlainCurve:
    """mIoU of the student alone at several lengths of training, each with its own full decay, for one seed.

    Attributes:
        compute: Compute of each training, ascending, in any unit.
        mean_iou: mIoU that each reached.
    """

    compute: Sequence[float]
    mean_iou: Sequence[float]

    def at(self, compute: float) -> float | None:
        """Return the mIoU at a compute, interpolated linearly in its logarithm; None outside what was trained."""
        first, last = self.compute[0], self.compute[-1]
        if not first * (1 - TOLERANCE) <= compute <= last * (1 + TOLERANCE):
            return None
        compute = min(max(compute, first), last)
        right = bisect_left(self.compute, compute)
        if self.compute[right] == compute:
            return self.mean_iou[right]
        low, high = self.compute[right - 1], self.compute[right]
        share = math.log(compute / low) / math.log(high / low)
        return (1 - share) * self.mean_iou[right - 1] + share * self.mean_iou[right]


def curves_by_seed(lengths: Mapping[float, Mapping[int, float]]) -> dict[int, PlainCurve]:
    """Return the curve of each seed that has every length.

    Args:
        lengths: By compute, the mIoU of each seed's plain student.
    """
    if not lengths:
        return {}
    computes = sorted(lengths)
    seeds = set.intersection(*(set(by_seed) for by_seed in lengths.values()))
    return {seed: PlainCurve(computes, [lengths[c][seed] for c in computes]) for seed in sorted(seeds)}


def mean_curve(curves: Sequence[PlainCurve]) -> PlainCurve:
    """Return the mean of curves of equal compute."""
    means = [sum(values) / len(values) for values in zip(*(curve.mean_iou for curve in curves), strict=True)]
    return PlainCurve(curves[0].compute, means)


def gains(by_seed: Mapping[int, float], curves: Mapping[int, PlainCurve], compute: float) -> list[float]:
    """Return each seed's mIoU minus its own plain curve's at ``compute``; empty where the curve does not reach."""
    pairs = [(value, curves[seed].at(compute)) for seed, value in by_seed.items() if seed in curves]
    return [value - plain for value, plain in pairs if plain is not None]


def break_even_students(mean_iou: float, total: float, marginal: float, curve: PlainCurve) -> int | None:
    """Return k*, the number of students from which their common teacher has paid for itself.

    With k students, each costs its own training (``marginal``) and a k-th part of what was trained before
    (``total - marginal``). k* is the smallest k for which the plain student of that compute is worse than the method's.

    Returns:
        k*, or None if no number of students will do.
    """
    for students in range(1, MOST_STUDENTS + 1):
        plain = curve.at(marginal + (total - marginal) / students)
        if plain is not None and mean_iou > plain:
            return students
    return None

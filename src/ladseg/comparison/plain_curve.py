"""The plain curve: the mIoU of the student alone as a function of the compute of its training.

Every method of a comparison is judged against this curve at two amounts of compute: that of all trainings for its
student, and that of one more student of an existing teacher.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# The most students of one teacher that are considered.
MOST_STUDENTS = 1000
# Relative differences in compute below this count as equal, because trainings have whole steps.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class PlainCurve:
    """The mIoU of the student alone at several lengths of training, each with its own full decay, for one seed.

    Attributes:
        compute: Compute of each training, ascending, in any unit.
        mean_iou: mIoU after each training.
    """

    compute: Sequence[float]
    mean_iou: Sequence[float]

    def at(self, compute: float) -> float | None:
        """Return the mIoU at a compute, interpolated linearly in its logarithm; None outside the trained range."""
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
    """Return the curves of as many seeds as possible, all with the same lengths.

    While a comparison is incomplete, the seeds have different lengths. A length is left out of all curves if half of
    the seeds or more would have no curve because of it. A seed that lacks one of the other lengths has no curve.

    Args:
        lengths: The mIoU of each seed's plain student, by compute.
    """
    all_seeds = {seed for by_seed in lengths.values() for seed in by_seed}
    seeds = all_seeds
    computes: list[float] = []
    # The lengths that most seeds have come first, so that a rarer one can't displace them.
    for compute in sorted(lengths, key=lambda compute: (-len(lengths[compute]), compute)):
        with_it = seeds & lengths[compute].keys()
        if 2 * len(with_it) > len(all_seeds):
            seeds, computes = with_it, sorted([*computes, compute])
    if not computes:
        return {}
    return {seed: PlainCurve(computes, [lengths[c][seed] for c in computes]) for seed in sorted(seeds)}


def mean_curve(curves: Sequence[PlainCurve]) -> PlainCurve:
    """Return the mean of curves with equal compute."""
    means = [sum(values) / len(values) for values in zip(*(curve.mean_iou for curve in curves), strict=True)]
    return PlainCurve(curves[0].compute, means)


def gains(by_seed: Mapping[int, float], curves: Mapping[int, PlainCurve], compute: float) -> list[float]:
    """Return each seed's mIoU minus that of its own plain curve at ``compute``; empty if a curve does not reach it."""
    pairs = [(value, curves[seed].at(compute)) for seed, value in by_seed.items() if seed in curves]
    return [value - plain for value, plain in pairs if plain is not None]


def break_even_students(mean_iou: float, total: float, marginal: float, curve: PlainCurve) -> int | None:
    """Return k*, the number of students from which their common teacher pays off.

    With k students, each costs its own training (``marginal``) and a k-th part of the earlier trainings
    (``total - marginal``). k* is the smallest k for which the plain student with that compute is worse than the
    method's.

    Returns:
        k*, or None if no number of students suffices.
    """
    for students in range(1, MOST_STUDENTS + 1):
        plain = curve.at(marginal + (total - marginal) / students)
        if plain is not None and mean_iou > plain:
            return students
    return None

"""Judge each method of a comparison against the plain student of equal compute, in total and at the margin."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ladseg.comparison.methods import is_on_plain_curve
from ladseg.comparison.plain_curve import PlainCurve, break_even_students, curves_by_seed, gains, mean_curve
from ladseg.evaluation import holm, paired_test
from ladseg.results import MethodRow


def judged(rows: Sequence[MethodRow], marginal_macs: Mapping[str, int]) -> list[MethodRow]:
    """Return the rows with their gains over the plain curve and their verdicts.

    Args:
        rows: The methods; the first is ``none``, and those of the student alone are the plain curve.
        marginal_macs: The multiply-accumulates of one more student of an existing teacher, by name.
    """
    unit = rows[0].macs
    plain = [row for row in rows if is_on_plain_curve(row.name) and row.mean_iou]
    curves = curves_by_seed({row.macs / unit: row.mean_iou for row in plain})
    found = [_judged(row, row.macs / unit, marginal_macs[row.name] / unit, curves) for row in rows]
    adjusted = holm({row.name: row.p_sign_flip for row in found if row.p_sign_flip is not None})
    return [replace(row, p_holm=adjusted.get(row.name)) for row in found]


def _judged(row: MethodRow, total: float, marginal: float, curves: Mapping[int, PlainCurve]) -> MethodRow:
    row = replace(row, compute_total=total, compute_marginal=marginal)
    if is_on_plain_curve(row.name):
        return row
    common = [seed for seed in row.mean_iou if seed in curves]
    if at_total := gains(row.mean_iou, curves, total):
        test = paired_test(at_total)
        row = replace(
            row,
            gain_at_equal_total=test.mean,
            gain_seeds=len(common),
            p_sign_flip=test.p_sign_flip,
            interval_t=test.interval_t,
            interval_bca=test.interval_bca,
            smallest_effect=test.smallest_effect,
        )
    if at_margin := gains(row.mean_iou, curves, marginal):
        test = paired_test(at_margin)
        row = replace(
            row,
            gain_at_equal_marginal=test.mean,
            gain_seeds=len(common),
            marginal_p_sign_flip=test.p_sign_flip,
            marginal_interval_t=test.interval_t,
        )
    # What an existing teacher has cost is not known here, so nothing can be said about when it pays off.
    if common and row.teacher is not None and not row.teacher_existed:
        mean = sum(row.mean_iou[seed] for seed in common) / len(common)
        curve = mean_curve([curves[seed] for seed in common])
        row = replace(row, break_even_students=break_even_students(mean, total, marginal, curve))
    return row

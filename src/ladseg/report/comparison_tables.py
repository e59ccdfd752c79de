"""A comparison of methods as tables: for the terminal, in Markdown and in LaTeX."""

from rich.table import Table

from ladseg.evaluation.paired_tests import fewest_seeds
from ladseg.report.sheet import Sheet
from ladseg.results import ComparisonResults, MeanInterval, MethodRow

# The p-value below which a gain counts as shown.
LEVEL = 0.05
ACCURACY = ("method", "mIoU %", "n", "against none (95 %)", "MACs", "x none")
COST = ("method", "teacher M", "teacher GMACs", "teacher s", "student s", "step ms", "x none", "MB")
JUDGEMENT = ("method", "compute x", "gain (95 %)", "p", "p Holm", "margin x", "gain there (95 %)", "students")
JUDGEMENT_LEGEND = (
    "The plain curve is the student alone at several lengths of training. Compute x: all trainings for this student, "
    "as a multiple of none. Gain: mIoU points above the seed's own plain curve at that compute, with Student's t "
    "interval; p by the exact sign-flip test, then adjusted by Holm for the number of methods. Margin x: one more "
    "student of an existing teacher, and the gain at that compute. Students: the number from which their common "
    "teacher pays off. 'beyond': the curve was not trained so far."
)
LEGEND = (
    "mIoU: best evaluation on val, mean ± standard deviation over n seeds. Against none: mean difference of equal "
    "seeds and its 95 % interval by Student's t. MACs: multiply-accumulates, forward and backward, of all trainings "
    "for this student. Teacher M, GMACs: its millions of parameters, and multiply-accumulates for one crop. Teacher "
    "s: seconds of training before the student's own. Step ms: the student's training step without loading data "
    "(D_time), all methods in turns in one process. MB: weights, optimizer state and the step's own peak."
)


def comparison_sheets(comparison: ComparisonResults) -> list[Sheet]:
    """Return the tables of accuracy and of cost."""
    none = comparison.methods[0]
    title = (
        f"{comparison.name}: {comparison.student} ({none.student.parameters / 1e6:.2f} M parameters, "
        f"{none.student.macs / 1e9:.2f} GMACs), {comparison.iterations} steps"
    )
    sheets = [
        Sheet(title, ACCURACY, [_accuracy(row, none) for row in comparison.methods]),
        Sheet("Costs", COST, [_cost(row, none) for row in comparison.methods]),
    ]
    judged = judged_rows(comparison)
    if judged:
        sheets.insert(1, Sheet("Against the plain student of equal compute", JUDGEMENT, [_judged(r) for r in judged]))
    return sheets


def judged_rows(comparison: ComparisonResults) -> list[MethodRow]:
    """Return the methods with a teacher, which are judged against the plain curve."""
    return [row for row in comparison.methods if row.teacher is not None and row.compute_total is not None]


def power_remark(comparison: ComparisonResults) -> str | None:
    """Return a sentence about what so few seeds can't show; None if there are enough."""
    judged = [row for row in comparison.methods if row.p_sign_flip is not None or row.marginal_p_sign_flip is not None]
    seeds = min((len(row.mean_iou) for row in judged), default=None)
    needed = fewest_seeds(LEVEL)
    if seeds is None or seeds >= needed:
        return None
    return (
        f"{seeds} seed{'s' * (seeds != 1)} can't give p < {LEVEL} in a two-sided sign-flip test, whatever they show: "
        f"use {needed} or more (--seeds {','.join(map(str, range(needed)))})."
    )


def verdict_lines(comparison: ComparisonResults) -> list[str]:
    """Return the verdict on each method, as a sentence."""
    return [row.verdict.sentence for row in comparison.methods if row.verdict is not None]


def compare_tables(comparison: ComparisonResults) -> list[Table]:
    """Return the tables for the terminal, with the meaning of their columns."""
    tables = [sheet.terminal() for sheet in comparison_sheets(comparison)]
    tables[-1].caption, tables[-1].caption_justify, tables[-1].caption_style = legend(comparison), "left", "none"
    return tables


def legend(comparison: ComparisonResults) -> str:
    """Return the meaning of the columns, and what the number of seeds can't show."""
    judgement = JUDGEMENT_LEGEND if judged_rows(comparison) else None
    return " ".join(filter(None, (LEGEND, judgement, power_remark(comparison))))


def compare_markdown(comparison: ComparisonResults) -> str:
    """Return the tables in Markdown, with the meaning of their columns and the machine."""
    sheets = [f"## {sheet.markdown()}" for sheet in comparison_sheets(comparison)]
    verdicts = "".join(f"- {line}\n" for line in verdict_lines(comparison))
    environment = comparison.environment
    measured = (
        f"Measured on {environment.gpu or environment.processor} ({environment.threads} threads), "
        f"torch {environment.packages['torch']}, by `{environment.command}`.\n"
    )
    return "\n".join(
        [f"# {comparison.name}: methods compared\n", *sheets, *verdicts, f"{legend(comparison)}\n", measured]
    )


def compare_latex(comparison: ComparisonResults) -> str:
    """Return the tables in LaTeX with ``booktabs``."""
    return "\n".join(sheet.latex() for sheet in comparison_sheets(comparison))


def format_difference(difference: MeanInterval | None) -> str:
    """Return a paired difference and its interval in points; empty without one."""
    if difference is None:
        return ""
    mean, low, high = difference.mean, difference.low, difference.high
    return f"{100 * mean:+.2f}" + ("" if low is None or high is None else f" [{100 * low:+.2f}, {100 * high:+.2f}]")


def _accuracy(row: MethodRow, none: MethodRow) -> list[str]:
    return [
        row.name,
        _spread(row.mean, row.std),
        str(len(row.mean_iou)),
        format_difference(row.difference),
        f"{row.macs:.2e}",
        f"{row.macs / none.macs:.2f}",
    ]


def _judged(row: MethodRow) -> list[str]:
    assert row.compute_total is not None
    assert row.compute_marginal is not None
    return [
        row.name,
        f"{row.compute_total:.2f}",
        _gain(row.gain_at_equal_total, row.interval_t),
        _p(row.p_sign_flip),
        _p(row.p_holm),
        f"{row.compute_marginal:.2f}",
        _gain(row.gain_at_equal_marginal, row.marginal_interval_t),
        "none" if row.break_even_students is None else str(row.break_even_students),
    ]


def _gain(gain: float | None, interval: tuple[float, float] | None) -> str:
    if gain is None:
        return "beyond"
    return format_difference(MeanInterval(gain, *(interval or (None, None))))


def _p(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _cost(row: MethodRow, none: MethodRow) -> list[str]:
    teacher, step = row.teacher, row.step_ms
    return [
        row.name,
        f"{teacher.parameters / 1e6:.2f}" if teacher else "",
        f"{teacher.macs / 1e9:.2f}" if teacher else "",
        "" if row.teacher_seconds is None else f"{row.teacher_seconds:.0f}",
        "" if row.seconds is None else f"{row.seconds:.0f}",
        "" if step is None else f"{step:.1f}",
        "" if step is None or not none.step_ms else f"{step / none.step_ms:.2f}",
        "" if row.step_memory is None else f"{row.step_memory / 1e6:.0f}",
    ]


def _spread(mean: float | None, std: float | None) -> str:
    if mean is None:
        return ""
    return f"{100 * mean:.2f}" + ("" if std is None else f" ± {100 * std:.2f}")

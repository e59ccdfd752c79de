"""A comparison of methods as tables: for the terminal, in Markdown and in LaTeX."""

from collections.abc import Sequence

from rich.table import Table

from ladseg.evaluation.paired_tests import fewest_seeds
from ladseg.report.numbers import gmacs
from ladseg.report.sheet import Sheet
from ladseg.results import ComparisonResults, MeanInterval, MethodRow

# The p-value below which a gain counts as shown.
LEVEL = 0.05
MORE_SEEDS = f"{fewest_seeds(LEVEL)} or more (--seeds {','.join(map(str, range(fewest_seeds(LEVEL))))})"
ACCURACY = ("method", "mIoU %", "last %", "n", "against none (95 %)", "MACs", "x none")
TEST = ("method", "test %", "against none (95 %)")
COST = ("method", "teacher M", "teacher GMACs", "teacher s", "student s", "step ms", "x none", "MB")
JUDGEMENT = ("method", "compute x", "seeds", "gain (95 %)", "p", "p Holm", "margin x", "gain there (95 %)", "students")
# The meaning of the columns, by the column that each begins with.
NOTES = {
    "mIoU %": "mIoU: best evaluation on val, mean ± standard deviation over n seeds.",
    "last %": "Last: the mean after the last step, as the best of several evaluations is too high.",
    "against none (95 %)": "Against none: mean difference of equal seeds and its 95 % interval by Student's t.",
    "MACs": "MACs: multiply-accumulates, forward and backward, of all trainings for this student.",
    "compute x": (
        "The plain curve is the student alone at several lengths of training. Compute x: all trainings for this "
        "student, as a multiple of none."
    ),
    "seeds": "Seeds: of the finished ones, those that have a plain curve, which alone are in the gains.",
    "gain (95 %)": "Gain: mIoU points above the seed's own plain curve at that compute, with Student's t interval.",
    "p": "p: by the exact sign-flip test, then adjusted by Holm for the number of methods.",
    "margin x": "Margin x: one more student of an existing teacher, and the gain at that compute.",
    "students": "Students: the number from which their common teacher pays off, or 'none' if no number suffices.",
    "teacher M": "Teacher M, GMACs: its millions of parameters, and multiply-accumulates for one crop.",
    "teacher s": "Teacher s: seconds of training before the student's own.",
    "step ms": (
        "Step ms: the student's training step without loading data (D_time), all methods in turns in one process."
    ),
    "MB": "MB: weights, optimizer state and the step's own peak.",
}
BEYOND = "beyond"
NOTE_BEYOND = f"'{BEYOND}': the plain curve was not trained so far."


def comparison_sheets(comparison: ComparisonResults) -> list[Sheet]:
    """Return the tables of accuracy and of cost, without columns that hold nothing."""
    none = comparison.methods[0]
    title = (
        f"{comparison.name}: {comparison.student} ({none.student.parameters / 1e6:.2f} M parameters, "
        f"{gmacs(none.student.macs)} GMACs), {comparison.iterations} steps"
    )
    sheets = [
        Sheet(title, ACCURACY, [_accuracy(row, none) for row in comparison.methods]),
        Sheet("Costs", COST, [_cost(row, none) for row in comparison.methods]),
    ]
    if any(row.test_mean is not None for row in comparison.methods):
        sheets.insert(1, Sheet("On the test split, the weights that are best on val", TEST, _tested(comparison)))
    judged = judged_rows(comparison)
    if judged:
        sheets.insert(1, Sheet("Against the plain student of equal compute", JUDGEMENT, [_judged(r) for r in judged]))
    return [sheet.without_empty_columns() for sheet in sheets]


def judged_rows(comparison: ComparisonResults) -> list[MethodRow]:
    """Return the methods that are judged against the plain curve: all but the student alone."""
    return [
        row
        for row in comparison.methods
        if row.compute_total is not None and (row.teacher is not None or row.gain_at_equal_total is not None)
    ]


def power_remark(comparison: ComparisonResults) -> str | None:
    """Return a sentence about what so few seeds can't show; None if there are enough."""
    judged = [row for row in comparison.methods if row.p_sign_flip is not None or row.marginal_p_sign_flip is not None]
    seeds = min((row.gain_seeds or len(row.mean_iou) for row in judged), default=None)
    if seeds is None or seeds >= fewest_seeds(LEVEL):
        return None
    return f"{seeds} seed{'s' * (seeds != 1)} can't give p < {LEVEL} in a two-sided sign-flip test: use {MORE_SEEDS}."


def existing_teachers(comparison: ComparisonResults) -> str | None:
    """Return a sentence about the teachers whose cost is not counted; None if all were trained here."""
    names = [f"'{row.name}'" for row in comparison.methods if row.teacher_existed]
    if not names:
        return None
    return f"The teacher of {', '.join(names)} was there before: what it has cost is not counted."


def verdict_lines(comparison: ComparisonResults) -> list[str]:
    """Return the verdict on each method, as a sentence."""
    return [row.verdict.sentence for row in comparison.methods if row.verdict is not None]


def compare_tables(comparison: ComparisonResults, width: int) -> list[Table]:
    """Return the tables for a terminal of so many columns, with the meaning of their own columns."""
    sheets = comparison_sheets(comparison)
    tables = [part.terminal() for sheet in sheets for part in sheet.parts(width)]
    caption = _notes(comparison, sheets)
    tables[-1].caption, tables[-1].caption_justify, tables[-1].caption_style = caption, "left", "none"
    return tables


def legend(sheets: Sequence[Sheet]) -> str:
    """Return the meaning of the columns of these tables."""
    columns = {column for sheet in sheets for column in sheet.columns}
    notes = [note for column, note in NOTES.items() if column in columns]
    is_beyond = any(BEYOND in row for sheet in sheets for row in sheet.rows)
    return " ".join([*notes, *([NOTE_BEYOND] if is_beyond else [])])


def compare_markdown(comparison: ComparisonResults) -> str:
    """Return the tables in Markdown, with the meaning of their columns and the machine."""
    sheets = comparison_sheets(comparison)
    notes = _notes(comparison, sheets)
    verdicts = verdict_lines(comparison)
    environment = comparison.environment
    measured = (
        f"Measured on {environment.gpu or environment.processor} ({environment.threads} threads), "
        f"torch {environment.packages['torch']}, by `{environment.command}`.\n"
    )
    return "\n".join(
        [
            f"# {comparison.name}: methods compared\n",
            *(f"## {sheet.markdown()}" for sheet in sheets),
            *(["".join(f"- {line}\n" for line in verdicts)] if verdicts else []),
            f"{notes}\n",
            measured,
        ]
    )


def compare_latex(comparison: ComparisonResults) -> str:
    """Return the tables in LaTeX with ``booktabs``."""
    return "\n".join(sheet.latex() for sheet in comparison_sheets(comparison))


def _notes(comparison: ComparisonResults, sheets: Sequence[Sheet]) -> str:
    return " ".join(filter(None, (legend(sheets), existing_teachers(comparison), power_remark(comparison))))


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
        _spread(row.last_mean, None),
        str(len(row.mean_iou)),
        format_difference(row.difference),
        f"{row.macs:.2e}",
        f"{row.macs / none.macs:.2f}",
    ]


def _tested(comparison: ComparisonResults) -> list[list[str]]:
    return [
        [row.name, _spread(row.test_mean, row.test_std), format_difference(row.test_difference)]
        for row in comparison.methods
    ]


def _judged(row: MethodRow) -> list[str]:
    assert row.compute_total is not None
    assert row.compute_marginal is not None
    finished = len(row.mean_iou)
    return [
        row.name,
        f"{row.compute_total:.2f}",
        "" if row.gain_seeds in (None, finished) else f"{row.gain_seeds} of {finished}",
        _gain(row.gain_at_equal_total, row.interval_t),
        _p(row.p_sign_flip),
        _p(row.p_holm),
        f"{row.compute_marginal:.2f}",
        _gain(row.gain_at_equal_marginal, row.marginal_interval_t),
        _students(row),
    ]


def _gain(gain: float | None, interval: tuple[float, float] | None) -> str:
    if gain is None:
        return BEYOND
    return format_difference(MeanInterval(gain, *(interval or (None, None))))


def _students(row: MethodRow) -> str:
    if row.teacher is None:
        return ""
    if row.teacher_existed:
        return "-"
    # Where the curve ends before the compute of one more student, it ends before that of every number of students.
    nothing = BEYOND if row.gain_at_equal_marginal is None else "none"
    return str(row.break_even_students or nothing)


def _p(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _cost(row: MethodRow, none: MethodRow) -> list[str]:
    teacher, step = row.teacher, row.step_ms
    return [
        row.name,
        f"{teacher.parameters / 1e6:.2f}" if teacher else "",
        gmacs(teacher.macs) if teacher else "",
        "" if row.teacher_seconds is None or teacher is None else f"{row.teacher_seconds:.0f}",
        "" if row.seconds is None else f"{row.seconds:.0f}",
        "" if step is None else f"{step:.1f}",
        "" if step is None or not none.step_ms else f"{step / none.step_ms:.2f}",
        "" if row.step_memory is None else f"{row.step_memory / 1e6:.0f}",
    ]


def _spread(mean: float | None, std: float | None) -> str:
    if mean is None:
        return ""
    return f"{100 * mean:.2f}" + ("" if std is None else f" ± {100 * std:.2f}")

"""A comparison of methods as tables: for the terminal, in Markdown and in LaTeX."""

from rich.table import Table

from ladseg.report.sheet import Sheet
from ladseg.results import ComparisonResults, MeanInterval, MethodRow

ACCURACY = ("method", "mIoU %", "n", "against none (95 %)", "MACs", "x none")
COST = ("method", "teacher M", "teacher GMACs", "teacher s", "student s", "step ms", "x none", "MB")
LEGEND = (
    "mIoU: best evaluation on val, mean ± standard deviation over n seeds. Against none: mean difference of equal "
    "seeds and its 95 % interval by Student's t. MACs: multiply-accumulates, forward and backward, of everything that "
    "was trained for this student. Teacher M, GMACs: its millions of parameters, multiply-accumulates for one "
    "crop. Teacher s: seconds of training before the student's own. Step ms: the student's training step without data "
    "(D_time), all methods in turns in one process. MB: weights, optimizer and the most that a step needs beside them."
)


def comparison_sheets(comparison: ComparisonResults) -> list[Sheet]:
    """Return the tables of accuracy and of cost."""
    none = comparison.methods[0]
    title = (
        f"{comparison.name}: {comparison.student} ({none.student.parameters / 1e6:.2f} M parameters, "
        f"{none.student.macs / 1e9:.2f} GMACs), {comparison.iterations} steps"
    )
    return [
        Sheet(title, ACCURACY, [_accuracy(row, none) for row in comparison.methods]),
        Sheet("What it costs", COST, [_cost(row, none) for row in comparison.methods]),
    ]


def compare_tables(comparison: ComparisonResults) -> list[Table]:
    """Return the tables for the terminal, with what their columns mean."""
    tables = [sheet.terminal() for sheet in comparison_sheets(comparison)]
    tables[-1].caption, tables[-1].caption_justify, tables[-1].caption_style = LEGEND, "left", "none"
    return tables


def compare_markdown(comparison: ComparisonResults) -> str:
    """Return the tables in Markdown, with what their columns mean and where they were measured."""
    sheets = [f"## {sheet.markdown()}" for sheet in comparison_sheets(comparison)]
    environment = comparison.environment
    measured = (
        f"Measured on {environment.gpu or environment.processor} ({environment.threads} threads), "
        f"torch {environment.packages['torch']}, by `{environment.command}`.\n"
    )
    return "\n".join([f"# {comparison.name}: methods compared\n", *sheets, f"{LEGEND}\n", measured])


def compare_latex(comparison: ComparisonResults) -> str:
    """Return the tables in LaTeX with ``booktabs``."""
    return "\n".join(sheet.latex() for sheet in comparison_sheets(comparison))


def format_difference(difference: MeanInterval | None) -> str:
    """Return a paired difference and its interval in points; an empty text without one."""
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

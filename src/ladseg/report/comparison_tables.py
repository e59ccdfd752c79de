"""A comparison of methods as tables: for the terminal, in Markdown and in LaTeX."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE
from rich.table import Table


@dataclass(frozen=True)
class Sheet:
    """One table as words.

    Attributes:
        title: What it shows.
        heads: Of the columns; the first one names the method.
        rows: A cell a column.
    """

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


ACCURACY = ("method", "mIoU %", "n", "against none (95 %)", "MACs", "x none")
COST = ("method", "teacher M", "teacher GMACs", "teacher s", "student s", "step ms", "x none", "MB")


def sheets(comparison: dict[str, Any]) -> list[Sheet]:
    """Accuracy and cost; ``comparison`` as :func:`ladseg.comparison.compare` returns it."""
    rows = comparison["methods"]
    student = rows[0]["student"]
    title = (
        f"{comparison['name']}: {comparison['student']} ({student['parameters'] / 1e6:.2f} M parameters, "
        f"{student['macs'] / 1e9:.2f} GMACs), {comparison['iterations']} steps"
    )
    return [
        Sheet(title, ACCURACY, [_accuracy(row, rows[0]) for row in rows]),
        Sheet("What it costs", COST, [_cost(row, rows[0]) for row in rows]),
    ]


def compare_tables(comparison: dict[str, Any]) -> list[Table]:
    """The sheets for the terminal, and what their columns mean.

    Where it is narrow the names of methods are folded, never a figure cut.
    """
    tables = []
    for sheet in sheets(comparison):
        table = Table(title=sheet.title, title_justify="left", box=SIMPLE, show_edge=False, pad_edge=False)
        table.add_column(sheet.heads[0], overflow="fold")
        for head in sheet.heads[1:]:
            table.add_column(head.replace(" ", "\n", 1), justify="right", no_wrap=True)
        for row in sheet.rows:
            table.add_row(*row)
        tables.append(table)
    tables[-1].caption, tables[-1].caption_justify, tables[-1].caption_style = LEGEND, "left", "none"
    return tables


def compare_markdown(comparison: dict[str, Any]) -> str:
    """The sheets in Markdown, and what their columns mean."""
    parts = [f"# {comparison['name']}: methods compared\n"]
    for sheet in sheets(comparison):
        lines = [f"## {sheet.title}\n", _pipes(sheet.heads), _pipes(["---"] * len(sheet.heads))]
        parts.append("\n".join([*lines, *map(_pipes, sheet.rows)]) + "\n")
    environment = comparison["environment"]
    parts.append(f"{LEGEND}\n")
    parts.append(
        f"Measured on {environment['gpu'] or environment['processor']} ({environment['threads']} threads), "
        f"torch {environment['packages']['torch']}, by `{environment['command']}`.\n"
    )
    return "\n".join(parts)


def compare_latex(comparison: dict[str, Any]) -> str:
    """The sheets as LaTeX tables, for ``booktabs``."""
    return "\n".join(_latex(sheet) for sheet in sheets(comparison))


LEGEND = (
    "mIoU: best evaluation on val, mean ± standard deviation over n seeds. Against none: mean difference of equal "
    "seeds and its 95 % interval by Student's t. MACs: multiply-accumulates, forward and backward, of everything that "
    "was trained for this student. Teacher M, GMACs: its millions of parameters, multiply-accumulates for one "
    "crop. Teacher s: seconds of training before the student's own. Step ms: the student's training step without data "
    "(D_time), all methods in turns in one process. MB: weights, optimizer and the most that a step needs beside them."
)


def _accuracy(row: dict[str, Any], none: dict[str, Any]) -> list[str]:
    return [
        row["name"],
        _spread(row["mean"], row["std"]),
        str(len(row["mean_iou"])),
        difference_words(row["difference"]),
        f"{row['macs']:.2e}",
        f"{row['macs'] / none['macs']:.2f}",
    ]


def _cost(row: dict[str, Any], none: dict[str, Any]) -> list[str]:
    teacher, step = row["teacher"], row["step_ms"]
    return [
        row["name"],
        f"{teacher['parameters'] / 1e6:.2f}" if teacher else "",
        f"{teacher['macs'] / 1e9:.2f}" if teacher else "",
        "" if row["teacher_seconds"] is None else f"{row['teacher_seconds']:.0f}",
        "" if row["seconds"] is None else f"{row['seconds']:.0f}",
        "" if step is None else f"{step:.1f}",
        "" if step is None or not none["step_ms"] else f"{step / none['step_ms']:.2f}",
        "" if row["step_memory"] is None else f"{row['step_memory'] / 1e6:.0f}",
    ]


def _spread(mean: float | None, std: float | None) -> str:
    if mean is None:
        return ""
    return f"{100 * mean:.2f}" + ("" if std is None else f" ± {100 * std:.2f}")


def difference_words(difference: dict[str, float | None] | None) -> str:
    """A paired difference and its interval, in points; empty without one."""
    if difference is None:
        return ""
    mean, low, high = difference["mean"], difference["low"], difference["high"]
    assert mean is not None
    return f"{100 * mean:+.2f}" + ("" if low is None or high is None else f" [{100 * low:+.2f}, {100 * high:+.2f}]")


def _pipes(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _latex(sheet: Sheet) -> str:
    sides = "".join("l" if head == "method" else "r" for head in sheet.heads)
    lines = [
        "\\begin{table}",
        f"\\caption{{{_escaped(sheet.title)}}}",
        f"\\begin{{tabular}}{{{sides}}}",
        "\\toprule",
        _ampersands(sheet.heads),
        "\\midrule",
        *map(_ampersands, sheet.rows),
        "\\bottomrule",
        "\\end{tabular}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _ampersands(cells: Sequence[str]) -> str:
    return " & ".join(map(_escaped, cells)) + " \\\\"


def _escaped(text: str) -> str:
    for plain, latex in (("%", "\\%"), ("_", "\\_"), ("&", "\\&"), ("#", "\\#"), ("±", "$\\pm$")):
        text = text.replace(plain, latex)
    return text

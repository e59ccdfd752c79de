"""The figures of the paper's Tables 1 to 7, and beside them those of comparisons made here."""

import csv
from collections.abc import Iterator, Sequence
from importlib import resources
from itertools import groupby

from rich.box import SIMPLE
from rich.table import Table

from ladseg.results import ComparisonResults, MethodRow

TITLES = {
    "1": "Table 1: Cityscapes, pretrained students; step (D_time) on a V100 at 512x1024",
    "2": "Table 2: Cityscapes, students from scratch",
    "3": "Table 3: PASCAL VOC",
    "4": "Table 4: Cityscapes, more students",
    "5": "Table 5: more data sets",
    "6": "Table 6: Cityscapes, more teachers (lad+: label-assisted)",
    "7": "Table 7: Cityscapes, label-assisted teachers of the other size",
}
# Where a student's rows have teachers of several networks.
TEACHERS_DIFFER = ("6", "7")
HEADS = ("student, method", "paper", "gain", "test", "ms", "ours", "gain", "n", "ms")


def paper_rows() -> list[dict[str, str]]:
    """Return a row a figure: ``table``, ``layout``, ``start``, ``student``, ``method``, ``val``, ``test``, ``step_ms``.

    Methods have the names of ``ladseg compare``, and ``lad+MODEL`` is ``lad`` with a teacher of that network. What the
    paper does not give is empty.
    """
    text = (resources.files("ladseg.report") / "paper.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def paper_tables(comparisons: Sequence[ComparisonResults]) -> Iterator[Table]:
    """Yield a table for each of the paper's, with the figures of the comparisons beside the paper's where method,
    teacher, student, start and data are the same.
    """
    for number, group in groupby(paper_rows(), key=lambda row: row["table"]):
        table = Table(title=TITLES[number], title_justify="left", box=SIMPLE, show_edge=False, pad_edge=False)
        for index, head in enumerate(HEADS):
            table.add_column(head, justify="left" if index == 0 else "right", no_wrap=True)
        for row in group:
            gain = ""
            if row["method"] == "none":
                alone = float(row["val"])
                table.add_row(f"{row['student']}, {row['layout']}")
            else:
                gain = f"{float(row['val']) - alone:+.1f}"
            # The teacher is part of the name, and mostly the same for all rivals of a student.
            name = f"  {row['method'] if number in TEACHERS_DIFFER else row['method'].partition('+')[0]}"
            table.add_row(name, row["val"], gain, row["test"], row["step_ms"], *_ours(row, comparisons))
        yield table


def _ours(row: dict[str, str], comparisons: Sequence[ComparisonResults]) -> list[str]:
    for comparison in comparisons:
        start = "pretrained" if comparison.weights else "scratch"
        if (comparison.layout, start, comparison.student) != (row["layout"], row["start"], row["student"]):
            continue
        for method in comparison.methods:
            if method.mean is not None and _is_same(row["method"], method, row["student"]):
                spread = "" if method.std is None else f" ± {100 * method.std:.1f}"
                gain = "" if method.difference is None else f"{100 * method.difference.mean:+.1f}"
                step = "" if method.step_ms is None else f"{method.step_ms:.0f}"
                return [f"{100 * method.mean:.1f}{spread}", gain, str(len(method.mean_iou)), step]
    return ["", "", "", ""]


def _is_same(theirs: str, method: MethodRow, student: str) -> bool:
    """Return whether it is the paper's method; where the paper names no teacher, any that sees no label will do."""
    ours = method.name
    name, _, model = theirs.partition("+")
    if name == ours == "lad":
        return method.teacher is not None and (model or student) == method.teacher.model
    return ours == theirs or ("+" not in theirs and ours.startswith(f"{theirs}+") and not ours.endswith("+label"))

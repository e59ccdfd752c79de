"""The figures of the paper's tables, beside those of a user's comparisons."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import groupby

from rich.box import SIMPLE

from ladseg.recipe import Recipe
from ladseg.report.paper_match import known_differences, own_differences, published_differences
from ladseg.report.sheet import PlainTable
from ladseg.results import ComparisonResults, MethodRow

TITLES = {
    "1": "Table 1: Cityscapes, pretrained students; step (D_time) on a V100 at 512x1024",
    "2": "Table 2: Cityscapes, students from scratch",
    "3": "Table 3: PASCAL VOC",
    "4": "Table 4: Cityscapes, more students",
    "5": "Table 5: more data sets",
    "6": "Table 6: Cityscapes, more teachers (lad+: label-assisted)",
    "7": "Table 7: Cityscapes, label-assisted teachers of the other size",
    "8": "Table 8: Cityscapes, with and without the consistency loss (lad@consistency=0)",
    "9": "Table 9: Cityscapes, strength of the noise (lad@KEY=VALUE: in the recipe's teacher section)",
    "dinov2": "Section 4.2: DINOv2 with LoRA on PASCAL VOC, taught by OCRNet-W48",
}
# The tables in which a student's rows have different teachers.
TEACHERS_DIFFER = ("6", "7")
HEADS = ("student, method", "paper", "gain", "test", "ms", "ours", "gain", "n", "ms", "differs")


@dataclass(frozen=True)
class Compared:
    """A comparison made here.

    Attributes:
        results: Its figures.
        shared: The recipe that its methods share.
        trained: By method, the recipe of one of its runs.
    """

    results: ComparisonResults
    shared: Recipe
    trained: Mapping[str, Recipe]


def paper_rows() -> list[dict[str, str]]:
    """Return the rows of paper.csv, one for each result of the paper.

    ``recipe`` names the ready recipe with the published setting. Methods have the names of ``ladseg compare``;
    ``lad+MODEL`` is ``lad`` with a teacher of that network, ``lad@KEY=VALUE`` is ``lad`` with another value in the
    recipe's teacher section. ``teacher_val`` is the teacher's mIoU, ``kl`` the KL of Table 8, times 100. Values that
    the paper does not give are empty.
    """
    text = (resources.files("ladseg.report") / "paper.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def paper_tables(comparisons: Sequence[Compared]) -> Iterator[PlainTable]:
    """Yield each of the paper's tables, with the figures of comparisons beside the paper's.

    A figure is shown only if student, teacher, data, initial weights, schedule, preset and method are the published
    ones; otherwise the column ``differs`` names what is not. For a shown figure it names other known differences.

    Args:
        comparisons: The comparisons made here.
    """
    for number, group in groupby(paper_rows(), key=lambda row: row["table"]):
        lines: list[list[str]] = []
        for student, same_student in groupby(group, key=lambda row: (row["student"], row["layout"])):
            lines.append([", ".join(student), *[""] * (len(HEADS) - 1)])
            of_student = list(same_student)
            alone = next((float(row["val"]) for row in of_student if row["method"] == "none"), None)
            for row in of_student:
                gain = "" if alone is None or row["method"] == "none" else f"{float(row['val']) - alone:+.1f}"
                # The name includes the teacher, which is left out where all rivals of a student share it.
                name = f"  {row['method'] if number in TEACHERS_DIFFER else row['method'].partition('+')[0]}"
                lines.append([name, row["val"], gain, row["test"], row["step_ms"], *_ours(row, comparisons)])
        yield _filled_columns(TITLES[number], lines)


def _filled_columns(title: str, lines: Sequence[Sequence[str]]) -> PlainTable:
    """Return a table of the columns in which any line has a value."""
    table = PlainTable(title=title, title_justify="left", box=SIMPLE, show_edge=False, pad_edge=False)
    kept = [index for index in range(len(HEADS)) if any(line[index] for line in lines)]
    for index in kept:
        last = HEADS[index] == "differs"
        table.add_column(HEADS[index], justify="left" if index == 0 or last else "right", no_wrap=not last)
    for line in lines:
        table.add_row(*[line[index] for index in kept])
    return table


def _ours(row: dict[str, str], comparisons: Sequence[Compared]) -> list[str]:
    """Return the cells of the first comparison with the published setting, or else what differs in the first one."""
    reasons = ""
    for compared in comparisons:
        comparison = compared.results
        if (comparison.layout, comparison.student) != (row["layout"], row["student"]):
            continue
        for method in comparison.methods:
            if method.mean is None or not _is_same(row["method"], method, row["student"]):
                continue
            differences = published_differences(row, compared.shared)
            differences += own_differences(row["method"], compared.trained.get(method.name))
            if not differences:
                spread = "" if method.std is None else f" ± {100 * method.std:.1f}"
                gain = "" if method.difference is None else f"{100 * method.difference.mean:+.1f}"
                step = "" if method.step_ms is None else f"{method.step_ms:.0f}"
                known = "; ".join(known_differences(row["recipe"], row["method"]))
                return [f"{100 * method.mean:.1f}{spread}", gain, str(len(method.mean_iou)), step, known]
            reasons = reasons or f"not the published {'; '.join(differences)}"
    return ["", "", "", "", reasons]


def _is_same(theirs: str, method: MethodRow, student: str) -> bool:
    """Return whether a method is the paper's; if the paper names no teacher, accept any that sees no label."""
    ours = method.name
    name, _, model = theirs.partition("+")
    if name == ours == "lad":
        return method.teacher is not None and (model or student) == method.teacher.model
    return ours == theirs or ("+" not in theirs and ours.startswith(f"{theirs}+") and not ours.endswith("+label"))

"""A reproduced table of the paper, and its conversion to text and to a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from string import ascii_lowercase

from ladseg.report.page import file_uri, machine, render
from ladseg.report.sheet import Sheet
from ladseg.results import Environment, MeanInterval

TINY = "Tiny networks, built-in scenes, few steps: these figures say nothing about the paper."
LEGEND = (
    "Paper: the printed mIoU on val, %. Gain: points above the student alone. Ours: best evaluation on val, mean ± "
    "standard deviation over n seeds. Teacher: its mIoU with its own inputs. mKL: mean KL between three draws of the "
    "teacher's noise, times 100. ms: of the student's training step (theirs on a V100). lad@KEY=VALUE: LAD with that "
    "in the recipe's teacher section; lad+MODEL: LAD with a teacher of that network."
)


@dataclass(frozen=True)
class PaperFigures:
    """The figures that the paper prints in a row; None where it prints none.

    Attributes:
        val: mIoU on the validation split, %.
        test: mIoU on the test split, %.
        teacher: mIoU of the teacher, %.
        kl: mKL of Table 8, times 100.
        step_ms: Milliseconds of a training step.
    """

    val: float
    test: float | None
    teacher: float | None
    kl: float | None
    step_ms: float | None


@dataclass(frozen=True)
class OurFigures:
    """The measured figures of a row, over the seeds that have finished; scores are in 0..1.

    Attributes:
        mean_iou: mIoU of the student by seed.
        std: Standard deviation; None for fewer than two seeds.
        gain: Paired difference from the student alone; None without it.
        teacher: Mean mIoU of the teacher; None without one.
        kl: Mean KL between draws of the teacher's noise in nats; None for a teacher that sees no label.
        step_ms: Milliseconds of a training step; None if it was not timed.
    """

    mean_iou: dict[int, float]
    std: float | None
    gain: MeanInterval | None
    teacher: float | None
    kl: float | None
    step_ms: float | None

    @property
    def mean(self) -> float:
        """The mean mIoU of the student."""
        return sum(self.mean_iou.values()) / len(self.mean_iou)


@dataclass(frozen=True)
class ReproducedRow:
    """A row of the table.

    Attributes:
        recipe: Name of the ready recipe.
        student: Name of the student's network in the paper's terms.
        layout: The data set.
        method: Its name in paper.csv.
        paper: The printed figures.
        ours: The measured figures; None before a seed has finished.
        differs: Known differences from the published setting.
    """

    recipe: str
    student: str
    layout: str
    method: str
    paper: PaperFigures
    ours: OurFigures | None
    differs: list[str]


@dataclass(frozen=True)
class ReproducedTable:
    """The table.

    Attributes:
        name: Its name, such as ``table-4``.
        title: Its title.
        remark: A caveat about its figures; empty for a full reproduction.
        rows: Its rows, in the paper's order.
        environment: The software and machine.
    """

    name: str
    title: str
    remark: str
    rows: list[ReproducedRow]
    environment: Environment

    @property
    def sheets(self) -> list[Sheet]:
        """The table as plain text, with letters for the differences."""
        letters = self._letters()
        alone = {row.recipe: row.paper.val for row in self.rows if row.method == "none"}
        columns = ["method", "paper", "gain", "ours", "gain", "n", "paper teacher", "our teacher"]
        columns += ["paper mKL", "our mKL", "paper ms", "our ms", "differs"]
        lines = [
            Sheet(
                f"{student} on {layout}{', in miniature' if self.remark else ''}",
                columns,
                [_line(row, alone.get(row.recipe), letters) for row in rows],
            ).without_empty_columns()
            for (student, layout), rows in _students(self.rows)
        ]
        return lines if self.name != "table-9" else [*lines, _as_printed(self.rows)]

    @property
    def differences(self) -> list[str]:
        """The differences from the published settings, each after its letter."""
        return [f"{letter}: {text}" for text, letter in self._letters().items()]

    def _letters(self) -> dict[str, str]:
        texts = dict.fromkeys(text for row in self.rows for text in row.differs)
        names = [first + second for first in ("", *ascii_lowercase) for second in ascii_lowercase]
        return dict(zip(texts, names, strict=False))

    @property
    def heading(self) -> str:
        """The title, with the remark."""
        return f"{self.title}. {self.remark}" if self.remark else self.title


def _students(rows: Sequence[ReproducedRow]) -> list[tuple[tuple[str, str], list[ReproducedRow]]]:
    return [(key, list(group)) for key, group in groupby(rows, key=lambda row: (row.student, row.layout))]


def _line(row: ReproducedRow, alone: float | None, letters: dict[str, str]) -> list[str]:
    paper, ours = row.paper, row.ours
    has_gain = alone is not None and row.method != "none"
    cells = [row.method, f"{paper.val:.1f}", f"{paper.val - (alone or 0):+.1f}" if has_gain else ""]
    if ours is None:
        cells += ["", "", "0"]
    else:
        spread = "" if ours.std is None else f" ± {100 * ours.std:.2f}"
        gain = "" if ours.gain is None else f"{100 * ours.gain.mean:+.2f}"
        cells += [f"{100 * ours.mean:.2f}{spread}", gain, str(len(ours.mean_iou))]
    cells += [
        _one(paper.teacher),
        _one(ours.teacher if ours else None, 100),
        _one(paper.kl),
        _one(ours.kl if ours else None, 100),
    ]
    cells += [_one(paper.step_ms, digits=0), _one(ours.step_ms if ours else None, digits=1)]
    return [*cells, " ".join(letters[text] for text in row.differs)]


def _one(value: float | None, scale: float = 1, digits: int = 1) -> str:
    return "" if value is None else f"{scale * value:.{digits}f}"


def alpha_of(method: str) -> float:
    """Return the noise strength of a method of Table 9."""
    return float(method.partition("alpha=")[2] or 0.01)


def halves(rows: Sequence[ReproducedRow]) -> list[tuple[str, list[ReproducedRow]]]:
    """Return the two halves of Table 9 with their names, each by ascending noise strength."""
    with_ = [row for row in rows if "class_weights=none" not in row.method]
    without = [row for row in rows if "class_weights=none" in row.method]
    named = {"class-wise noise": with_, "no class-wise noise": without}
    return [(name, sorted(half, key=lambda row: alpha_of(row.method))) for name, half in named.items()]


def _as_printed(rows: Sequence[ReproducedRow]) -> Sheet:
    """Return Table 9 as the paper prints it, with a column for each noise strength."""
    order = [(name, row) for name, half in halves(rows) for row in half]
    columns = [
        "mIoU",
        *(f"{'with' if name == 'class-wise noise' else 'w/o'} {alpha_of(r.method):g}" for name, r in order),
    ]
    lines = {
        "teacher, paper": [_one(row.paper.teacher) for _, row in order],
        "teacher, ours": [_one(row.ours.teacher if row.ours else None, 100) for _, row in order],
        "student, paper": [_one(row.paper.val) for _, row in order],
        "student, ours": [_one(row.ours.mean if row.ours else None, 100) for _, row in order],
    }
    return Sheet(
        "As printed: with and without class-wise noise, by alpha", columns, [[k, *v] for k, v in lines.items()]
    )


def reproduced_markdown(table: ReproducedTable) -> str:
    """Return the table in Markdown, with the meaning of its columns and letters."""
    parts = [f"# {table.heading}\n", *(f"## {sheet.markdown()}" for sheet in table.sheets), f"{LEGEND}\n"]
    parts += ["\n".join(f"- {line}" for line in table.differences) + "\n"] if table.differences else []
    return "\n".join([*parts, f"Made by `{table.environment.command}`. {machine(table.environment)}\n"])


def reproduced_latex(table: ReproducedTable) -> str:
    """Return the table in LaTeX with ``booktabs``; every caption has the remark."""
    titled = [Sheet(f"{table.heading} {sheet.title}", sheet.columns, sheet.rows) for sheet in table.sheets]
    return "\n".join([*(sheet.latex() for sheet in titled), *(f"% {line}" for line in table.differences)]) + "\n"


def reproduced_page(table: ReproducedTable, plot: Path | None) -> str:
    """Return the table as a self-contained page.

    Args:
        table: The table.
        plot: A PNG to show; None for none.
    """
    return render(
        "reproduced.html",
        title=table.title,
        remark=table.remark,
        sheets=table.sheets,
        legend=LEGEND,
        differences=table.differences,
        plot=file_uri(plot) if plot else None,
        command=table.environment.command,
        machine=machine(table.environment),
    )

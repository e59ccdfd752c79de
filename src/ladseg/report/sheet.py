"""A table of plain text, for the terminal, in Markdown and in LaTeX."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

from rich.box import SIMPLE
from rich.table import Table

from ladseg.errors import printable

# The most characters of a number with its interval, such as "+1.23 [-12.34, +12.34]".
FIGURE = 24
# In the terminal, the characters that a name or a long text is folded to at the least, and those between columns.
FOLDED, GAP = 12, 3
LATEX = {letter: f"\\{letter}" for letter in "%_&#${}"} | {
    "±": "$\\pm$",
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
}


class PlainTable(Table):
    """A table of rich whose texts have their control characters escaped: names are other people's."""

    def __init__(self, *headers: str, title: str | None = None, caption: str | None = None, **options: Any) -> None:
        super().__init__(*headers, title=_lines(title), caption=_lines(caption), **options)

    def add_row(self, *cells: Any, **options: Any) -> None:
        """Add a row; its texts are escaped."""
        super().add_row(*(_lines(cell) if isinstance(cell, str) else cell for cell in cells), **options)


@dataclass(frozen=True)
class Sheet:
    """A table of plain text.

    Attributes:
        title: One line about its content.
        columns: Headings of the columns.
        rows: Rows with one cell per column.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def without_empty_columns(self) -> "Sheet":
        """Return the table without columns whose cells are all empty."""
        kept = [number for number in range(len(self.columns)) if any(row[number] for row in self.rows)]
        return Sheet(self.title, [self.columns[n] for n in kept], [[row[n] for n in kept] for row in self.rows])

    def parts(self, width: int) -> list["Sheet"]:
        """Return the table in as many parts as fit a terminal's width, each with the first column."""
        cells = [[*head.split(" ", 1), *values] for head, *values in zip(self.columns, *self.rows, strict=True)]
        widths = [max(map(len, texts)) for texts in cells]
        first, *others = [min(w, FOLDED) if n == 0 or w > FIGURE else w for n, w in enumerate(widths)]
        parts: list[list[int]] = [[0]]
        used = first
        for number, needed in enumerate(others, 1):
            if used + GAP + needed > width and len(parts[-1]) > 1:
                parts.append([0])
                used = first
            parts[-1].append(number)
            used += GAP + needed
        return [
            Sheet(
                self.title + ", continued" * (place > 0),
                [self.columns[n] for n in kept],
                [[row[n] for n in kept] for row in self.rows],
            )
            for place, kept in enumerate(parts)
        ]

    def terminal(self) -> Table:
        """Return the table for a rich console; names and long texts may wrap, numbers do not."""
        table = PlainTable(title=self.title, title_justify="left", box=SIMPLE, show_edge=False, pad_edge=False)
        table.add_column(self.columns[0], overflow="fold")
        for number, column in enumerate(self.columns[1:], 1):
            short = all(len(row[number]) <= FIGURE for row in self.rows)
            table.add_column(
                column.replace(" ", "\n", 1), justify="right" if short else "left", overflow="fold", no_wrap=short
            )
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """Return the table in Markdown, under its title."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        rows = "\n".join(f"| {' | '.join(map(_in_markdown, cells))} |" for cells in lines)
        return f"{_lines(self.title)}\n\n{rows}\n"

    def latex(self) -> str:
        """Return the table in LaTeX with ``booktabs``."""
        lines = [
            "\\begin{table}",
            f"\\caption{{{_escaped(self.title)}}}",
            f"\\begin{{tabular}}{{l{'r' * (len(self.columns) - 1)}}}",
            "\\toprule",
            _ampersands(self.columns),
            "\\midrule",
            *map(_ampersands, self.rows),
            "\\bottomrule",
            "\\end{tabular}",
            "\\end{table}",
        ]
        return "\n".join(lines) + "\n"


def _ampersands(cells: Sequence[str]) -> str:
    return " & ".join(map(_escaped, cells)) + " \\\\"


def _escaped(text: str) -> str:
    return "".join(LATEX.get(letter, letter) for letter in _lines(text))


def _in_markdown(text: str) -> str:
    return _lines(text).replace("|", "\\|")


@overload
def _lines(text: str) -> str: ...
@overload
def _lines(text: None) -> None: ...
def _lines(text: str | None) -> str | None:
    """Return the text with all control characters escaped but the ends of lines."""
    return None if text is None else "\n".join(map(printable, text.split("\n")))

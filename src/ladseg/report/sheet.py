"""A table of plain text, for the terminal, in Markdown and in LaTeX."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE
from rich.table import Table

# The most characters of a number with its interval, such as "+1.23 [-12.34, +12.34]".
FIGURE = 24


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

    def terminal(self) -> Table:
        """Return the table for a rich console; names and long texts may wrap, numbers do not."""
        table = Table(title=self.title, title_justify="left", box=SIMPLE, show_edge=False, pad_edge=False)
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
        return f"{self.title}\n\n" + "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"

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
    for plain, latex in (("%", "\\%"), ("_", "\\_"), ("&", "\\&"), ("#", "\\#"), ("±", "$\\pm$")):
        text = text.replace(plain, latex)
    return text

"""Print on the terminal, so that users' names of files, classes and runs act neither as markup nor as control codes."""

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ladseg.errors import printable
from ladseg.folding import folded

if TYPE_CHECKING:
    from ladseg.report.sheet import Sheet

# Words are folded to no fewer characters than this, however narrow the terminal.
NARROWEST = 20


def escape_what_cannot_be_encoded() -> None:
    """Let standard output and error print names that are not UTF-8 or not in the terminal's encoding."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def print_line(line: str) -> None:
    """Print a line with its control characters escaped."""
    print(printable(line))


def print_paragraph(text: str, indent: int = 0) -> None:
    """Print sentences, folded between words on a terminal; a file or pipe gets them as one line.

    Args:
        text: The sentences.
        indent: Spaces before each line but the first.
    """
    line = printable(text)
    if sys.stdout.isatty():
        line = "\n".join(folded(line, max(terminal_width(), indent + NARROWEST), indent))
    print(line)


def print_note(line: str) -> None:
    """Print a line on standard error, apart from the command's output."""
    print(printable(line), file=sys.stderr, flush=True)


def print_sheets(sheets: Iterable["Sheet"]) -> None:
    """Print tables of plain text, in parts where the terminal is narrow."""
    width = terminal_width()
    print_tables(part.terminal() for sheet in sheets for part in sheet.parts(width))


def terminal_width() -> int:
    """Return the number of columns; 80 where the output is no terminal."""
    from rich.console import Console

    return Console().width


def print_tables(tables: Iterable[object]) -> None:
    """Print rich's tables, with an empty line after each."""
    from rich.console import Console

    console = Console(markup=False)
    for table in tables:
        console.print(table)
        console.print()

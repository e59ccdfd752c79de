"""Printing on the terminal: names of files, classes and runs are the user's, so they are neither markup nor codes."""

import sys
from collections.abc import Iterable

from ladseg.errors import printable


def escape_what_cannot_be_encoded() -> None:
    """Let standard output and error print names that are no UTF-8, or that the terminal's encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def print_line(line: str) -> None:
    """Print a line with its control characters escaped."""
    print(printable(line))


def print_note(line: str) -> None:
    """Print a line on standard error, which is not part of what the command prints."""
    print(printable(line), file=sys.stderr, flush=True)


def print_tables(tables: Iterable[object]) -> None:
    """Print tables of rich, an empty line after each."""
    from rich.console import Console

    console = Console(markup=False)
    for table in tables:
        console.print(table)
        console.print()

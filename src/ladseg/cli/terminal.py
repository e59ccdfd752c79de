"""What is printed on the terminal."""

from collections.abc import Iterable


def print_tables(tables: Iterable[object]) -> None:
    """Print tables of rich, an empty line after each."""
    from rich.console import Console

    console = Console()
    for table in tables:
        console.print(table)
        console.print()

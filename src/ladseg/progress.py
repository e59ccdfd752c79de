"""Show the progress of long work: bars in a terminal, a line every ten seconds elsewhere."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Column

# Seconds between two lines on a screen that is not a terminal.
QUIET = 10.0
# The moving display on the screen, if any; a terminal has room for one.
_shown: list[Progress] = []
T = TypeVar("T")


def progress(items: Iterable[T], total: int, title: str, unit: str) -> Iterator[T]:
    """Yield the items, and show how many are done, the time left, and how fast.

    Args:
        items: The items.
        total: Number of items.
        title: Name of the work.
        unit: Name of the items, in the plural.
    """
    is_part = bool(_shown)
    started = spoken = time.perf_counter()
    with display(Console(stderr=True)) as bars:
        task = bars.add_task(title, total=total, left="", state="")
        for done, item in enumerate(items, 1):
            yield item
            now = time.perf_counter()
            pace = done / max(now - started, 1e-9)
            left, state = f"{clock((total - done) / pace)} left", f"{pace:.3g} {unit}/s"
            bars.update(task, completed=done, left=left, state=state)
            if not bars.console.is_terminal and now - spoken >= QUIET:
                bars.console.print(f"{title}  {done}/{total}  {left}  {state}", soft_wrap=True)
                spoken = now
        if is_part:
            bars.remove_task(task)


@contextmanager
def display(console: Console, hidden: bool = False) -> Iterator[Progress]:
    """Within the context, show progress bars, which nested calls share.

    A task has the fields ``left``, the time left, and ``state``, which is cut off if the line is full.

    Args:
        console: The screen.
        hidden: Whether to show nothing, as on a screen that is not a terminal.
    """
    if _shown:
        yield _shown[-1]
        return
    bars = Progress(
        TextColumn("{task.description}"),
        MofNCompleteColumn(),
        BarColumn(bar_width=10),
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.fields[state]}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
        console=console,
        disable=hidden or not console.is_terminal,
        expand=True,
    )
    with bars:
        _shown.append(bars)
        try:
            yield bars
        finally:
            _shown.remove(bars)


def clock(seconds: float) -> str:
    """Return a duration as hours, minutes and seconds, such as ``0:01:05``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"

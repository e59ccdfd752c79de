"""Show the progress of long work: a bar in a terminal, a line every ten seconds elsewhere."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

# Seconds between two lines on a screen that is not a terminal.
QUIET = 10.0
T = TypeVar("T")


def progress(items: Iterable[T], total: int, title: str, unit: str) -> Iterator[T]:
    """Yield the items, and show how many are done, how fast, and the time left.

    Args:
        items: The items.
        total: Number of items.
        title: Name of the work.
        unit: Name of the items, in the plural.
    """
    console = Console(stderr=True)
    started = spoken = time.perf_counter()
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn())
    rate = TextColumn("{task.fields[rate]}")
    with Progress(*columns, rate, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=total, rate="")
        for done, item in enumerate(items, 1):
            yield item
            now = time.perf_counter()
            pace = done / max(now - started, 1e-9)
            bar.update(task, completed=done, rate=f"{pace:.3g} {unit}/s")
            if not console.is_terminal and now - spoken >= QUIET:
                left = time.strftime("%H:%M:%S", time.gmtime((total - done) / pace))
                console.print(f"{title}  {done}/{total}  {pace:.3g} {unit}/s  {left} left", soft_wrap=True)
                spoken = now

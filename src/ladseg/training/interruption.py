"""Ctrl-C in a training: the step is finished and a checkpoint is written."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interruption:
    """Whether Ctrl-C was pressed.

    Attributes:
        requested: Whether it was.
    """

    requested = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Take in the first SIGINT; the next one stops the process at once."""
        self.requested = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def interruption(several_processes: bool) -> Iterator[Interruption]:
    """Within the context, let the first Ctrl-C be a request to save and stop.

    Several processes would be interrupted at different steps and then wait for each other, so there it acts at once;
    and only the main thread can listen.
    """
    asked = Interruption()
    if several_processes or threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.signal(signal.SIGINT, asked)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)

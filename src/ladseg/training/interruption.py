"""Handle Ctrl-C in a training: finish the step and write a checkpoint."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interruption:
    """A signal handler that remembers Ctrl-C.

    Attributes:
        requested: Whether Ctrl-C was pressed.
    """

    requested = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Record the first SIGINT, and let the next one stop the process at once."""
        self.requested = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def interruption(several_processes: bool) -> Iterator[Interruption]:
    """Within the context, turn the first Ctrl-C into a request to save and stop.

    With several processes it acts at once, because they would stop at different steps and wait for each other. Only the
    main thread can handle signals.
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

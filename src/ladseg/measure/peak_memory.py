"""Measure peak memory, by a GPU's allocator or by Linux's count of resident pages."""

import ctypes
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch


class PeakMemory:
    """Measures the peak of memory from the creation of this object on.

    Args:
        device: The device whose memory is measured; for ``cpu`` it is that of this process.
        trim: Whether to return freed memory to the system first, so that :attr:`added` includes all new allocations.
    """

    def __init__(self, device: torch.device, trim: bool = False) -> None:
        self.device = device
        self.before: int | None = None
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
            self.before = torch.cuda.memory_allocated(device)
            return
        with suppress(OSError, AttributeError, KeyError):
            if trim:
                ctypes.CDLL("libc.so.6").malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the peak
            self.before = _status("VmRSS")

    @property
    def total(self) -> int | None:
        """Bytes at the peak; None if the system does not provide it."""
        if self.before is None:
            return None
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            return torch.cuda.max_memory_allocated(self.device)
        return _status("VmHWM")

    @property
    def added(self) -> int | None:
        """Bytes at the peak beyond those at the start; None if the system does not provide it."""
        total = self.total
        return None if total is None or self.before is None else max(0, total - self.before)


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(dict(line.split(":", 1) for line in lines)[key].split()[0]) * 1024


def added_by(run: Callable[[], object], device: torch.device) -> int | None:
    """Return the bytes that ``run`` allocates at its peak; None if the system does not provide it."""
    memory = PeakMemory(device, trim=True)
    run()
    return memory.added

"""Settings of glibc's allocator for a process that allocates and frees large arrays with every image."""

import ctypes
import os
import sys
from functools import cache

# glibc's parameter numbers, the largest M_MMAP_THRESHOLD it accepts, and the bytes of freed memory to keep.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_MMAP_THRESHOLD = 32 << 20
KEPT = 512 << 20


@cache
def keep_freed_memory() -> None:
    """Let glibc keep up to 512 MB of freed memory instead of returning it to the system.

    By default the float image of each sample is mapped, zeroed page by page by the kernel, and unmapped again, which
    takes longer than the arithmetic on it: the loader gave 77 instead of 179 images a second (docs/performance.md).
    Forked loader processes inherit the setting. It changes the whole process, so only the command line calls this.
    Nothing is done without glibc, or where the environment sets malloc's parameters itself.
    """
    if not sys.platform.startswith("linux") or any(name.startswith("MALLOC_") for name in os.environ):
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
    mallopt(M_TRIM_THRESHOLD, KEPT)

"""Memory that is freed and asked for again with each image stays with the process."""

import ctypes
import os
import sys
from functools import cache

# glibc's numbers of the two settings, and the largest value it takes for the first.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_MMAP_THRESHOLD = 32 << 20
KEPT = 512 << 20


@cache
def keep_freed_memory() -> None:
    """Let glibc keep up to 512 MB of freed memory instead of handing back every few megabytes.

    By default the float image of each sample is mapped, cleared page by page by the kernel, and unmapped again, which
    takes longer than the arithmetic on it: the loader gave 77 instead of 179 images a second (docs/performance.md).
    Loader processes that are forked inherit this. It changes the whole process, so only the command line calls it.
    Elsewhere than on glibc, or where the environment sets its own thresholds, nothing is done.
    """
    if not sys.platform.startswith("linux") or any(name.startswith("MALLOC_") for name in os.environ):
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
    mallopt(M_TRIM_THRESHOLD, KEPT)

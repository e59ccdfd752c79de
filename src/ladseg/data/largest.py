"""The largest image that is read: a damaged header may claim any size, for which there is no memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

CUT = "cut it into smaller ones, or ladseg predict --window, which reads as much as fits the memory"
# Bytes that a pixel takes while an image is decoded: Pillow's four, three in the array, and the class of each.
PIXEL_BYTES = 8


def too_many(pixels: int) -> str:
    """Say that an image has more pixels than are read; nothing if it hasn't."""
    if Image.MAX_IMAGE_PIXELS is None or pixels <= 2 * Image.MAX_IMAGE_PIXELS:  # as Pillow has it
        return ""
    return f"too large: {pixels:,} pixels, where {2 * Image.MAX_IMAGE_PIXELS:,} are the most"


@contextmanager
def as_large_as_memory() -> Iterator[None]:
    """Raise Pillow's limit of 179 million pixels, which guards against decompression bombs, to what fits the memory."""
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = max(limit or 0, free_memory() // PIXEL_BYTES // 2)
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def free_memory() -> int:
    """Return the bytes of memory that the system can still give."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))

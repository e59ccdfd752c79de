"""Images of other than three channels: TIFF files of many bands, grey images, and what a picture shows of them."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ladseg.data.largest import CUT, too_many
from ladseg.data.pairs import Source
from ladseg.errors import DataError, FileError, first_words

if TYPE_CHECKING:
    from torch import Tensor

TIFF = (".tif", ".tiff")
# The kinds of extra samples that are alpha: premultiplied or not.
ALPHA = {1, 2}


def is_tiff(source: Source) -> bool:
    """Return whether a file is called TIFF."""
    return Path(str(source)).suffix.lower() in TIFF


def read_tiff(source: Source) -> np.ndarray:
    """Return the first picture of a TIFF file, ``(H, W, C)`` as it is stored; bands may be interleaved or planes.

    Raises:
        FileError: It can't be read, or is no picture of height, width and bands.
        DataError: tifffile is not installed.
    """
    with _open_tiff(source) as file:
        series: Any = file.series[0]
        sides = dict(zip(series.axes, series.shape, strict=True))
        if reason := too_many(sides.get("Y", 1) * sides.get("X", 1)):
            raise FileError(source, f"can't be read as TIFF ({reason})", CUT)
        axes, pixels = series.axes, series.asarray()
    bands = axes.replace("Y", "").replace("X", "")
    if "Y" not in axes or "X" not in axes or len(bands) > 1:
        raise FileError(
            source, f"a TIFF of {'x'.join(map(str, pixels.shape))} ({axes})", "save height, width and bands"
        )
    order = [axes.index("Y"), axes.index("X"), *map(axes.index, bands)]
    return np.ascontiguousarray(pixels.transpose(order).reshape(pixels.shape[order[0]], pixels.shape[order[1]], -1))


def bands_in(source: Source) -> int:
    """Return the number of bands of a TIFF file that has more than red, green, blue and alpha; 3 for any other file."""
    if not is_tiff(source):
        return 3
    try:
        bands = read_tiff(source).shape[2]
        with _open_tiff(source) as file:
            alpha = {int(kind) for kind in file.pages[0].extrasamples} & ALPHA
    except DataError:
        return 3
    return bands if bands > 4 or (bands == 4 and not alpha) else 3


@contextmanager
def _open_tiff(source: Source) -> Iterator[Any]:
    """Open a file with tifffile; anything that goes wrong with it while it is open becomes a FileError."""
    try:
        import tifffile
    except ImportError:
        raise DataError("TIFF files of other than three channels need tifffile; pip install 'ladseg[tiff]'") from None
    try:
        with tifffile.TiffFile(source if isinstance(source, Path) else io.BytesIO(source.read_bytes())) as file:
            yield file
    except FileError:
        raise
    except MemoryError:
        raise FileError(source, "can't be read as TIFF (too large for the memory)", CUT) from None
    except Exception as error:  # decoders raise what they like on broken bytes
        raise FileError(source, f"can't be read as TIFF ({first_words(error)})", "replace or remove it") from None


def bands_of(image: Image.Image, channels: int) -> np.ndarray:
    """Return an upright image of Pillow's as ``(H, W, C)``, alpha as a band; for one channel colour becomes grey."""
    if channels == 1 and image.mode not in ("L", "1") and not image.mode.startswith(("I", "F")):
        image = image.convert("L")
    if image.mode in ("1", "P"):
        image = image.convert("L" if channels == 1 else "RGB")
    pixels = np.array(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def checked_bands(pixels: np.ndarray, channels: int, source: Source) -> np.ndarray:
    """Return the pixels if they are of ``channels`` bands, as uint8 or uint16.

    Raises:
        FileError: They are not.
    """
    if pixels.shape[2] != channels:
        bands = f"{pixels.shape[2]} channel{'s' * (pixels.shape[2] > 1)}"
        raise FileError(source, f"image has {bands}, but data.channels is {channels}", "correct data.channels")
    if pixels.dtype in (np.uint8, np.uint16):
        return pixels
    if pixels.dtype.kind in "iu" and pixels.min() >= 0 and pixels.max() <= 65535:
        return pixels.astype(np.uint16)
    what = f"image has values of type {pixels.dtype}, from {pixels.min():.6g} to {pixels.max():.6g}"
    raise FileError(source, what, "save it with 8 or 16 bits a channel, without negative values")


def shown(image: "Tensor") -> "Tensor":
    """Return what a picture shows of an image: its first three channels as red, green and blue, or the first as grey.

    Args:
        image: ``(C, H, W)`` uint8.

    Returns:
        ``(3, H, W)`` uint8.
    """
    return image[:3] if len(image) >= 3 else image[:1].expand(3, -1, -1)


def pictured(image: "Tensor") -> np.ndarray:
    """Return :func:`shown` as ``(H, W, 3)`` uint8."""
    return np.ascontiguousarray(shown(image).permute(1, 2, 0).numpy())


def as_bands(array: np.ndarray) -> "Tensor":
    """Return ``(H, W, C)`` or ``(H, W)`` as a tensor ``(C, H, W)``."""
    import torch  # late, as in ladseg.data.read

    return torch.from_numpy(np.ascontiguousarray(array if array.ndim == 3 else array[..., None])).permute(2, 0, 1)

"""Decode one image or mask; what can't be used is a FileError, which names it."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ladseg.data.classes import Color
from ladseg.data.pairs import Source
from ladseg.errors import FileError, first_words

# Pillow, not torchvision.io: torchvision deprecated its decoders in 0.29.


# The EXIF tag, and those of its values that turn the picture by a quarter.
ORIENTATION, QUARTER_TURNS = 0x0112, (5, 6, 7, 8)


class Header(NamedTuple):
    """What a file says of itself.

    Attributes:
        kind: Its format and mode, such as ``JPEG RGB``.
        frames: How many pictures it holds.
        turned: Whether its orientation turns the picture by a quarter.
    """

    kind: str
    frames: int = 1
    turned: bool = False


def read_image(source: Source) -> Tensor:
    """``(3, H, W)`` uint8 RGB; see :func:`decode_image`."""
    return torch.from_numpy(decode_image(source)[0]).permute(2, 0, 1)


def read_mask(source: Source, colors: tuple[Color, ...] | None = None) -> np.ndarray:
    """``(H, W)`` uint8 of the values in the file; see :func:`decode_mask`."""
    return decode_mask(source, colors)[0]


def decode_image(source: Source) -> tuple[np.ndarray, Header]:
    """``(H, W, 3)`` uint8 RGB, turned upright by its EXIF orientation, of an animation the first frame; and its header.

    Raises:
        FileError: Missing, truncated, not an image, or with more than 16 bits a channel.
    """
    with open_file(source, "an image") as image:
        return np.array(to_rgb(image, source)), _header(image)


def decode_mask(source: Source, colors: tuple[Color, ...] | None = None) -> tuple[np.ndarray, Header]:
    """``(H, W)`` uint8 of the values in the file, and its header.

    A palette PNG's values are its indices, not its colours; an RGB file of three equal channels is grey; 16-bit files
    do if their values fit 8 bits. Matlab files give their field S (COCO-Stuff) or GTcls.Segmentation (SBD).

    Args:
        source: The file.
        colors: The colours that stand for the values 0, 1, 2, ... in RGB files.

    Raises:
        FileError: Missing, truncated, values above 255, or colours that stand for nothing.
    """
    if isinstance(source, Path) and source.suffix.lower() == ".mat":
        return _eight_bits(_read_mat(source), source), Header("MAT")
    with open_file(source, "a mask") as image:
        header, mode = _header(image), image.mode
        if mode in ("P", "PA"):
            image = image if mode == "P" else image.getchannel(0)
        elif mode not in ("1", "L", "RGB") and not mode.startswith(("I", "F")):
            image = image.convert("RGB")
        values = np.array(_upright(image))
    if values.ndim == 3:
        return _from_colors(values, colors, source, mode), header
    if mode == "F":
        raise FileError(source, "mask holds floating-point values (mode F)", "save class ids as 8-bit PNG")
    return _eight_bits(values, source), header


def _header(image: Image.Image) -> Header:
    turned = image.getexif().get(ORIENTATION) in QUARTER_TURNS
    return Header(f"{image.format} {image.mode}", int(getattr(image, "n_frames", 1)), turned)


@contextmanager
def open_file(source: Source, kind: str) -> Iterator[Image.Image]:
    """The file, open; anything that goes wrong with it while it is becomes a FileError."""
    try:
        with warnings.catch_warnings():
            # Large is no fault by itself: from twice this size on, Pillow raises.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(source if isinstance(source, Path) else io.BytesIO(source.content)) as image:
                yield image
    except FileError:
        raise
    except Exception as error:  # decoders raise what they like on broken bytes: struct.error, IndexError, zlib.error
        raise FileError(source, f"can't be read as {kind} ({first_words(error)})", "replace or remove it") from None


def _upright(image: Image.Image) -> Image.Image:
    """Turned by its EXIF orientation; Pillow's own function copies what needs no turning."""
    return ImageOps.exif_transpose(image) if image.getexif().get(ORIENTATION, 1) != 1 else image


def to_rgb(image: Image.Image, source: Source | None = None) -> Image.Image:
    """An image of any mode as upright RGB of 8 bits.

    Raises:
        FileError: More than 16 bits a channel; ``source`` is what it names.
    """
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
        raise FileError(
            source or Path("image"), f"image has 32 bits a channel (mode {image.mode})", "save it with 8 or 16"
        )
    upright = _upright(image)
    if image.mode.startswith("I"):  # 16-bit grey, of which convert() would keep the low byte's range alone
        return Image.fromarray((np.array(upright).astype(np.uint32) >> 8).astype(np.uint8)).convert("RGB")
    if "transparency" in image.info and upright.mode == "P":
        upright = upright.convert("RGBA")
    return upright if upright.mode == "RGB" else upright.convert("RGB")


def _read_mat(path: Path) -> np.ndarray:
    from scipy.io import loadmat

    try:
        content: dict[str, Any] = loadmat(path, variable_names=("S", "GTcls", "names"))
    except Exception as error:  # as above
        what = f"can't be read as a Matlab file ({first_words(error)})"
        raise FileError(path, what, "replace or remove it") from None
    if "S" in content:
        # v1.1 has 182 names, as 'unlabeled' is not among them any more and 11 things are.
        if "names" in content and np.size(content["names"]) == 172:
            what = "COCO-Stuff 10K v1.0, whose ids 1..172 are others than v1.1's"
            raise FileError(path, what, "get cocostuff-10k-v1.1.zip")
        return _label_map(content["S"], "S", path)
    if "GTcls" in content:
        try:
            segmentation = content["GTcls"][0, 0]["Segmentation"]
        except (IndexError, ValueError, TypeError, KeyError):
            what = "GTcls of this Matlab file is no struct with a field Segmentation"
            raise FileError(path, what, "replace or remove it") from None
        return _label_map(segmentation, "GTcls.Segmentation", path)
    what = "no label map in this Matlab file (neither COCO-Stuff's S nor SBD's GTcls)"
    raise FileError(path, what, "replace or remove it")


def _label_map(values: Any, name: str, path: Path) -> np.ndarray:
    """Return a variable of a Matlab file as an array, if it is a matrix of real numbers."""
    array = np.asarray(values)
    if array.ndim != 2 or not array.size or array.dtype.kind not in "buif":
        shape = "x".join(map(str, array.shape))
        kind = {"V": "a struct", "O": "a cell array", "U": "a string", "S": "a string", "c": "a complex matrix"}
        found = kind.get(array.dtype.kind, "an array")
        what = f"{name} of this Matlab file is no matrix of class ids but {found} of {shape or 0}"
        raise FileError(path, what, "replace or remove it")
    return array


def _eight_bits(values: np.ndarray, source: Source) -> np.ndarray:
    if values.dtype == np.uint8:
        return values
    with np.errstate(invalid="ignore"):
        eight = values.astype(np.uint8)  # Matlab's are floating-point, of whole numbers
    if not np.array_equal(eight, values):
        raise FileError(
            source,
            f"mask has values up to {values.max():.15g}, more than 8 bits hold, or negative or broken ones",
            "save class ids of 0..255 (is it an instance mask?)",
        )
    return eight


def _from_colors(values: np.ndarray, colors: tuple[Color, ...] | None, source: Source, mode: str) -> np.ndarray:
    if colors is None:
        if np.array_equal(values[..., 0], values[..., 1]) and np.array_equal(values[..., 0], values[..., 2]):
            return np.ascontiguousarray(values[..., 0])
        raise FileError(
            source,
            f"mask is in colour (mode {mode})",
            "say which colour is which class with data.colors, "
            "or save one class id a pixel as 8-bit grey or palette PNG",
        )
    packed = values.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
    ids = _color_table(colors)[packed]
    if int(ids.max(initial=0)) > 255:
        strange = np.unique(packed[ids > 255])
        shown = ", ".join(str([int(c) >> 16, (int(c) >> 8) & 255, int(c) & 255]) for c in strange[:3])
        hint = "saved as JPEG or resized smoothly?" if len(strange) > 50 else "add them to data.colors"
        what = f"mask has colours that data.colors does not name ({len(strange)}, such as {shown})"
        raise FileError(source, what, hint)
    return ids.astype(np.uint8)


@lru_cache(maxsize=2)
def _color_table(colors: tuple[Color, ...]) -> np.ndarray:
    """The mask value of each packed RGB colour; 256 for those that stand for nothing."""
    table = np.full(1 << 24, 256, dtype=np.uint16)
    for value, (red, green, blue) in enumerate(colors):
        table[(red << 16) | (green << 8) | blue] = value
    return table

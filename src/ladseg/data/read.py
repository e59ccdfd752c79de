"""Decode images and masks; a file that can't be used raises a FileError that names it."""

import io
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from ladseg.data.bands import bands_of, checked_bands, is_tiff, read_tiff
from ladseg.data.classes import Color
from ladseg.data.largest import CUT, too_many
from ladseg.data.pairs import Drawing, Source
from ladseg.data.spec import Range, Ranges
from ladseg.errors import FileError, first_words

if TYPE_CHECKING:
    from torch import Tensor

# This uses Pillow because torchvision deprecated the decoders of torchvision.io in 0.29.


# The EXIF orientation tag, and its values that rotate the picture by 90 degrees.
ORIENTATION, QUARTER_TURNS = 0x0112, (5, 6, 7, 8)


SIXTEEN_BITS: Range = (0, 65535)


class Header(NamedTuple):
    """Properties of an image or mask file.

    Attributes:
        kind: Its format and mode, such as ``JPEG RGB``.
        frames: Number of pictures in it.
        turned: Whether its EXIF orientation rotates the picture by 90 degrees.
        bits: Bits per channel, 8 or 16.
        values: Lowest and highest pixel value; None if not determined.
        of_channels: The same of each channel of an image with more than 8 bits.
        left_out: Which channels are not used, in words; empty if all are.
        encoding: How a mask is read: as ``ids``, or by the ``colors`` that a recipe names.
        palette: Colours ``(N, 3)`` of a palette mask that is read by its indices; N may be less than their number.
    """

    kind: str
    frames: int = 1
    turned: bool = False
    bits: int = 8
    values: Range | None = None
    of_channels: tuple[Range, ...] = ()
    left_out: str = ""
    encoding: str = ""
    palette: np.ndarray | None = None


def read_image(source: Source, value_range: Ranges | None = None, channels: int = 3) -> "Tensor":
    """Return ``(C, H, W)`` uint8; see :func:`decode_image`."""
    import torch  # not above: the commands that list layouts and tables read images' sizes, but need no torch

    return torch.from_numpy(decode_image(source, value_range, channels)[0]).permute(2, 0, 1)


def read_mask(source: Source, colors: tuple[Color, ...] | None = None) -> np.ndarray:
    """Return ``(H, W)`` uint8 of the values in the file; see :func:`decode_mask`."""
    return decode_mask(source, colors)[0]


def decode_image(source: Source, value_range: Ranges | None = None, channels: int = 3) -> tuple[np.ndarray, Header]:
    """Decode an image, rotate it upright by its EXIF orientation, and take the first frame of an animation.

    Args:
        source: The file.
        value_range: The values of files with 16 bits per channel that become 0 and 255, for all channels or for each;
            None for all 16 bits.
        channels: C; 3 is RGB, which files of any colours are converted to.

    Returns:
        The pixels, ``(H, W, 3)`` uint8 RGB, and the header.

    Raises:
        FileError: The file is missing, truncated, not an image, or has more than 16 bits per channel or another number
            of channels.
    """
    if channels != 3:
        return _decode_bands(source, value_range, channels)
    with open_file(source, "an image") as image:
        raw = _raw_mode(image)
        header = _header(image)
        if _is_16_bit(image, raw):
            values = _sixteen_bits(image, raw, source)
            header = _sixteen(header, values)
            eight = Image.fromarray(scale_to_8_bits(values, value_range))
            pixels = np.array(_upright_like(image, eight).convert("RGB"))
        else:
            pixels = np.array(to_rgb(image, source))
        return pixels, header._replace(left_out=_left_out(image, raw))


def _decode_bands(source: Source, value_range: Ranges | None, channels: int) -> tuple[np.ndarray, Header]:
    """:func:`decode_image` of other than three channels."""
    if is_tiff(source):
        pixels, header = read_tiff(source), Header("TIFF")
    else:
        with open_file(source, "an image") as image:
            header, pixels = _header(image), bands_of(_upright(image), channels)
    pixels = checked_bands(pixels, channels, source)
    if pixels.dtype == np.uint16:
        header = _sixteen(header, pixels)
        pixels = scale_to_8_bits(pixels, value_range)
    return pixels, header._replace(kind=f"{header.kind} of {channels} channel{'s' * (channels > 1)}")


def _sixteen(header: Header, values: np.ndarray) -> Header:
    """Add to a header the extremes of an image with 16 bits per channel, ``(H, W)`` or ``(H, W, C)``."""
    channels = values.reshape(-1, 1 if values.ndim == 2 else values.shape[2])
    extremes = tuple(zip(channels.min(0).tolist(), channels.max(0).tolist(), strict=True))
    lowest, highest = zip(*extremes, strict=True)
    return header._replace(bits=16, values=(min(lowest), max(highest)), of_channels=extremes)


def scale_to_8_bits(values: np.ndarray, value_range: Ranges | None = None) -> np.ndarray:
    """Map a range of values linearly to 0..255, uint8, and clip values outside it.

    Args:
        values: ``(H, W)`` or ``(H, W, C)``; with one range per channel, a grey image gets as many channels.
        value_range: As in :func:`decode_image`.
    """
    low, high = np.array(value_range or SIXTEEN_BITS).T
    if low.ndim and values.ndim == 2:
        values = values[..., None]
    clipped = np.clip(values, low.astype(values.dtype), high.astype(values.dtype)).astype(np.float32)
    return np.rint((clipped - low.astype(np.float32)) * np.float32(255 / (high - low))).astype(np.uint8)


def decode_mask(source: Source, colors: tuple[Color, ...] | None = None) -> tuple[np.ndarray, Header]:
    """Decode a mask.

    Without ``colors``, the values of a palette PNG are its indices, and an RGB file with three equal channels is grey.
    With ``colors``, the mask is read by colour, palette files too; a grey or 1-bit file is read by colour if all of its
    greys are named, else its values are ids. A 16-bit file is accepted if its values fit 8 bits. A Matlab file gives
    its field S (COCO-Stuff) or GTcls.Segmentation (SBD). Drawings draw themselves.

    Args:
        source: The file.
        colors: The colours that stand for the values 0, 1, 2, ...

    Returns:
        The values, ``(H, W)`` uint8, and the header.

    Raises:
        FileError: The file is missing or truncated, has values above 255, or has colours that are not named.
    """
    if isinstance(source, Drawing):
        drawn, left_out = source.draw()
        return drawn, Header(source.kind, left_out=left_out, encoding="ids")
    if isinstance(source, Path) and source.suffix.lower() == ".mat":
        return _eight_bits(_read_mat(source), source), Header("MAT", encoding="ids")
    with open_file(source, "a mask") as image:
        header, mode, entries = _header(image), image.mode, None
        usable: Image.Image
        if mode in ("P", "PA") and colors is None:
            entries = _palette_entries(image)
            usable = image if mode == "P" else image.getchannel(0)
        elif mode in ("1", "L", "RGB") or mode.startswith(("I", "F")):
            usable = image
        else:
            usable = image.convert("RGB")
        values = np.array(_upright(usable))
    if values.ndim == 3:
        encoding = "ids" if colors is None else "colors"
        return _from_colors(values, colors, source, mode), header._replace(encoding=encoding)
    if mode == "F":
        raise FileError(source, "mask holds floating-point values (mode F)", "save class ids as 8-bit PNG")
    if colors is not None and mode in ("1", "L"):
        by_color = _from_greys(values, colors)
        if by_color is not None:
            return by_color, header._replace(encoding="colors")
    ids = _eight_bits(values, source)
    header = header._replace(encoding="1-bit ids" if mode == "1" else "ids")
    return ids, header._replace(palette=entries)


def _palette_entries(image: Image.Image) -> np.ndarray:
    """Return the colours of a palette image, ``(N, 3)`` uint8; N may be less than the number of indices."""
    content = image.palette.getdata()[1] if image.palette is not None else b""
    channels = len(image.palette.mode) if image.palette is not None else 3
    whole = len(content) // channels * channels
    return np.frombuffer(bytes(content[:whole]), np.uint8).reshape(-1, channels)[:, :3]


def _from_greys(values: np.ndarray, colors: tuple[Color, ...]) -> np.ndarray | None:
    """Read a grey or 1-bit file by its colours; return None if one of its greys is not named."""
    greys = values.astype(np.uint8) * 255 if values.dtype == bool else values
    ids = _color_table(colors)[greys * np.uint32(0x010101)]
    return None if int(ids.max(initial=0)) > 255 else ids.astype(np.uint8)


def _raw_mode(image: Image.Image) -> str:
    """Return the pixel format in the file, which Pillow tells only before it has decoded them."""
    tiles = getattr(image, "tile", None)
    args = tiles[0].args if tiles else ""
    return str(args[0] if isinstance(args, tuple) and args else args)


def _is_16_bit(image: Image.Image, raw: str) -> bool:
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG") or ";16" in raw


def _sixteen_bits(image: Image.Image, raw: str, source: Source) -> np.ndarray:
    """Return the pixels of a 16-bit file, ``(H, W)`` or ``(H, W, 3)`` uint16, not yet rotated upright."""
    if image.mode.startswith("I") or not raw.startswith("RGB"):
        grey = np.array(image) if image.mode.startswith("I") else np.array(image.convert("RGB")).astype(np.uint16) * 257
        return grey.astype(np.uint16)
    # Pillow keeps the high byte of each value. Decoding the file again with swapped byte order gives the low bytes.
    high = np.array(image.convert("RGB")).astype(np.uint16)
    little_endian = raw.endswith("L") or (raw.endswith("N") and sys.byteorder == "little")
    swapped = raw[:-1] + ("B" if little_endian else "L")
    with open_file(source, "an image") as again:
        again.tile = [tile._replace(args=_with_raw_mode(tile.args, swapped)) for tile in again.tile]
        return high << 8 | np.array(again.convert("RGB"))


def _with_raw_mode(args: Any, raw: str) -> Any:
    return (raw, *args[1:]) if isinstance(args, tuple) else raw


def _left_out(image: Image.Image, raw: str) -> str:
    """Return in words which channels of an image are dropped although they hold something."""
    extra = raw.split(";")[0].count("X")
    if extra and image.format == "TIFF":
        return f"{extra} more channel{'s' * (extra > 1)} than three"
    if image.mode in ("RGBA", "LA") and image.getextrema()[-1][0] < 255:  # type: ignore[index]
        return "an alpha channel that is not opaque everywhere"
    return ""


def _header(image: Image.Image) -> Header:
    turned = image.getexif().get(ORIENTATION) in QUARTER_TURNS
    return Header(f"{image.format} {image.mode}", int(getattr(image, "n_frames", 1)), turned)


@contextmanager
def open_file(source: Source, kind: str) -> Iterator[ImageFile.ImageFile]:
    """Open a file, and turn any exception while it is open into a FileError."""
    try:
        with warnings.catch_warnings():
            # A large image is not a fault; Pillow itself raises from twice this size on.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(source if isinstance(source, Path) else io.BytesIO(source.read_bytes())) as image:
                yield image
    except FileError:
        raise
    except FileNotFoundError:
        reason = "no such file, or a link to none"
        raise FileError(source, f"can't be read as {kind} ({reason})", "correct its name or restore it") from None
    except Image.DecompressionBombError as error:
        pixels = int(re.findall(r"\d+", str(error))[0])
        raise FileError(source, f"can't be read as {kind} ({too_many(pixels)})", CUT) from None
    except MemoryError:
        raise FileError(source, f"can't be read as {kind} (too large for the memory)", CUT) from None
    except Exception as error:  # broken bytes make decoders raise anything: struct.error, IndexError, zlib.error
        # Pillow's message for an unknown format would name the buffer.
        known = not isinstance(error, UnidentifiedImageError)
        reason = first_words(error) if known else "its format is not known, or it is damaged"
        raise FileError(source, f"can't be read as {kind} ({reason})", "replace or remove it") from None


def _upright(image: Image.Image) -> Image.Image:
    """Rotate an image upright by its EXIF orientation; unlike Pillow's function, don't copy an upright one."""
    return ImageOps.exif_transpose(image) if image.getexif().get(ORIENTATION, 1) != 1 else image


def _upright_like(image: Image.Image, pixels: Image.Image) -> Image.Image:
    """Rotate pixels that were read from ``image`` upright by its EXIF orientation."""
    pixels.getexif()[ORIENTATION] = image.getexif().get(ORIENTATION, 1)
    return _upright(pixels)


def to_rgb(image: Image.Image, source: Source | None = None, value_range: Ranges | None = None) -> Image.Image:
    """Convert an image of any mode to upright 8-bit RGB.

    Args:
        image: The image.
        source: The file, for the error message.
        value_range: As in :func:`decode_image`, for 16-bit grey.

    Raises:
        FileError: The image has more than 16 bits per channel.
    """
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
        raise FileError(
            source or Path("image"), f"image has 32 bits a channel (mode {image.mode})", "save it with 8 or 16"
        )
    upright = _upright(image)
    if image.mode.startswith("I"):  # 16-bit grey, which convert() would clip to 0..255
        return Image.fromarray(scale_to_8_bits(np.array(upright), value_range)).convert("RGB")
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
        # v1.1 has 182 names: it lacks 'unlabeled' and has 11 more things.
        if "names" in content and np.size(content["names"]) == 172:
            what = "COCO-Stuff 10K v1.0, whose ids 1..172 differ from those of v1.1"
            raise FileError(path, what, "get cocostuff-10k-v1.1.zip")
        return _label_map(content["S"], "S", path)
    if "GTcls" in content:
        try:
            segmentation = content["GTcls"][0, 0]["Segmentation"]
        except (IndexError, ValueError, TypeError, KeyError):
            what = "GTcls of this Matlab file is not a struct with a field Segmentation"
            raise FileError(path, what, "replace or remove it") from None
        return _label_map(segmentation, "GTcls.Segmentation", path)
    what = "no label map in this Matlab file (neither COCO-Stuff's S nor SBD's GTcls)"
    raise FileError(path, what, "replace or remove it")


def _label_map(values: Any, name: str, path: Path) -> np.ndarray:
    """Return a variable of a Matlab file as an array; raise unless it is a matrix of real numbers."""
    array = np.asarray(values)
    if array.ndim != 2 or not array.size or array.dtype.kind not in "buif":
        shape = "x".join(map(str, array.shape))
        kind = {"V": "a struct", "O": "a cell array", "U": "a string", "S": "a string", "c": "a complex matrix"}
        found = kind.get(array.dtype.kind, "an array")
        what = f"{name} of this Matlab file is not a matrix of class ids but {found} of {shape or 0}"
        raise FileError(path, what, "replace or remove it")
    return array


def image_size(source: Source) -> tuple[int, int]:
    """Return height and width of an image, upright, from its header.

    Raises:
        FileError: Missing, or not an image.
    """
    try:
        with open_file(source, "an image") as image:
            width, height = image.size
            return (width, height) if _header(image).turned else (height, width)
    except FileError:
        if not is_tiff(source):
            raise
    pixels = read_tiff(source)  # of more bands than Pillow knows
    return pixels.shape[0], pixels.shape[1]


def _eight_bits(values: np.ndarray, source: Source) -> np.ndarray:
    if values.dtype == np.uint8:
        return values
    with np.errstate(invalid="ignore"):
        eight = values.astype(np.uint8)  # Matlab stores whole numbers as floating point
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
    """Return the mask value of each packed RGB colour; 256 for a colour that is not named."""
    table = np.full(1 << 24, 256, dtype=np.uint16)
    for value, (red, green, blue) in enumerate(colors):
        table[(red << 16) | (green << 8) | blue] = value
    return table

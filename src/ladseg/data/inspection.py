"""Inspect single images and their masks for format, size, content and faults."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from ladseg.data.contents import content_digest
from ladseg.data.dataset import differing_sizes
from ladseg.data.pairs import Blob, Drawing, Fault, Pairs, Source
from ladseg.data.read import Header, decode_image, decode_mask
from ladseg.data.spec import IGNORE, DatasetSpec, Range
from ladseg.data.unlabelled import NoMask
from ladseg.errors import FileError, printable

# Pairs that a process inspects per message; a data set with fewer pairs is inspected without other processes.
CHUNK = 16

# The kinds of fault whose counts the survey sums over all masks.
STRANGE_VALUES = "values outside the classes"
LEFT_OUT_VALUES = "values that label_map leaves out"
# The header of a file that can't be read.
NO_HEADER = Header("")


@dataclass(frozen=True)
class Inspection:
    """The properties of one pair.

    Attributes:
        image: The image's name.
        mask: The mask's name.
        faults: Its faults; the other fields are set only if the files could be read.
        size: Width and height of the image in pixels.
        image_header: Header of the image file, with the range of its pixel values.
        mask_header: Header of the mask file.
        counts: ``(256,)`` number of pixels of each mask value.
        pixels: Digest of the image's pixels, equal for a picture that was saved in two formats.
        contents: Digests of both files.
    """

    image: str
    mask: str = ""
    faults: tuple[Fault, ...] = ()
    size: tuple[int, int] | None = None
    image_header: Header = NO_HEADER
    mask_header: Header = NO_HEADER
    counts: np.ndarray | None = None
    pixels: bytes = b""
    contents: tuple[str, str] = ("", "")


def inspect_pairs(pairs: Pairs, spec: DatasetSpec, workers: int) -> Iterator[Inspection]:
    """Inspect every pair, in order.

    Args:
        pairs: The files.
        spec: The meaning of the mask values.
        workers: Number of processes that read; a few pairs are read by this process.
    """
    workers = min(workers, len(pairs) // CHUNK)
    chunks = [list(range(start, min(start + CHUNK, len(pairs)))) for start in range(0, len(pairs), CHUNK)]
    loader = DataLoader(_Inspections(pairs, spec), batch_sampler=chunks, num_workers=workers, collate_fn=_uncollated)
    for inspections in loader:
        yield from inspections


def _uncollated(inspections: list[Inspection]) -> list[Inspection]:
    return inspections


class _Inspections(Dataset):
    def __init__(self, pairs: Pairs, spec: DatasetSpec) -> None:
        self.pairs, self.spec = pairs, spec
        self.table, self.known = spec.lookup()
        self.left_out = spec.left_out

    def __getitem__(self, index: int) -> Inspection:
        try:
            image, mask = self.pairs[index]
        except FileError as error:
            return Inspection("", faults=(_unreadable(error),))
        return self.inspect(image, mask)

    def inspect(self, image: Source, mask: Source) -> Inspection:
        image, mask = _in_memory(image), _in_memory(mask)
        faults: list[Fault] = []
        pixels = values = counts = size = None
        image_header = mask_header = NO_HEADER
        digest = b""
        try:
            pixels, image_header = decode_image(image, self.spec.value_range, self.spec.channels)
            size = (pixels.shape[1], pixels.shape[0])
            if image_header.bits == 8:
                image_header = image_header._replace(values=(int(pixels.min()), int(pixels.max())))
                digest = hashlib.sha256(pixels.data).digest()
            faults += _image_faults(image, image_header, self.spec)
        except FileError as error:
            faults.append(_unreadable(error))
        try:
            values, mask_header = decode_mask(mask, self.spec.mask_colors)
            counts = np.array(Image.fromarray(values).histogram())
            if mask_header.left_out:
                hint = "name them in data.classes if they are to count"
                faults.append(Fault("labels that are ignored", str(mask), mask_header.left_out, hint, "warning"))
        except FileError as error:
            faults.append(_unreadable(error))
        if pixels is not None and values is not None and pixels.shape[:2] != values.shape:
            faults.append(_sizes_differ(image, mask, pixels.shape[:2], values.shape, image_header.turned))
        if counts is not None and not isinstance(mask, NoMask):
            faults += self._value_faults(mask, counts)
        contents = (_contents(image), _contents(mask))
        # 16-bit images are compared by their files: scaled to 8 bits by a range not known yet, they might be equal.
        digest = digest or contents[0].encode()
        names = printable(str(image)), printable(str(mask))
        return Inspection(*names, tuple(faults), size, image_header, mask_header, counts, digest, contents)

    def _value_faults(self, mask: Source, counts: np.ndarray) -> list[Fault]:
        values = np.flatnonzero(counts)
        strange = values[~self.known[values]]
        if len(strange):
            return [_strange_values(mask, strange.tolist(), int(counts[strange].sum()), self.spec)]
        found = []
        unmapped = values[self.left_out[values]]
        if len(unmapped):
            share = counts[unmapped].sum() / counts.sum()
            found.append(_unmapped_values(mask, unmapped.tolist(), float(share), self.spec))
        if (self.table[values] == IGNORE).all():
            what = f"mask is all ignored (only {_listed(values.tolist())})"
            found.append(Fault("all ignored", str(mask), what, "remove the pair, or label it", "warning"))
        return found


def _in_memory(source: Source) -> Source:
    """Read a file once for both digest and decoder; the decoder reports one that can't be read."""
    if isinstance(source, Blob | Drawing) or (isinstance(source, Path) and source.suffix.lower() == ".mat"):
        return source
    try:
        return Blob(str(source), source.read_bytes())
    except OSError:
        return source


def _contents(source: Source) -> str:
    try:
        return content_digest(source)
    except OSError:  # the decoder has reported it
        return ""


def _image_faults(image: Source, header: Header, spec: DatasetSpec) -> list[Fault]:
    found = []
    if header.frames > 1:
        what = f"image is an animation of {header.frames} frames, of which the first is used"
        found.append(Fault("animated image", str(image), what, "save the frame that the mask is of", "warning"))
    if header.left_out:
        what = f"image has {header.left_out}; only red, green and blue are used"
        hint = "save the three channels that are to be seen, if it is not them"
        found.append(Fault("channels that are not used", str(image), what, hint, "warning"))
    cut = _cut_off(header, spec)
    if cut is not None:
        (least, most), pair, channel = cut
        what = f"image has values of {least}..{most}{channel}, which data.value_range {list(pair)} cuts off"
        found.append(Fault("values outside data.value_range", str(image), what, "widen the range", "warning"))
    return found


def _cut_off(header: Header, spec: DatasetSpec) -> tuple[Range, Range, str] | None:
    """Return the first extremes beyond data.value_range, the range, and of which channel in words; None if there are
    none.
    """
    if header.values is None or header.bits != 16 or spec.value_range is None:
        return None
    whole = np.ndim(spec.value_range) == 1
    pairs: Any = [spec.value_range] if whole else spec.value_range
    extremes = [header.values] if whole else header.of_channels * (len(pairs) // len(header.of_channels))
    for number, ((least, most), (low, high)) in enumerate(zip(extremes, pairs, strict=True), 1):
        if least < low or most > high:
            return (least, most), (low, high), "" if whole else f" in channel {number}"
    return None


def _unreadable(error: FileError) -> Fault:
    """Convert an error to a fault, whose kind is the error's text without the particulars."""
    return Fault(re.split(r" \(|, | up to ", error.what)[0], error.file, error.what, error.hint)


def _sizes_differ(
    image: Source, mask: Source, image_size: tuple[int, ...], mask_size: tuple[int, ...], turned: bool
) -> Fault:
    error = differing_sizes(image, mask, image_size, mask_size)
    hint = error.hint
    if turned and image_size == mask_size[::-1]:
        hint = "the image is turned by its EXIF orientation, the mask is not: turn the mask too"
    return Fault("sizes differ", error.file, error.what, hint)


def _listed(values: list[int]) -> str:
    return ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")


def _unmapped_values(mask: Source, values: list[int], share: float, spec: DatasetSpec) -> Fault:
    plural = "value" if len(values) == 1 else "values"
    what = f"mask has {plural} {_listed(values)} that label_map leaves out: {share:.2%} of its pixels are ignored"
    hint = "name them in data.label_map, with 255 for those that are to be ignored"
    if {0, 255} <= (spec.label_map or {}).keys() and len(values) > 2:
        hint = "edges are smooth, as after JPEG or a resize with interpolation: set the masks to 0 and 255 at 128"
    return Fault(LEFT_OUT_VALUES, str(mask), what, hint, "warning")


def _strange_values(mask: Source, values: list[int], pixels: int, spec: DatasetSpec) -> Fault:
    what = f"mask has {'value' if len(values) == 1 else 'values'} {_listed(values)} ({pixels} pixels)"
    if spec.closed:
        what += " that the data set does not define"
        hint = "is it another kind of mask (labelIds, instance ids)?"
    else:
        what += (
            f" but there are {spec.num_classes} classes (0..{spec.num_classes - 1}) and "
            f"ignore_index {spec.ignore_index}"
        )
        hint = "correct data.classes, or set data.ignore_index or data.label_map"
    if spec.num_classes == 19 and spec.class_names[0] == "road" and max(values) <= 33 and not spec.closed:
        hint = "did you load labelIds as labelTrainIds?"
    return Fault(STRANGE_VALUES, str(mask), what, hint)

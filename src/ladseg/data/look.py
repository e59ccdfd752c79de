"""What one image and its mask are, and what is amiss with them."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from ladseg.data.memory import keep_freed_memory
from ladseg.data.pairs import Fault, Pairs, Source
from ladseg.data.read import Header, decode_image, decode_mask
from ladseg.data.spec import IGNORE, DatasetSpec
from ladseg.errors import FileError, printable

# Pairs that a process looks at before it tells; fewer pairs than this in all are not worth another process.
CHUNK = 16

# The kind of fault that the survey adds up over the masks.
STRANGE_VALUES = "values outside the classes"


@dataclass(frozen=True)
class Look:
    """One pair.

    Attributes:
        image: The image's name.
        faults: What is amiss; the rest is only there if the files could be read.
        size: Width and height of the image in pixels.
        image_kind: Its format and mode, such as ``JPEG RGB``.
        mask_kind: The same of the mask.
        counts: (256,) pixels of each mask value.
        digest: Of the image's pixels, SHA-256: processors compute it faster than most others.
    """

    image: str
    faults: tuple[Fault, ...] = ()
    size: tuple[int, int] | None = None
    image_kind: str = ""
    mask_kind: str = ""
    counts: np.ndarray | None = None
    digest: bytes = b""


def look_at(pairs: Pairs, spec: DatasetSpec, workers: int) -> Iterator[Look]:
    """Every pair, in order.

    Args:
        pairs: Where they are.
        spec: What their masks may hold.
        workers: Processes that read them; few pairs are read by this one.
    """
    keep_freed_memory()
    workers = min(workers, len(pairs) // CHUNK)
    chunks = [list(range(start, min(start + CHUNK, len(pairs)))) for start in range(0, len(pairs), CHUNK)]
    loader = DataLoader(_Looks(pairs, spec), batch_sampler=chunks, num_workers=workers, collate_fn=_as_it_is)
    for looks in loader:
        yield from looks


def _as_it_is(looks: list[Look]) -> list[Look]:
    return looks


class _Looks(Dataset):
    def __init__(self, pairs: Pairs, spec: DatasetSpec) -> None:
        self.pairs, self.spec = pairs, spec
        self.table, self.known = spec.lookup()

    def __getitem__(self, index: int) -> Look:
        try:
            image, mask = self.pairs[index]
        except FileError as error:
            return Look("", (_unreadable(error),))
        return self.look(image, mask)

    def look(self, image: Source, mask: Source) -> Look:
        faults: list[Fault] = []
        pixels = values = counts = size = None
        image_header = mask_header = Header("")
        digest = b""
        try:
            pixels, image_header = decode_image(image)
            size = (pixels.shape[1], pixels.shape[0])
            digest = hashlib.sha256(pixels.data).digest()
            faults += _frame_faults(image, image_header)
        except FileError as error:
            faults.append(_unreadable(error))
        try:
            values, mask_header = decode_mask(mask, self.spec.mask_colors)
            counts = np.array(Image.fromarray(values).histogram())
        except FileError as error:
            faults.append(_unreadable(error))
        if pixels is not None and values is not None:
            faults += _size_faults(image, mask, pixels.shape[:2], values.shape, image_header.turned)
        if counts is not None:
            faults += self._value_faults(mask, counts)
        name = printable(str(image))
        return Look(name, tuple(faults), size, image_header.kind, mask_header.kind, counts, digest)

    def _value_faults(self, mask: Source, counts: np.ndarray) -> list[Fault]:
        values = np.flatnonzero(counts)
        strange = values[~self.known[values]]
        if len(strange):
            return [_strange_values(mask, strange.tolist(), int(counts[strange].sum()), self.spec)]
        if (self.table[values] == IGNORE).all():
            what = f"mask is all ignored (only {', '.join(map(str, values.tolist()))})"
            return [Fault("all ignored", str(mask), what, "remove the pair, or label it", "warning")]
        return []


def _frame_faults(image: Source, header: Header) -> list[Fault]:
    if header.frames == 1:
        return []
    what = f"image is an animation of {header.frames} frames, of which the first is used"
    return [Fault("animated image", str(image), what, "save the frame that the mask is of", "warning")]


def _unreadable(error: FileError) -> Fault:
    """Its kind is what is wrong before that goes into particulars."""
    return Fault(re.split(r" \(|, | up to ", error.what)[0], error.file, error.what, error.hint)


def _size_faults(
    image: Source, mask: Source, image_size: tuple[int, ...], mask_size: tuple[int, ...], turned: bool
) -> list[Fault]:
    if image_size == mask_size:
        return []
    (height, width), (mask_height, mask_width) = image_size, mask_size
    hint = "save both at one size"
    if turned and (height, width) == (mask_width, mask_height):
        hint = "the image is turned by its EXIF orientation, the mask is not: turn the mask too"
    what = f"mask is {mask_width}x{mask_height} but its image {image} is {width}x{height}"
    return [Fault("sizes differ", str(mask), what, hint)]


def _strange_values(mask: Source, values: list[int], pixels: int, spec: DatasetSpec) -> Fault:
    shown = ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")
    what = f"mask has {'value' if len(values) == 1 else 'values'} {shown} ({pixels} pixels)"
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

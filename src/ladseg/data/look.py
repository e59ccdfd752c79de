"""What one image and its mask are, and what is amiss with them."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from ladseg.data.pairs import Fault, Pairs, Source
from ladseg.data.read import open_file, read_image, read_mask
from ladseg.data.spec import DatasetSpec
from ladseg.errors import DataError, printable

# Pairs that a process looks at before it tells; fewer pairs than this in all are not worth another process.
CHUNK = 16

# EXIF orientations that turn the picture by a quarter.
QUARTER_TURNS = (5, 6, 7, 8)


@dataclass(frozen=True)
class Look:
    """One pair.

    Attributes:
        image: The image's name.
        mask: The mask's name.
        faults: What is amiss; the rest is only there if the files could be read.
        size: Width and height of the image in pixels.
        image_kind: Its format and mode, such as ``JPEG RGB``.
        mask_kind: The same of the mask.
        counts: (256,) pixels of each mask value.
        digest: Of the image's pixels.
    """

    image: str
    mask: str
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
    workers = min(workers, len(pairs) // CHUNK)
    chunks = [list(range(start, min(start + CHUNK, len(pairs)))) for start in range(0, len(pairs), CHUNK)]
    loader = DataLoader(_Looks(pairs, spec), batch_sampler=chunks, num_workers=workers, collate_fn=_as_it_is)
    for looks in loader:
        yield from looks


def _as_it_is(looks: list[Look]) -> list[Look]:
    return looks


class _Looks(Dataset):
    def __init__(self, pairs: Pairs, spec: DatasetSpec) -> None:
        self.pairs, self.spec, self.known = pairs, spec, spec.lookup()[1]

    def __getitem__(self, index: int) -> Look:
        try:
            image, mask = self.pairs[index]
        except DataError as error:
            return Look("", "", (_unreadable(error),))
        return look(image, mask, self.spec, self.known)


def look(image: Source, mask: Source, spec: DatasetSpec, known: np.ndarray) -> Look:
    """One pair; ``known`` as from :meth:`DatasetSpec.lookup`."""
    faults = []
    pixels = values = None
    image_kind = mask_kind = ""
    turned = False
    try:
        image_kind, frames, turned = _header(image, "an image")
        pixels = read_image(image)
        if frames > 1:
            what = f"image is an animation of {frames} frames, of which the first is used"
            faults.append(Fault("animated image", str(image), what, "save the frame that the mask is of", "warning"))
    except DataError as error:
        faults.append(_unreadable(error))
    try:
        mask_kind = "MAT" if isinstance(mask, Path) and mask.suffix.lower() == ".mat" else _header(mask, "a mask")[0]
        values = read_mask(mask, spec.mask_colors)
    except DataError as error:
        faults.append(_unreadable(error))
    counts = None if values is None else np.array(Image.fromarray(values).histogram())
    if pixels is not None and values is not None:
        faults += _size_faults(image, mask, tuple(pixels.shape[1:]), values.shape, turned)
    if counts is not None:
        faults += _value_faults(mask, counts, spec, known)
    if pixels is None:
        return Look(printable(str(image)), printable(str(mask)), tuple(faults), None, image_kind, mask_kind, counts)
    digest = hashlib.blake2b(pixels.permute(1, 2, 0).numpy().tobytes(), digest_size=16).digest()
    size = (pixels.shape[2], pixels.shape[1])
    return Look(printable(str(image)), printable(str(mask)), tuple(faults), size, image_kind, mask_kind, counts, digest)


def _header(source: Source, kind: str) -> tuple[str, int, bool]:
    """Format and mode, number of frames, and whether the picture is turned by a quarter."""
    with open_file(source, kind) as image:
        frames = int(getattr(image, "n_frames", 1))
        return f"{image.format} {image.mode}", frames, image.getexif().get(0x0112) in QUARTER_TURNS


def _unreadable(error: DataError) -> Fault:
    """The fault of a message ``FILE: WHAT; HINT``."""
    file, _, rest = str(error).partition(": ")
    what, _, hint = rest.partition("; ")
    kind = "unusable image" if "as an image" in what or what.startswith("image") else "unusable mask"
    return Fault(kind, file, what, hint)


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


def _value_faults(mask: Source, counts: np.ndarray, spec: DatasetSpec, known: np.ndarray) -> list[Fault]:
    values = np.flatnonzero(counts)
    strange = values[~known[values]]
    if len(strange):
        return [_strange_values(mask, strange.tolist(), int(counts[strange].sum()), spec)]
    if (spec.lookup()[0][values] == 255).all():
        what = f"mask is all ignored (only {', '.join(map(str, values.tolist()))})"
        return [Fault("all ignored", str(mask), what, "remove the pair, or label it", "warning")]
    return []


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
    return Fault("values outside the classes", str(mask), what, hint)

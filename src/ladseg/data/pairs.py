"""Where the image and the mask of each sample are, and what is amiss with the way they lie."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from ladseg.data.spec import DatasetSpec
from ladseg.errors import DataError

# What is lossless, or can be; a mask of any other format is reported, not read.
MASK_SUFFIXES = (
    *(".png", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".jp2", ".j2k"),
    *(".tga", ".pbm", ".pgm", ".ppm", ".pnm"),
)
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".jpe", ".avif", *MASK_SUFFIXES)
# Pictures and arrays that Pillow does not read, or reads only on some machines.
OTHER_SUFFIXES = {
    *(".heic", ".heif", ".jxl", ".exr", ".hdr", ".dng", ".cr2", ".nef", ".arw", ".raw", ".svg"),
    *(".npy", ".npz", ".mat", ".dcm", ".nii"),
}
# What Pillow opens that is no picture of a data set.
DOCUMENTS = {".pdf", ".ps", ".eps", ".h5", ".hdf", ".ico", ".icns", ".cur", ".mpg", ".mpeg", ".wmf", ".emf"}


def evenly_spread(total: int, count: int) -> list[int]:
    """Return at most ``count`` of the indices ``0 .. total - 1``, spread evenly, the first and the last among them."""
    return np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()


@dataclass(frozen=True)
class Blob:
    """A file that lies within another, such as a table of images.

    Attributes:
        name: What to call it in messages.
        content: Its bytes.
    """

    name: str
    content: bytes

    def __str__(self) -> str:
        return self.name


Source = Path | Blob
Pairs = Sequence[tuple[Source, Source]]


@dataclass(frozen=True)
class Fault:
    """Something amiss with one file.

    Attributes:
        kind: The same for all files with the same trouble.
        file: The file.
        what: What is amiss with this one.
        hint: What to do about it.
        level: An error stops a training, a warning is told.
    """

    kind: str
    file: str
    what: str
    hint: str = ""
    level: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        return f"{self.file}: {self.what}" + (f"; {self.hint}" if self.hint else "")


@dataclass(frozen=True)
class Listing:
    """What a layout finds of one split.

    Attributes:
        pairs: Image and mask of each sample, in the order of their names.
        faults: Files that stand alone or twice.
        spec: What the layout knows of its classes; None if the recipe must say.
        published: How many pairs the publisher's split has; None if there is no publisher.
        missing: What of it is not there, in words.
        groups: Where data.val_fraction makes the split, the number of groups that its pairs are of.
    """

    pairs: Pairs
    faults: tuple[Fault, ...] = ()
    spec: DatasetSpec | None = None
    published: int | None = None
    missing: str = ""
    groups: int | None = None


@dataclass(frozen=True)
class Files:
    """The files of a folder by their stem, with the ways of writing one stem twice.

    Attributes:
        folder: The folder.
        paths: Path of each stem; below subfolders the stem holds their names.
        faults: Second files of a stem, and pictures that are not read.
    """

    folder: Path
    paths: dict[str, Path] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()


def list_files(folder: Path, suffixes: tuple[str, ...], ending: str = "") -> Files:
    """List the files in a folder and its subfolders, those behind symbolic links included.

    Hidden files are passed over in silence; a picture whose suffix is not among ``suffixes`` is a warning.

    Args:
        folder: Where to look.
        suffixes: File-name suffixes, lower case, with the dot.
        ending: How the names end before the suffix; not part of the stem.

    Raises:
        DataError: The folder is missing, can't be read, or holds no such file.
    """
    paths: dict[str, Path] = {}
    faults: list[Fault] = []
    for relative in sorted(_walk(folder)):
        body, suffix = os.path.splitext(relative)
        head, name = os.path.split(body)
        path = folder / relative
        if suffix.lower() not in suffixes:
            faults += _passed_over(path, suffixes)
            continue
        if not name.endswith(ending):
            continue
        stem = os.path.join(head, name.removesuffix(ending))
        if stem in paths:
            faults.append(second_file(path, stem, paths[stem].name))
        else:
            paths[stem] = path
    if not paths:
        kind = f"*{ending}" if ending else ""
        others = Counter(os.path.splitext(fault.file)[1].lower() for fault in faults)
        instead = ", but " + ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(3)) if others else ""
        raise DataError(f"{folder}: empty split, no {kind}{'/'.join(suffixes)} file in it{instead}")
    return Files(folder, paths, tuple(faults))


def second_file(path: Path, stem: str, first: str) -> Fault:
    """Return the fault of two files in one place, of which only one could be used."""
    what = f"a second file called '{stem}' beside {first}"
    return Fault("two files of one name", str(path), what, "keep one")


def _passed_over(path: Path, suffixes: tuple[str, ...]) -> list[Fault]:
    """Return a warning for a picture or an array of a format that is not read here; notes and the like get none."""
    suffix = path.suffix.lower()
    if suffix not in OTHER_SUFFIXES and (suffix in DOCUMENTS or suffix not in Image.registered_extensions()):
        return []
    if suffixes == MASK_SUFFIXES and suffix in IMAGE_SUFFIXES:
        hint = "this format loses mask values: export the masks again as PNG"
    else:
        hint = f"convert it to {suffixes[0]}, or move it elsewhere"
    return [Fault(f"{suffix} files are not read here", str(path), f"{suffix} files are not read here", hint, "warning")]


def _walk(folder: Path) -> Iterator[str]:
    """Yield the files below a folder by their relative paths, each folder once, however many links lead to it."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: can't be listed ({error.strerror}); correct its permissions or remove it")

    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    seen: set[str] = set()
    # Links wait until all real folders are listed, so that a folder keeps its own name where a link leads to it too.
    waiting = [str(folder)]
    for start in waiting:
        for parent, folders, names in os.walk(start, onerror=refuse):
            real = os.path.realpath(parent)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            waiting += [os.path.join(parent, name) for name in sorted(folders) if _is_link(parent, name)]
            folders[:] = [name for name in folders if not name.startswith(".") and not _is_link(parent, name)]
            below = os.path.relpath(parent, folder)
            for name in names:
                if not name.startswith("."):
                    yield name if below == "." else os.path.join(below, name)


def _is_link(parent: str, name: str) -> bool:
    return not name.startswith(".") and os.path.islink(os.path.join(parent, name))


# How the file of a stem would be called, relative to its folder; or a function that gives its path.
Expected = str | Callable[[str], Path]


def match(
    images: Files, masks: Files, expected_mask: Expected = "{stem}.*", expected_image: Expected = "{stem}.*"
) -> tuple[list[tuple[Path, Path]], tuple[Fault, ...]]:
    """Pair the files of equal stems, and report those that stand alone on either side.

    Args:
        images: The images.
        masks: The masks.
        expected_mask: What a mask would be called beside its image.
        expected_image: What an image would be called beside its mask.
    """
    faults = list(images.faults + masks.faults)
    for stem in sorted(images.paths.keys() - masks.paths.keys()):
        faults.append(_alone("image without mask", images.paths[stem], _path_of(stem, masks.folder, expected_mask)))
    for stem in sorted(masks.paths.keys() - images.paths.keys()):
        faults.append(_alone("mask without image", masks.paths[stem], _path_of(stem, images.folder, expected_image)))
    both = sorted(images.paths.keys() & masks.paths.keys())
    return [(images.paths[stem], masks.paths[stem]) for stem in both], tuple(faults)


def _path_of(stem: str, folder: Path, expected: Expected) -> Path:
    return folder / expected.replace("{stem}", stem) if isinstance(expected, str) else expected(stem)


def _alone(kind: str, path: Path, expected: Path) -> Fault:
    return Fault(kind, str(path), kind, f"expected {expected}")


class PackedPairs(Sequence[tuple[Source, Source]]):
    """Paths in one block of bytes.

    A list of Path objects would be copied into every loader process, as counting references writes to each of them;
    the pages of one block stay shared. benchmarks/worker_memory.py measures both.
    """

    def __init__(self, pairs: Sequence[tuple[Path, Path]]) -> None:
        names = [os.fsencode(path) for pair in pairs for path in pair]
        self._bytes = np.frombuffer(b"".join(names), dtype=np.uint8)
        self._ends = np.cumsum([0, *map(len, names)], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends) // 2

    def __getitem__(self, index: int) -> tuple[Source, Source]:  # type: ignore[override]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        first = 2 * (index % len(self))
        return self._path(first), self._path(first + 1)

    def _path(self, place: int) -> Path:
        return Path(os.fsdecode(self._bytes[self._ends[place] : self._ends[place + 1]].tobytes()))

"""Where the image and the mask of each sample are, and what is amiss with the way they lie."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from ladseg.data.spec import DatasetSpec
from ladseg.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif")
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif")


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
    """

    pairs: Pairs
    faults: tuple[Fault, ...] = ()
    spec: DatasetSpec | None = None
    published: int | None = None
    missing: str = ""


@dataclass(frozen=True)
class Files:
    """The files of a folder by their stem, with the ways of writing one stem twice.

    Attributes:
        folder: The folder.
        paths: Path of each stem; below subfolders the stem holds their names.
        faults: Second files of a stem.
    """

    folder: Path
    paths: dict[str, Path] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()


def list_files(folder: Path, suffixes: tuple[str, ...], ending: str = "") -> Files:
    """Files in a folder and its subfolders; hidden ones, and symbolic links to folders, are passed over.

    Args:
        folder: Where to look.
        suffixes: File-name suffixes, lower case, with the dot.
        ending: How the names end before the suffix; not part of the stem.

    Raises:
        DataError: The folder is missing, can't be read, or holds no such file.
    """
    paths: dict[str, Path] = {}
    twins: list[Fault] = []
    for relative in sorted(_walk(folder)):
        body, suffix = os.path.splitext(relative)
        head, name = os.path.split(body)
        if suffix.lower() not in suffixes or not name.endswith(ending):
            continue
        stem = os.path.join(head, name.removesuffix(ending))
        path = folder / relative
        if stem in paths:
            what = f"a second file called '{stem}' beside {paths[stem].name}"
            twins.append(Fault("two files of one name", str(path), what, "keep one"))
        else:
            paths[stem] = path
    if not paths:
        kind = f"*{ending}" if ending else ""
        raise DataError(f"{folder}: empty split, no {kind}{'/'.join(suffixes)} file in it")
    return Files(folder, paths, tuple(twins))


def _walk(folder: Path) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: can't be listed ({error.strerror}); correct its permissions or remove it")

    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = os.path.relpath(parent, folder)
        for name in names:
            if not name.startswith("."):
                yield name if below == "." else os.path.join(below, name)


def match(
    images: Files, masks: Files, expected_mask: str = "{stem}.*"
) -> tuple[list[tuple[Path, Path]], tuple[Fault, ...]]:
    """Pairs of equal stems, and what stands alone on either side.

    Args:
        images: The images.
        masks: The masks.
        expected_mask: What a mask is called beside its image's stem.
    """
    faults = list(images.faults + masks.faults)
    for stem in sorted(images.paths.keys() - masks.paths.keys()):
        expected = masks.folder / expected_mask.format(stem=stem)
        faults.append(
            Fault("image without mask", str(images.paths[stem]), "image without mask", f"expected {expected}")
        )
    for stem in sorted(masks.paths.keys() - images.paths.keys()):
        expected = images.folder / f"{stem}.*"
        faults.append(Fault("mask without image", str(masks.paths[stem]), "mask without image", f"expected {expected}"))
    both = sorted(images.paths.keys() & masks.paths.keys())
    return [(images.paths[stem], masks.paths[stem]) for stem in both], tuple(faults)


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

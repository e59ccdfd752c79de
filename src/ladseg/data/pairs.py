"""Find the image and the mask of each sample, and the faults in their arrangement."""

import hashlib
import os
import weakref
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from PIL import Image

from ladseg.data.spec import IGNORE, DatasetSpec
from ladseg.errors import DataError

# Formats that are or can be lossless; a mask of any other format is reported, not read.
MASK_SUFFIXES = (
    *(".png", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".jp2", ".j2k"),
    *(".tga", ".pbm", ".pgm", ".ppm", ".pnm"),
)
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".jpe", ".avif", *MASK_SUFFIXES)
# Formats of pictures and arrays that Pillow does not read, or reads only on some machines.
OTHER_SUFFIXES = {
    *(".heic", ".heif", ".jxl", ".exr", ".hdr", ".dng", ".cr2", ".nef", ".arw", ".raw", ".svg"),
    *(".npy", ".npz", ".mat", ".dcm", ".nii"),
}
# Formats that Pillow opens although they are not pictures of a data set.
DOCUMENTS = {".pdf", ".ps", ".eps", ".h5", ".hdf", ".ico", ".icns", ".cur", ".mpg", ".mpeg", ".wmf", ".emf"}

# The kind of fault of an image that stands alone.
WITHOUT_MASK = "image without mask"


def evenly_spread(total: int, count: int) -> list[int]:
    """Return at most ``count`` of the indices ``0 .. total - 1``, spread evenly from the first to the last."""
    return np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()


@dataclass(frozen=True)
class Blob:
    """A file inside another one, such as a cell of a table of images.

    Attributes:
        name: Its name in messages.
        content: Its bytes.
    """

    name: str
    content: bytes

    def __str__(self) -> str:
        return self.name

    def read_bytes(self) -> bytes:
        return self.content


@dataclass(frozen=True)
class Member:
    """A file in a tar archive, which is read in place.

    Attributes:
        archive: The uncompressed archive.
        name: The file's name in it.
        offset: Offset of its first byte in the archive.
        size: Its size in bytes.
    """

    archive: Path
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.archive}/{self.name}"

    def read_bytes(self) -> bytes:
        """Read the file.

        Raises:
            OSError: The archive can't be read, or ends before the file does.
        """
        content = open_archive(self.archive).read(self.size, self.offset)
        if len(content) != self.size:
            raise OSError("the archive ends before this file does")
        return content


class Archive:
    """An open archive, which is closed with its last reference; several threads may read from it."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._file)

    def read(self, size: int, offset: int) -> bytes:
        return os.pread(self._file, size, offset)


@lru_cache(maxsize=256)
def open_archive(path: Path) -> Archive:
    """Open an archive, and keep it open, since opening a file on a network disk takes as long as reading it."""
    return Archive(path)


@dataclass(frozen=True)
class Labels:
    """The mask values that labels of an annotation file become.

    Attributes:
        values: Value of each label, as the file has it; pixels of other labels are ignored.
        uncovered: Value of pixels that no shape covers.
        ignored: Value of pixels that don't count.
        names: What to call a label in messages, where the file has numbers.
    """

    values: dict[str, int]
    uncovered: int
    ignored: int = IGNORE
    names: dict[str, str] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """A digest of all of it."""
        return hashlib.sha256(str(self).encode("utf-8", "surrogateescape")).hexdigest()[:16]


@dataclass(frozen=True)
class Drawing(ABC):
    """A mask that is drawn from the shapes of an annotation file whenever it is read.

    Attributes:
        kind: What the check calls it.
        source: The annotation file, or what it has of this image.
        image: The image, for its size.
        labels: What the labels become.
    """

    kind: ClassVar[str] = "polygons"
    source: Path | Blob
    image: Path
    labels: Labels

    def __str__(self) -> str:
        return str(self.source)

    def read_bytes(self) -> bytes:
        """Read what the mask depends on.

        Raises:
            OSError: The annotation file can't be read.
        """
        return self.labels.digest.encode() + self.source.read_bytes()

    @abstractmethod
    def draw(self) -> tuple[np.ndarray, str]:
        """Return ``(H, W)`` uint8, and in words which labels it has that are ignored.

        Raises:
            FileError: The file can't be read, or a shape has no area.
        """


Source = Path | Blob | Member | Drawing
Pairs = Sequence[tuple[Source, Source]]


@dataclass(frozen=True)
class Fault:
    """A fault of one file.

    Attributes:
        kind: The kind of fault, equal for all files that have it.
        file: The file.
        what: What is wrong with this file.
        hint: What to do about it.
        level: An ``error`` prevents training; a ``warning`` is only printed.
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
    """What a layout finds for one split.

    Attributes:
        pairs: Image and mask of each sample, in the order of their names.
        faults: Files without a counterpart, duplicates and the like.
        spec: The classes that the layout defines; None if the recipe must name them.
        published: Number of pairs in the published split; None for a user's own data.
        missing: Which published files are missing, in words.
        groups: Number of groups that the pairs belong to, if data.val_fraction made the split.
    """

    pairs: Pairs
    faults: tuple[Fault, ...] = ()
    spec: DatasetSpec | None = None
    published: int | None = None
    missing: str = ""
    groups: int | None = None


@dataclass(frozen=True)
class Files:
    """The files of a folder by their stem.

    Attributes:
        folder: The folder.
        paths: Path of each stem; the stem of a file in a subfolder includes the subfolder.
        faults: Second files of one stem, and pictures in formats that are not read.
    """

    folder: Path
    paths: dict[str, Path] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()


def list_files(folder: Path, suffixes: tuple[str, ...], ending: str = "") -> Files:
    """List the files in a folder and its subfolders, including those behind symbolic links.

    Hidden files are skipped silently; a picture whose suffix is not among ``suffixes`` gives a warning.

    Args:
        folder: Where to look.
        suffixes: File-name suffixes, in lower case, with the dot.
        ending: What the names end with before the suffix; not part of the stem.

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
    """Return the fault of two files with one stem, of which only one could be used."""
    what = f"a second file called '{stem}' beside {first}"
    return Fault("two files of one name", str(path), what, "keep one")


def _passed_over(path: Path, suffixes: tuple[str, ...]) -> list[Fault]:
    """Return a warning for a picture or array in a format that is not read; other files, such as notes, give none."""
    suffix = path.suffix.lower()
    if suffix not in OTHER_SUFFIXES and (suffix in DOCUMENTS or suffix not in Image.registered_extensions()):
        return []
    if suffixes == MASK_SUFFIXES and suffix in IMAGE_SUFFIXES:
        hint = "this format loses mask values: export the masks again as PNG"
    else:
        hint = f"convert it to {suffixes[0]}, or move it elsewhere"
    return [Fault(f"{suffix} files are not read here", str(path), f"{suffix} files are not read here", hint, "warning")]


def _walk(folder: Path) -> Iterator[str]:
    """Yield the relative paths of the files below a folder; visit each folder once, however many links lead to it."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: can't be listed ({error.strerror}); correct its permissions or remove it")

    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    seen: set[str] = set()
    # Links come after all real folders, so that a folder that a link leads to is listed by its own name.
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


# A pattern of the name that a stem's file would have, relative to its folder, or a function that returns its path.
Expected = str | Callable[[str], Path]


def match(
    images: Files, masks: Files, expected_mask: Expected = "{stem}.*", expected_image: Expected = "{stem}.*"
) -> tuple[list[tuple[Path, Path]], tuple[Fault, ...]]:
    """Pair the files with equal stems, and report those without a counterpart.

    Args:
        images: The images.
        masks: The masks.
        expected_mask: The name that an image's mask should have.
        expected_image: The name that a mask's image should have.
    """
    faults = list(images.faults + masks.faults)
    for stem in sorted(images.paths.keys() - masks.paths.keys()):
        faults.append(_alone(WITHOUT_MASK, images.paths[stem], _path_of(stem, masks.folder, expected_mask)))
    for stem in sorted(masks.paths.keys() - images.paths.keys()):
        faults.append(_alone("mask without image", masks.paths[stem], _path_of(stem, images.folder, expected_image)))
    both = sorted(images.paths.keys() & masks.paths.keys())
    return [(images.paths[stem], masks.paths[stem]) for stem in both], tuple(faults)


def _path_of(stem: str, folder: Path, expected: Expected) -> Path:
    return folder / expected.replace("{stem}", stem) if isinstance(expected, str) else expected(stem)


def _alone(kind: str, path: Path, expected: Path) -> Fault:
    return Fault(kind, str(path), kind, f"expected {expected}")


class PackedBytes(Sequence[bytes]):
    """Strings of bytes in one block.

    Reference counts would make every forked loader process copy a list of Path objects; the pages of one block stay
    shared. benchmarks/worker_memory.py measures both.
    """

    def __init__(self, parts: Iterable[bytes]) -> None:
        parts = list(parts)
        self._bytes = np.frombuffer(b"".join(parts), dtype=np.uint8)
        self._ends = np.cumsum([0, *map(len, parts)], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> bytes:  # type: ignore[override]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        place = index % len(self)
        return self._bytes[self._ends[place] : self._ends[place + 1]].tobytes()


# Makes the mask of an image from what was packed of its annotations.
MakeMask = Callable[[Path, bytes], Source]


class PackedPairs(Sequence[tuple[Source, Source]]):
    """Pairs whose images are files, packed.

    Args:
        pairs: Image, and the path of its mask or other bytes that it is made of.
        make: Makes the masks; None where they are files.
    """

    def __init__(self, pairs: Sequence[tuple[Path, Path | bytes]], make: MakeMask | None = None) -> None:
        self._images = PackedBytes(os.fsencode(image) for image, _ in pairs)
        self._masks = PackedBytes(mask if isinstance(mask, bytes) else os.fsencode(mask) for _, mask in pairs)
        self._make = make

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Source, Source]:  # type: ignore[override]
        image, mask = Path(os.fsdecode(self._images[index])), self._masks[index]
        return image, Path(os.fsdecode(mask)) if self._make is None else self._make(image, mask)


class ChosenPairs(Sequence[tuple[Source, Source]]):
    """Some of the pairs of a data set.

    Args:
        pairs: All of them.
        chosen: The places of those.
    """

    def __init__(self, pairs: Pairs, chosen: Sequence[int]) -> None:
        self._pairs, self._chosen = pairs, np.array(chosen, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: int) -> tuple[Source, Source]:  # type: ignore[override]
        return self._pairs[int(self._chosen[index])]

"""What a layout is: how one data set lies on disk, and what is known of it beforehand."""

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from ladseg.data.classes import Color
from ladseg.data.pairs import Fault, Listing
from ladseg.data.spec import DatasetSpec
from ladseg.data.text import read_text
from ladseg.errors import DataError
from ladseg.recipe import Data

# What people call the splits; the first that is there is taken.
SPELLINGS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


def spellings(split: str) -> tuple[str, ...]:
    """Return the words that may stand for a split in the name of a folder, file or column, the customary one first."""
    words = SPELLINGS.get(split, (split,))
    return (*words, *(word.capitalize() for word in words), *(word.upper() for word in words))


@dataclass(frozen=True)
class Submission:
    """The predictions that a data set's server takes.

    Attributes:
        images: The images of a split that has no masks to train on, in order.
        file_name: What the prediction for an image is called.
        values: For each class id the value to write, uint8.
    """

    images: Callable[[Path, str], list[Path]]
    file_name: Callable[[Path], str]
    values: np.ndarray


@dataclass(frozen=True)
class Layout:
    """One way of lying on disk.

    Attributes:
        name: What a recipe calls it.
        title: What people call the data set.
        tree: The files, as a picture of words.
        ids: What the masks hold, in a sentence or two.
        source: Where a user gets it.
        find: Images and masks of a split, from the recipe's data section.
        recognises: Whether a folder is surely of this kind.
        spec: The classes; None where the recipe names them.
        published: Pairs a split, as published.
        recipe: The ready recipe for it.
        submission: The server's format, where there is a server.
        find_all: All pairs of a data set without a val split, for data.val_fraction; None where there always is one.
    """

    name: str
    title: str
    tree: str
    ids: str
    source: str
    find: Callable[[Data, str], Listing]
    recognises: Callable[[Path], bool]
    spec: DatasetSpec | None = None
    published: Mapping[str, int] | None = None
    recipe: str | None = None
    submission: Submission | None = None
    find_all: Callable[[Data], Listing] | None = None


def packaged_rows(name: str) -> list[dict[str, str]]:
    """The table of classes ``layouts/NAME.csv``, which ships in the package."""
    text = (resources.files("ladseg.data.layouts") / f"{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def packaged_classes(name: str) -> tuple[tuple[str, ...], tuple[Color, ...]]:
    """Names and colours of the classes in :func:`packaged_rows`."""
    rows = packaged_rows(name)
    return tuple(row["name"] for row in rows), tuple((int(row["r"]), int(row["g"]), int(row["b"])) for row in rows)


def find_root(root: str, marks: tuple[str, ...], below: tuple[str, ...], layout: str) -> Path:
    """The folder that holds all of ``marks``: ``root`` itself or one of those below it.

    Raises:
        DataError: None of them does.
    """
    for candidate in (Path(root), *(Path(root) / name for name in below)):
        if all((candidate / mark).exists() for mark in marks):
            return candidate
    raise DataError(
        f"{root}: no {' and '.join(marks)} in it; 'ladseg data {layout}' shows how the data set lies on disk"
    )


def read_list(path: Path) -> list[str]:
    """The lines of a split's list that are not empty.

    Raises:
        DataError: No such file, or not text.
    """
    return [line.strip() for line in read_text(path, "a list of names").splitlines() if line.strip()]


def missing_image(path: Path) -> Fault:
    """The fault of a split that names an image which is not there."""
    return Fault("image missing", str(path), "no such image, but the split names it", "unpack it again")


def own_val(place: Path | str) -> DataError:
    """The error for data.val_fraction where there is a val split."""
    return DataError(f"data.val_fraction: there is a val split, {place}; leave data.val_fraction out to use it")


def no_such_split(split: str, splits: tuple[str, ...], layout: str) -> DataError:
    """The error for a split that a layout does not have."""
    return DataError(f"'{split}' is no split of layout '{layout}'; it has {', '.join(splits)}")

"""The description of a layout: how one data set is arranged on disk, and what its publisher says about it."""

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
from ladseg.errors import DataError, first_words
from ladseg.recipe import Data

# Customary names of the splits; the first that exists is taken.
SPELLINGS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


def spellings(split: str) -> tuple[str, ...]:
    """Return the names that a folder, file or column may use for a split, the most customary first."""
    words = SPELLINGS.get(split, (split,))
    return (*words, *(word.capitalize() for word in words), *(word.upper() for word in words))


@dataclass(frozen=True)
class Submission:
    """The format in which a data set's evaluation server takes predictions.

    Attributes:
        images: Returns the images of a split without public masks, in order.
        file_name: Returns the file name of the prediction for an image.
        values: The value to write for each class id, uint8.
    """

    images: Callable[[Path, str], list[Path]]
    file_name: Callable[[Path], str]
    values: np.ndarray


@dataclass(frozen=True)
class Layout:
    """One arrangement of a data set on disk.

    Attributes:
        name: Its name in a recipe.
        title: The data set's usual name.
        tree: The files, drawn as text.
        ids: What the masks hold, in a sentence or two.
        source: Where to get the data set.
        find: Finds the images and masks of a split from the recipe's data section.
        recognises: Tells whether a folder certainly has this layout.
        spec: The classes; None if the recipe names them.
        published: Number of pairs in each published split.
        recipe: Name of its ready recipe.
        submission: The evaluation server's format, if there is a server.
        labels: The class names by the annotation files, background first; None where masks hold ids.
        find_all: Finds all pairs of a data set without a val split, for data.val_fraction; None if it always has one.
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
    labels: Callable[[Data], list[str]] | None = None
    find_all: Callable[[Data], Listing] | None = None


def packaged_rows(name: str) -> list[dict[str, str]]:
    """Read the table of classes ``layouts/NAME.csv``, which is part of the package."""
    text = (resources.files("ladseg.data.layouts") / f"{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def packaged_classes(name: str) -> tuple[tuple[str, ...], tuple[Color, ...]]:
    """Return the names and colours of the classes in :func:`packaged_rows`."""
    rows = packaged_rows(name)
    return tuple(row["name"] for row in rows), tuple((int(row["r"]), int(row["g"]), int(row["b"])) for row in rows)


def find_root(root: str, marks: tuple[str, ...], below: tuple[str, ...], layout: str) -> Path:
    """Return the folder that holds all of ``marks``: ``root`` itself or one of the folders ``below`` it.

    Raises:
        DataError: None of them holds all.
    """
    for candidate in (Path(root), *(Path(root) / name for name in below)):
        if all((candidate / mark).exists() for mark in marks):
            return candidate
    raise DataError(
        f"{root}: no {' and '.join(marks)} in it; 'ladseg data {layout}' shows how the data set lies on disk"
    )


def read_list(path: Path) -> list[str]:
    """Return the lines of a split's list that are not empty.

    Raises:
        DataError: The file is missing or not text.
    """
    return [line.strip() for line in read_text(path, "a list of names").splitlines() if line.strip()]


def missing_image(path: Path) -> Fault:
    """Return the fault of a split that names a missing image."""
    return Fault("image missing", str(path), f"{absence(path, 'image')}, but the split names it", "unpack it again")


def absence(path: Path, kind: str = "file") -> str:
    """Return in words that a named file is missing, and why, if no file can have that name or a folder is locked."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        return f"no such {kind} ({error.strerror})"
    except ValueError as error:  # a NUL character, or half a surrogate pair
        return f"no such {kind} ({first_words(error)})"
    return f"no such {kind}"


def if_absent(split: str) -> str:
    """Return what to do about a split that is not found, as the end of a message."""
    return if_absent_test(split) or "set data.val_fraction: 0.2 if there are no splits"


def if_absent_test(split: str) -> str:
    """Return what to do about a split that is not found; nothing for train and val, which every data set needs."""
    return "" if split in ("train", "val") else "name a split that is there, or leave data.test out"


def own_val(place: Path | str) -> DataError:
    """Return the error for data.val_fraction in a data set with a val split."""
    return DataError(f"data.val_fraction: there is a val split, {place}; leave data.val_fraction out to use it")


def no_such_split(split: str, splits: tuple[str, ...], layout: str) -> DataError:
    """Return the error for a split that a layout does not have."""
    return DataError(f"'{split}' is not a split of layout '{layout}'; it has {', '.join(splits)}")

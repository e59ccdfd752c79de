"""The files of a run's folder: is each one there, and as it was written?

A power cut, a full disk or a hand may have spoilt any of them. What can be made again is: a run whose parts are not all
sound has not finished, and goes through its trainings again, which are not repeated.
"""

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ladseg.errors import RecipeError, first_words
from ladseg.recipe_yaml import read_recipe_file, read_yaml
from ladseg.results import (
    OTHER_STUDENT,
    RESULTS,
    STUDENT,
    TEACHER_FILE,
    Environment,
    MeasuredRow,
    RunResults,
    Sample,
    from_json,
    load_json,
    read_json,
)

# In a run's folder: how it was made, where, and what the check has found out about the data.
RECIPE, ENVIRONMENT, CHECKED = "recipe.yaml", "environment.json", "checked.json"
# Beside them, the hash of a finished teacher's file.
TEACHER_DIGEST = "teacher.sha256"
PICTURE, SAMPLES, SAMPLE_LIST = "picture.png", "samples", "samples.json"
# In a training's folder: the figures of its network, and the counts that they are computed from.
ROW, COUNTS = "row.json", "val.npz"
# Sections that every recipe has had that was written into a folder.
SECTIONS = {"data", "student", "distill", "schedule"}
FILES = (
    *(
        RECIPE,
        ENVIRONMENT,
        CHECKED,
        PICTURE,
        SAMPLE_LIST,
        STUDENT,
        *OTHER_STUDENT.values(),
        TEACHER_FILE,
        RESULTS,
        "report.html",
        ROW,
        COUNTS,
    ),
    *("metrics.jsonl", "log.txt", "result.json", "weights.safetensors", ".lease", "costs.json", "results.png"),
)
TRAININGS = ("baseline", "teacher", "first-stage", "student")
FOLDERS = (*TRAININGS, "checkpoints", SAMPLES, "ladseg")


def spoilt_part(folder: Path, results: RunResults) -> str | None:
    """Return a line about the first file of a finished run that is missing or spoilt; None if all are sound."""
    parts = [*shown_parts(folder, results), folder / STUDENT, folder / PICTURE]
    parts += [folder / name for key, name in OTHER_STUDENT.items() if results.delivers not in (None, key)]
    for key, row in results.networks.items():
        place = folder / (row.folder or key)
        parts.append(place / ROW)
        if key == "teacher":  # where several runs share it, it has its file in its own folder
            teacher = (folder if place.parent == folder else place) / TEACHER_FILE
            # A finished teacher of another library is the user's own file alone.
            parts += [teacher] if row.steps or teacher.exists() else []
    return first_fault(parts, results)


def shown_parts(folder: Path, results: RunResults) -> Iterator[Path]:
    """Yield the files of a finished run that its report shows."""
    yield from (folder / RECIPE, folder / ENVIRONMENT, folder / SAMPLES / SAMPLE_LIST)
    yield from (folder / (row.folder or key) / COUNTS for key, row in results.networks.items())
    if fault_of(folder / SAMPLES / SAMPLE_LIST) is None:
        for sample in read_json(list[Sample], folder / SAMPLES / SAMPLE_LIST):
            yield from (folder / SAMPLES / name for name in sample.files.values())


def first_fault(parts: Iterator[Path] | list[Path], results: RunResults) -> str | None:
    """Return a line about the first of a run's files that is missing or spoilt; None if all are sound."""
    for path in parts:
        fault = fault_of(path)
        if fault is None and path.name == COUNTS:
            confusion, images = read_counts(path)
            if (len(confusion), len(images)) != (len(results.class_names), results.images.val):
                fault = "is of other classes or images than the run"
        if fault is not None:
            return f"{path}: {fault}"
    return None


def fault_of(path: Path) -> str | None:
    """Return what is wrong with a file that ladseg wrote: missing, cut off or of another kind; None if it is sound."""
    if path.is_dir():
        return "is a folder"
    if not path.is_file():
        return "is missing"
    look = BY_NAME.get(path.name) or BY_SUFFIX.get(path.suffix)
    try:
        if look is not None:
            look(path)
    except Exception as error:  # every reader has faults of its own for what is no file of its kind
        return f"can't be read ({first_words(error).removeprefix(f'{path}: ')})"
    return None


def read_counts(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the confusion matrix ``(C, C)`` and the counts of each image ``(M, 3, C)`` of a network on val.

    Raises:
        ValueError: The file holds others, or none; and whatever numpy raises for a file that is spoilt.
    """
    with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as arrays:
        confusion, images = arrays["confusion"], arrays["images"]
    classes = len(confusion) if confusion.ndim == 2 else 0
    if confusion.shape != (classes, classes) or images.shape != (len(images), 3, classes) or not len(images):
        raise ValueError(f"it holds counts of shape {confusion.shape} and {images.shape}")
    if not all(counts.dtype == np.int64 and (counts >= 0).all() for counts in (confusion, images)):
        raise ValueError("it holds no counts")
    return confusion, images


def refuse_misplaced(folder: Path) -> None:
    """Refuse a run's or training's folder in which a folder is in a file's place, or a file in a folder's.

    Raises:
        RecipeError: One is.
    """
    places = (folder, *(folder / name for name in (*TRAININGS, SAMPLES)))
    folders = [path for place in places for name in FILES if (path := place / name).is_dir()]
    folders += [path for pattern in ("", "*/") for path in folder.glob(f"{pattern}checkpoints/*.pt") if path.is_dir()]
    if folders:
        raise RecipeError(f"{folders[0]}: is a folder, but a file of this name is to be written; move it away")
    files = [path for place in places for name in FOLDERS if (path := place / name).exists() and not path.is_dir()]
    if files:
        raise RecipeError(f"{files[0]}: is a file, but a folder of this name is to be made; move it away")


def _look_at_recipe(path: Path) -> None:
    values = read_yaml(read_recipe_file(path), str(path))
    missing = SECTIONS - values.keys() if isinstance(values, dict) else SECTIONS
    if missing:
        raise ValueError(f"it has no {min(missing)}")


def _look_at_tensors(path: Path) -> None:
    from safetensors import safe_open

    with safe_open(path, "numpy"):
        pass


def _look_at_picture(path: Path) -> None:
    from PIL import Image

    with Image.open(path) as picture:
        picture.load()


def _look_at_page(path: Path) -> None:
    if not path.read_bytes().rstrip().endswith(b"</html>"):
        raise ValueError("its end is missing")


def _look_at_text(path: Path) -> None:
    if not path.read_text(encoding="utf-8").strip("\0\n "):
        raise ValueError("it is empty")


def _json_of(kind: Any) -> Callable[[Path], object]:
    return lambda path: from_json(kind, load_json(path))


BY_NAME: dict[str, Callable[[Path], object]] = {
    RECIPE: _look_at_recipe,
    ENVIRONMENT: _json_of(Environment),
    SAMPLE_LIST: _json_of(list[Sample]),
    ROW: _json_of(MeasuredRow),
}
BY_SUFFIX: dict[str, Callable[[Path], object]] = {
    ".npz": read_counts,
    ".safetensors": _look_at_tensors,
    ".png": _look_at_picture,
    ".jpg": _look_at_picture,
    ".html": _look_at_page,
    ".md": _look_at_text,
    ".tex": _look_at_text,
}

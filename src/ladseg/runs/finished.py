"""Find out whether a folder holds a finished run of a recipe on the same data.

This happens before any training code is imported, so that a finished run prints its table at once.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ladseg.data.checked import Checked, fingerprints
from ladseg.data.dataset import SegmentationDataset, open_dataset
from ladseg.data.unlabelled import UNLABELLED
from ladseg.errors import RecipeError, printable
from ladseg.files import write_text
from ladseg.recipe import VALUES, Data, Recipe
from ladseg.recipe_files import load_recipe
from ladseg.results import RESULTS, STUDENT, RunResults, read_if_complete
from ladseg.runs.finished_teacher import teacher_digest
from ladseg.runs.parts import CHECKED, RECIPE, TEACHER_DIGEST, fault_of, spoilt_part

# A function that receives a line about the progress.
Log = Callable[[str], None]

SPLITS = ("train", "val")
# Keys that may change between a run's start and its resumption, because no result depends on them.
FREE_KEYS = {
    "name",
    "out",
    "preset",
    "data.workers",
    "data.cache",
    "data.root",
    "data.unlabelled",
    "schedule.save_every",
    "trackers",
    "keep_checkpoints",
}


def find_finished(recipe: Recipe, log: Log) -> RunResults | None:
    """Return the results of a finished run of the same recipe on the same data; None if there is none.

    Args:
        recipe: What would be run.
        log: Takes a line about a file of the run that is spoilt, and is made again by running it.

    Raises:
        RecipeError: The folder holds a run of another recipe.
        DataError: The data is missing.
    """
    if not (recipe.folder / RESULTS).is_file():
        return None
    refuse_other_recipe(recipe)
    results = finished_results(recipe.folder, log)
    return results if results is not None and data_is_unchanged(recipe) else None


def finished_results(folder: Path, log: Log) -> RunResults | None:
    """Return the results of a finished run all of whose files are sound; None if there is none.

    Args:
        folder: The run's folder.
        log: Takes a line about a file that is spoilt.
    """
    if not (folder / RESULTS).is_file():
        return None
    results = read_if_complete(RunResults, folder / RESULTS)
    fault = f"{folder / RESULTS}: can't be read" if results is None else spoilt_part(folder, results)
    if fault is not None:
        log(printable(f"{fault}; the run goes through its trainings again, which are not repeated"))
        return None
    return results


def with_steps_of_an_earlier_start(recipe: Recipe) -> tuple[Recipe, bool]:
    """Return the recipe with the number of steps that an earlier start in its folder fitted to ``schedule.minutes``.

    Returns:
        The recipe, and whether its number of steps is known; it is not if it has yet to be fitted.
    """
    minutes, path = recipe.schedule.minutes, recipe.folder / RECIPE
    if minutes is None:
        return recipe, True
    there = load_recipe(path).schedule if fault_of(path) is None else None
    if there is None or there.minutes is None:
        return recipe, False
    return replace(recipe, schedule=replace(recipe.schedule, iterations=there.iterations)), there.minutes == minutes


def data_is_unchanged(recipe: Recipe) -> bool:
    """Return whether the data are unchanged since an earlier start in the recipe's folder checked them."""
    known = Checked.read(recipe.folder / CHECKED)
    return known is not None and known.files == fingerprints(open_splits(recipe.data))


def refuse_other_recipe(recipe: Recipe) -> None:
    """Refuse a folder that holds a run of another recipe.

    Raises:
        RecipeError: The recipes differ; the message names the first difference.
    """
    path = recipe.folder / RECIPE
    # One that can't be read is written again: each training has a record of its own of what it depends on.
    differences = _differences(load_recipe(path), recipe) if fault_of(path) is None else []
    taught_by, taught_by_now = _recorded_teacher(recipe), teacher_digest(recipe)
    if taught_by is not None and taught_by_now is not None:
        if taught_by != taught_by_now:
            raise RecipeError(
                f"{recipe.folder}: {recipe.teacher.finished_file} is no longer the file that taught its students; "
                "restore it, or choose another --name or --out"
            )
        differences = [line for line in differences if not line.startswith("teacher.weights:")]  # wherever it lies
    if differences:
        raise RecipeError(
            f"{recipe.folder} holds a run of another recipe ({differences[0]}); "
            f"{_way_out(recipe, differences)}choose another --name or --out, or delete that folder"
        )


def record_teacher(recipe: Recipe) -> None:
    """Record in the recipe's folder which file a finished teacher is, whatever becomes of it later."""
    digest = teacher_digest(recipe)
    if digest is not None:
        write_text(recipe.folder / TEACHER_DIGEST, f"{digest}\n")


def _recorded_teacher(recipe: Recipe) -> str | None:
    path = recipe.folder / TEACHER_DIGEST
    return path.read_text().strip() if path.is_file() else None


def open_splits(data: Data) -> dict[str, SegmentationDataset]:
    """Open the training and the validation split, the test split and the images without masks if there are any."""
    named = [] if data.test is None else [data.test]
    splits = [*SPLITS, *named, *([] if data.unlabelled is None else [UNLABELLED])]
    return {split: open_dataset(data, split) for split in splits}


def _way_out(recipe: Recipe, differences: list[str]) -> str:
    """Return how to train a finished run further, if only its schedule has changed; else an empty string."""
    delivered = recipe.folder / STUDENT
    if not delivered.is_file() or not all(difference.startswith("schedule.") for difference in differences):
        return ""
    return (
        f"to train longer, start a new run from its weights: --student.weights {delivered} "
        f"--out {recipe.folder}-longer; "
        "or "
    )


def _differences(old: Recipe, new: Recipe) -> list[str]:
    before, after = _flat(dataclasses.asdict(old)), _flat(dataclasses.asdict(new))
    return [f"{key}: {before[key]} there, {after[key]} now" for key in after if before[key] != after[key]]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values under dotted keys, without the keys that may change."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        path = prefix + key
        if path in FREE_KEYS:
            continue
        if isinstance(value, dict) and key not in VALUES:
            flat |= _flat(value, f"{path}.")
        else:
            flat[path] = value
    return flat

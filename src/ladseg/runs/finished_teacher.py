"""Reuse a finished teacher: take its settings from its file into the recipe, and match its classes by name."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ladseg.data.classes import read_classes
from ladseg.data.dataset import open_dataset
from ladseg.errors import ModelError, RecipeError
from ladseg.recipe import Recipe
from ladseg.results import RESULTS, STUDENT, TEACHER_FILE, ComparisonResults, RunResults, read_results

# The sections of a recipe on which a student depends, beside its seed and teacher.
OF_A_STUDENT = ("data", "augment", "loss", "student", "schedule", "distill", "baseline")


def with_finished_teacher(recipe: Recipe) -> Recipe:
    """Return the recipe with the settings from the teacher's file; a recipe that trains its teacher is unchanged.

    Raises:
        ModelError: The file is missing or damaged, lacks a class of the data, or is of another model than the recipe's.
        RecipeError: The recipe names no model for a file that is not ladseg's.
    """
    teacher = recipe.teacher
    if teacher.finished_file is None:
        return recipe
    from ladseg.deploy.student_file import refuse_untrusted
    from ladseg.deploy.teacher_file import is_ladsegs, read_teacher_header

    path = Path(teacher.finished_file)
    if not is_ladsegs(path):
        return _with_foreign_teacher(recipe, path)
    if teacher.class_names is not None:
        raise RecipeError(f"teacher.class_names: {path} tells its classes itself; leave them out")
    header, noise = read_teacher_header(path)
    # A recipe that names the code of its student trusts it as a teacher too.
    named = teacher.model or (recipe.student.model if recipe.student.model == header.model else None)
    refuse_untrusted(path, header, named, "--teacher.model")
    classes = _classes(recipe, path, header.data.class_names)
    recorded = {"placebo": None} if noise is None else vars(noise)
    teacher = replace(
        teacher,
        model=header.model,
        args=header.args,
        output_stride=header.output_stride,
        label_assisted=noise is not None,
        warm_start=False,
        classes=classes,
        **recorded,
    )
    return replace(recipe, teacher=teacher)


def _with_foreign_teacher(recipe: Recipe, path: Path) -> Recipe:
    """Return the recipe with a classic teacher of another library, its classes mapped by name."""
    teacher = recipe.teacher
    if teacher.model is None:
        raise RecipeError(
            f"{path}: not one of ladseg's files, so teacher.model must name its network, such as "
            "torchvision.models.segmentation:fcn_resnet50"
        )
    classes = _classes(recipe, path, finished_class_names(recipe))
    return replace(recipe, teacher=replace(teacher, label_assisted=False, warm_start=False, classes=classes))


def finished_class_names(recipe: Recipe) -> tuple[str, ...]:
    """Return the class names of a finished teacher of another library; without any, the data's."""
    names = recipe.teacher.class_names
    return read_classes(names)[0] if names else open_dataset(recipe.data, "train").spec.class_names


def _classes(recipe: Recipe, path: Path, there: Sequence[str]) -> list[int] | None:
    """Return the teacher's class id for each class of the data; None where they are the same.

    Raises:
        ModelError: A class is missing.
        RecipeError: ``teacher.classes`` are of another number, or beyond the teacher's classes.
    """
    wanted, classes = open_dataset(recipe.data, "train").spec.class_names, recipe.teacher.classes
    if classes is None and tuple(wanted) != tuple(there):
        classes = classes_by_name(path, there, wanted)
    if classes is not None and (len(classes) != len(wanted) or max(classes) >= len(there)):
        raise RecipeError(
            f"teacher.classes must be {len(wanted)} class ids of 0..{len(there) - 1}, one for each class of the data"
        )
    return classes


def classes_by_name(path: Path, there: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Return a teacher's class id for each class of the data, by name, regardless of case and outer spaces.

    Args:
        path: The teacher's file, for messages.
        there: Names of the teacher's classes.
        wanted: Names of the data's classes.

    Raises:
        ModelError: A class is missing, or a name occurs twice.
    """
    known = [_plain(name) for name in there]
    missing = [name for name in wanted if known.count(_plain(name)) != 1]
    if missing:
        raise ModelError(
            f"{path}: was trained on other classes ({', '.join(there)}), and these of the data are not among them: "
            f"{', '.join(missing)}; name the teacher's class id for each with teacher.classes, or train another teacher"
        )
    return [known.index(_plain(name)) for name in wanted]


def teacher_digest(recipe: Recipe) -> dict[str, str]:
    """Return a hash of a finished teacher's file, on which a student's training depends; empty if it is trained."""
    file = recipe.teacher.finished_file
    return {} if file is None else {"teacher.file": hashlib.sha256(Path(file).read_bytes()).hexdigest()}


def teacher_file_of(run: Path) -> Path:
    """Return the file to teach from: a run's teacher, or if it had none, its student as a classic teacher.

    Raises:
        RecipeError: There is no such file.
    """
    if run.is_file():
        return run
    if not run.is_dir():
        raise RecipeError(f"{run}: no such folder or file; name the folder of a finished run")
    results = _results_of(run)
    if isinstance(results, ComparisonResults):
        raise RecipeError(f"{run}: a comparison, not one run; name a cell of it, such as {run}/seed-0/lad")
    taught = results.networks.get("teacher") if results is not None else None
    if taught is None:
        files = [run / TEACHER_FILE, run / STUDENT]
    else:  # the cells of a comparison share their teacher, which lies beside them
        files = [run / TEACHER_FILE, Path(os.path.normpath(run / (taught.folder or ""))) / TEACHER_FILE]
    for path in files:
        if path.is_file():
            return path
    if taught is not None:
        raise RecipeError(
            f"{run}: its teacher left no {TEACHER_FILE}; the run's own command writes a lost one again, and "
            "--teacher.weights FILE --teacher.train false name another, such as another library's"
        )
    raise RecipeError(f"{run}: no {TEACHER_FILE} or {STUDENT}; a run leaves them in its folder when it has finished")


def twin_of(run: Path, recipe: Recipe) -> tuple[int, str] | None:
    """Return the seed with which the recipe's student repeats a finished run, and a clause on that; None if none does.

    Args:
        run: The run whose teacher, or whose student if it had none, is to teach.
        recipe: The recipe of the student.
    """
    from ladseg.recipe_files import load_recipe
    from ladseg.runs.parts import RECIPE

    results = _results_of(run)
    if not isinstance(results, RunResults):
        return None
    if set(results.networks) == {"baseline"}:
        same = results.delivered.model == recipe.student.model
        said = (
            f"is a plain run of seed {results.seed}, as one here: its student is the student alone over again and has "
            "little to teach"
        )
    else:
        before = load_recipe(run / RECIPE) if (run / RECIPE).is_file() else None
        same = before is not None and all(getattr(before, key) == getattr(recipe, key) for key in OF_A_STUDENT)
        said = f"has trained this student with seed {results.seed} already"
    return (results.seed, said) if same else None


def _results_of(run: Path) -> RunResults | ComparisonResults | None:
    return read_results(run) if (run / RESULTS).is_file() else None


def _plain(name: str) -> str:
    return name.strip().casefold()

"""Reuse a finished teacher: take its settings from its file into the recipe, and match its classes by name."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ladseg.data.classes import read_classes
from ladseg.data.dataset import open_dataset
from ladseg.errors import ModelError, RecipeError
from ladseg.recipe import Recipe, TeacherSettings
from ladseg.results import RESULTS, STUDENT, TEACHER_FILE, ComparisonResults, RunResults, read_results

if TYPE_CHECKING:
    from ladseg.deploy.teacher_file import NoiseSettings

# The sections of a recipe on which a student depends, beside its seed and teacher.
OF_A_STUDENT = ("data", "augment", "loss", "student", "schedule", "distill", "baseline")


def with_finished_teacher(recipe: Recipe, records_noise: bool = True) -> Recipe:
    """Return the recipe with the settings from the teacher's file; a recipe that trains its teacher is unchanged.

    Args:
        recipe: The recipe.
        records_noise: Whether to take the noise of the teacher's label too, which its file has in any case; not where
            the recipe's is that of further teachers, which some methods of a comparison train.

    Raises:
        ModelError: The file is missing or damaged, lacks a class of the data, or is of another model than the recipe's.
        RecipeError: The recipe names no model for a file that is not ladseg's.
    """
    teacher = recipe.teacher
    if teacher.finished_file is None:
        return recipe
    from ladseg.deploy.student_file import refuse_untrusted
    from ladseg.deploy.teacher_file import is_ladsegs, read_teacher_header
    from ladseg.models.input_layer import label_factor

    path = Path(teacher.finished_file)
    copy = recipe.folder / TEACHER_FILE
    if not path.exists() and copy.is_file():  # the run has kept the file that it began with
        path = copy
    if not is_ladsegs(path):
        return _with_foreign_teacher(recipe, path)
    if teacher.class_names is not None:
        raise RecipeError(f"teacher.class_names: {path} tells its classes itself; leave them out")
    header, noise = read_teacher_header(path)
    # A recipe that names the code of its student trusts it as a teacher too.
    named = teacher.model or (recipe.student.model if recipe.student.model == header.model else None)
    refuse_untrusted(path, header, named, "--teacher.model")
    _refuse_other_label(teacher, path, noise)
    classes = _classes(recipe, path, header.data.class_names)
    recorded: dict[str, Any] = {"placebo": None if noise is None else noise.placebo}
    if noise is not None and records_noise:
        recorded = vars(noise) | {"scale": noise.scale / label_factor(header.std)}
    teacher = replace(
        teacher,
        weights=str(path),
        model=header.model,
        args=header.args,
        output_stride=header.output_stride,
        label_assisted=noise is not None,
        classes=classes,
        **recorded,
    )
    return replace(recipe, teacher=teacher)


def _refuse_other_label(teacher: TeacherSettings, path: Path, noise: "NoiseSettings | None") -> None:
    """Refuse a recipe that says of a finished teacher's label what its file denies.

    Raises:
        RecipeError: It sees a label and the recipe says that it sees none, or another placebo than the recipe's.
    """
    if not teacher.label_assisted and noise is not None:
        raise RecipeError(f"teacher.label_assisted is false, but {path} sees labels; leave it out, or train a teacher")
    theirs = None if noise is None else noise.placebo
    if teacher.placebo not in (None, theirs):
        raise RecipeError(
            f"teacher.placebo is {teacher.placebo}, but {path} was trained with {theirs or 'the label itself'}; "
            "leave it out, or train a teacher with that placebo"
        )


def _with_foreign_teacher(recipe: Recipe, path: Path) -> Recipe:
    """Return the recipe with a classic teacher of another library, its classes mapped by name."""
    teacher = recipe.teacher
    if teacher.model is None:
        raise RecipeError(
            f"{path}: not one of ladseg's files, so teacher.model must name its network, such as "
            "torchvision.models.segmentation:fcn_resnet50"
        )
    classes = _classes(recipe, path, finished_class_names(recipe))
    return replace(recipe, teacher=replace(teacher, label_assisted=False, classes=classes))


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


def teacher_digest(recipe: Recipe) -> str | None:
    """Return a hash of a finished teacher's file, on which its students depend; None for a teacher that is trained."""
    file = recipe.teacher.finished_file
    if file is None:
        return None
    state = os.stat(file)
    return _digest(file, state.st_size, state.st_mtime_ns)


@cache
def _digest(file: str, size: int, time: int) -> str:
    """Hash a file, once for each of its states."""
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


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
        cells = sorted(path.parent for path in run.glob(f"seed-*/*/{RESULTS}"))
        cell = next((cell for cell in cells if not cell.name.startswith("none")), run / "seed-0/lad")
        raise RecipeError(f"{run}: a comparison, not one run; name a cell of it, such as {cell}")
    taught = results.networks.get("teacher") if results is not None else None
    if taught is None:
        plain = not (run / "teacher").is_dir()  # else its teacher has not finished, and its student is none
        files = [run / TEACHER_FILE, *[run / STUDENT] * plain]
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

    if run.is_file():  # the run's own file, or one of which nothing is known
        run = run.parent if run.name in (STUDENT, TEACHER_FILE) else run
    results = _results_of(run)
    if not isinstance(results, RunResults):
        return None
    if "teacher" not in results.networks and results.delivered_key == "baseline":
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

"""Checks of a recipe's values against each other."""

import logging
from collections import Counter
from dataclasses import fields
from pathlib import PurePath

from ladseg.errors import RecipeError, control_character
from ladseg.presets import PRESETS
from ladseg.recipe import Recipe, TeacherSettings

LONGEST_NAME = 100
DEFAULTS = Recipe()
# Keys of the teacher's section that are about the label that it sees.
OF_LABEL = ["input_layer", "alpha", "class_weights", "scale", "ignore", "slice_std", "consistency", "consistency_form"]
# Keys of the teacher's section that only its training reads.
OF_TRAINING = ["dropout", "aux_weight", "iterations", "lr", "weight_decay"]
logger = logging.getLogger(__name__)


def refuse_inconsistent(recipe: Recipe, source: str) -> None:
    """Raise RecipeError for values that contradict each other.

    Args:
        recipe: A recipe whose values are each valid.
        source: Name of the recipe in messages.
    """
    fault = _name_fault(recipe.name) or _data_fault(recipe) or _training_fault(recipe)
    if recipe.teacher.train:  # else its file says whether it sees labels
        fault = fault or unlabelled_fault(recipe)
    if fault:
        raise RecipeError(f"{source}: {fault}")
    _report_merged_classes(recipe, source)


def unread_keys(recipe: Recipe) -> list[str]:
    """Return a line for each reason for which the run does not read keys that the recipe sets, with these keys.

    A key counts as set where it is neither at its default nor what the preset has.
    """
    teacher, schedule, loss, augment = recipe.teacher, recipe.schedule, recipe.loss, recipe.augment
    distils, own_function = recipe.distill.method != "none", augment.function is not None
    of_label = [*(f"teacher.{key}" for key in OF_LABEL), "distill.alpha", "distill.class_weights"]
    of_teacher = [f"{section}.{f.name}" for section in ("teacher", "distill") for f in fields(getattr(recipe, section))]
    of_augment = [f"augment.{f.name}" for f in fields(augment) if f.name not in ("function", "rescale")]
    cases: list[tuple[bool, str, list[str]]] = [
        (not distils, "nothing is distilled", [key for key in of_teacher if key != "distill.method"]),
        (distils and teacher.train and not teacher.label_assisted, "the teacher sees no label", of_label),
        (schedule.optimizer == "adamw", "schedule.optimizer is adamw", ["schedule.momentum"]),
        (schedule.decay == "cosine", "schedule.decay is cosine", ["schedule.power"]),
        (schedule.warmup == 0, "schedule.warmup is 0", ["schedule.warmup_ratio"]),
        (loss.focal == 0, "loss.focal is 0", ["loss.focal_gamma"]),
        (loss.ohem is None, "loss.ohem is null", ["loss.ohem_min_kept"]),
        (own_function, "augment.function makes the changes", of_augment),
        (augment.color != "jitter" and not own_function, f"augment.color is {augment.color}", ["augment.jitter"]),
    ]
    unread = ((reason, [key for key in keys if _is_set(recipe, key)]) for applies, reason, keys in cases if applies)
    return [f"no effect, because {reason}: {', '.join(keys)}" for reason, keys in unread if keys]


def _is_set(recipe: Recipe, path: str) -> bool:
    section, _, key = path.partition(".")
    value = getattr(getattr(recipe, section), key)
    default = getattr(getattr(DEFAULTS, section), key)
    return value not in (default, PRESETS[recipe.preset].get(section, {}).get(key, default))


def _name_fault(name: str) -> str | None:
    """Return what is wrong with the name of a run, which becomes a folder's name."""
    if not 0 < len(name) <= LONGEST_NAME:
        return f"name has {len(name)} characters; it must have 1 to {LONGEST_NAME}"
    if name != name.strip():
        return f"name is '{name}'; it starts or ends with a space"
    if name != PurePath(name).name or "\\" in name or name.startswith("."):
        return f"name is '{name}'; it names a folder below runs/, so it has no / or \\ and does not start with a dot"
    return None if control_character(name) is None else f"name is '{name}'; it has control characters"


def _data_fault(recipe: Recipe) -> str | None:
    data = recipe.data
    if isinstance(data.classes, list):
        twice = [name for name, count in Counter(data.classes).items() if count > 1]
        if twice:
            return f"data.classes has '{twice[0]}' twice; each class needs a name of its own"
        if any(not name.strip() for name in data.classes):
            return "data.classes has an empty name; each class needs a name of its own"
        unprintable = [name for name in data.classes if control_character(name) is not None]
        if unprintable:
            return f"data.classes has '{unprintable[0]}', a name with control characters; take them out"
    pairs = data.value_range if isinstance(data.value_range, list) else [data.value_range or (0, 1)]
    if falling := [pair for pair in pairs if pair[0] >= pair[1]]:
        return f"data.value_range is {list(falling[0])}; the lower value comes first, such as [0, 4095]"
    if isinstance(data.value_range, list) and len(pairs) != data.channels:
        return (
            f"data.value_range has {len(pairs)} pairs, but data.channels is {data.channels}; "
            "give one a channel, or one pair for all"
        )
    if data.test in ("", "train", "val"):
        return f"data.test is '{data.test}'; it names a split that is neither train nor val, such as test"
    if data.group is not None and data.val_fraction is None:
        return "data.group is read with data.val_fraction only; set that, or leave data.group out"
    for key, values in {"mean": data.mean, "std": data.std}.items():
        if values is not None and len(values) != data.channels:
            return f"data.{key} has {len(values)} numbers, but data.channels is {data.channels}; give one a channel"
    if (data.mean is None) != (data.std is None):
        return "data.mean and data.std go together; give both, or none"
    if data.channels != 3 and recipe.augment.color == "photometric":
        return "augment.color photometric is of red, green and blue; take jitter or none with data.channels"
    if data.channels != 3 and "bgr" in (recipe.student.input, recipe.teacher.input):
        return "input: bgr is of three channels; leave it out with data.channels"
    if data.colors is not None and len({tuple(color) for color in data.colors}) < len(data.colors):
        twice_color = next(color for color in data.colors if data.colors.count(color) > 1)
        return f"data.colors has {twice_color} twice; a colour stands for one mask value"
    return None


def _training_fault(recipe: Recipe) -> str | None:
    low, high = recipe.augment.scale
    if low > high:
        return f"augment.scale is {recipe.augment.scale}; the smallest factor comes first"
    teacher, loss, schedule = recipe.teacher, recipe.loss, recipe.schedule
    for key, lr in {"schedule": schedule.lr, "teacher": teacher.lr, "distill": recipe.distill.lr}.items():
        if lr is not None and lr < schedule.min_lr:
            return f"schedule.min_lr {schedule.min_lr} is above {key}.lr {lr}, from which the rate falls; lower it"
    if schedule.batch_size % schedule.accumulate:
        return f"schedule.accumulate {schedule.accumulate} does not divide schedule.batch_size {schedule.batch_size}"
    if schedule.eval_window is not None and recipe.augment.rescale is not None:
        return "schedule.eval_window is for images at their own size, and augment.rescale changes it; leave one out"
    if not any((loss.cross_entropy, loss.dice, loss.focal, loss.lovasz)):
        return "loss has weight 0 for every part; give one of cross_entropy, dice, focal, lovasz a weight"
    fault = _teacher_fault(teacher)
    if fault:
        return fault
    if teacher.train and teacher.classes is not None:
        return "teacher.classes are those of a finished teacher; set teacher.train: false too"
    if teacher.train and teacher.class_names is not None:
        return "teacher.class_names are those of a finished teacher; set teacher.train: false too"
    if recipe.distill.start is not None and teacher.snapshot is not None:
        return "distill.start and teacher.snapshot both say when teaching begins; leave one of them out"
    for section, warm in {"teacher": teacher.warm_start, "distill": recipe.distill.warm_start}.items():
        if warm and not recipe.baseline:
            return f"{section}.warm_start starts from the plain student; set baseline: true"
    if teacher.warm_start and not recipe.teacher_is_students_model:
        return f"teacher.warm_start needs the student's model '{recipe.student.model}', not '{teacher.model}'"
    return None


def unlabelled_fault(recipe: Recipe) -> str | None:
    """Return why a recipe can't learn from images without masks; None if it can, or has none."""
    if recipe.data.unlabelled is None or recipe.distill.method == "none":
        return None
    if recipe.teacher.label_assisted:
        return (
            "data.unlabelled: a label-assisted teacher can't teach on images without a label; set "
            "teacher.label_assisted: false, or leave data.unlabelled out"
        )
    batch = recipe.schedule.batch_size
    if not 0 < recipe.unlabelled_images < batch:
        return (
            f"data.unlabelled_share {recipe.data.unlabelled_share:g} of schedule.batch_size {batch} is "
            f"{recipe.unlabelled_images} images; choose it so that a batch has some with and some without a mask"
        )
    return None


def _teacher_fault(teacher: TeacherSettings) -> str | None:
    """Return what does not go together in the teacher's section alone."""
    if not teacher.train and teacher.weights is None and not teacher.warm_start:
        return (
            "teacher.train is false, so teacher.weights must name the file of a finished network; or "
            "teacher.warm_start: true takes the trained plain student"
        )
    if not teacher.train and teacher.weights is not None and teacher.warm_start:
        return "teacher.train is false, and teacher.warm_start and teacher.weights both name it; leave one of them out"
    if not teacher.train and teacher.snapshot is not None:
        return "teacher.train is false, and teacher.snapshot has the student teach itself; leave one of them out"
    if teacher.label_assisted:
        if not teacher.train and teacher.weights is None:
            return (
                "the plain student, which teacher.train: false takes, sees no label; set teacher.label_assisted: false"
            )
        if teacher.snapshot is not None:
            return "teacher.snapshot is the student, which sees no label; set teacher.label_assisted: false"
    elif teacher.placebo is not None:
        return "teacher.placebo stands in the label's place, but teacher.label_assisted is false; leave one of them out"
    return None


def _report_merged_classes(recipe: Recipe, source: str) -> None:
    """Log which mask values a label_map merges into one class, which may be intended."""
    values: dict[int, list[int]] = {}
    for value, class_id in (recipe.data.label_map or {}).items():
        values.setdefault(class_id, []).append(value)
    merged = [
        f"{each} become class {class_id}" for class_id, each in values.items() if len(each) > 1 and class_id != 255
    ]
    if merged:
        logger.warning("%s: data.label_map merges mask values: %s", source, ", ".join(merged))

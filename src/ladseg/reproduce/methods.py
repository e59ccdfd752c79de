"""Make the methods of the paper's tables, each as a method of a comparison."""

from collections.abc import Mapping
from dataclasses import replace

from ladseg.comparison.methods import LAD, Method, classic_teacher, default_teacher, label_teacher, make_method
from ladseg.distillation_methods import IN_THE_TABLES
from ladseg.recipe import Recipe
from ladseg.recipe_files import make_recipe

# The teacher of a rival method whose row names none.
UNNAMED_TEACHER = "deeplabv3_r101"
# The initial weights of classic teachers, unless the command line names a file.
TEACHER_WEIGHTS = "timm"
# The networks whose published weights need BGR of 0..255; the other teachers are mmsegmentation's.
OF_CIRKD = (UNNAMED_TEACHER,)


def paper_method(base: Recipe, word: str, weights: Mapping[str, str | None]) -> Method:
    """Return the method of a row of paper.csv.

    Args:
        base: The recipe of the row.
        word: A method of ``ladseg compare``; ``lad+MODEL`` for a label-assisted teacher of another network;
            ``lad@KEY=VALUE,...`` for LAD with other values in the recipe's teacher section.
        weights: The initial weights of teachers, by network.
    """
    name, _, model = word.partition("+")
    if name.startswith(LAD):
        return _lad(base, *_noise(name), model or None, weights)
    if name == "none":
        return make_method(base, word, default_teacher(base))
    teacher = with_teacher(word).partition("+")[2]
    start = weights.get(teacher, TEACHER_WEIGHTS)
    settings = classic_teacher(base, teacher, start)
    if teacher in OF_CIRKD and start != TEACHER_WEIGHTS:
        settings = replace(settings, input=base.student.input)
    method = make_method(base, f"{name}+{teacher}", settings)
    distill = replace(method.recipe.distill, **IN_THE_TABLES.get(name, {}))
    return replace(method, recipe=replace(method.recipe, distill=distill))


def with_teacher(word: str) -> str:
    """Return the method of a row, with the default teacher if the row names none."""
    return word if "+" in word or word == "none" or word.startswith(LAD) else f"{word}+{UNNAMED_TEACHER}"


def _noise(name: str) -> tuple[str, dict[str, str]]:
    """Return the part after ``@``, and its keys and values."""
    _, _, keys = name.partition("@")
    return keys, dict(pair.split("=") for pair in keys.split(",")) if keys else {}


def _lad(
    base: Recipe, keys: str, noise: dict[str, str], model: str | None, weights: Mapping[str, str | None]
) -> Method:
    teacher = label_teacher(base)
    own = teacher.model or base.student.model
    method = make_method(base, LAD, default_teacher(base))
    if model not in (None, own):
        # Teachers of another network share the student's backbone in Table 6, and start from scratch in Table 7.
        start = weights.get(model, base.student.weights)
        own_input = teacher.input or base.student.input
        changed = replace(
            teacher, model=model, weights=start, args=None, output_stride=None, features=None, input=own_input
        )
        recipe = replace(method.recipe, teacher=changed)
        return replace(method, name=f"{LAD}+{model}", recipe=recipe, teacher=f"label-{model}")
    if not keys:
        return method
    read = make_recipe({"teacher": {key: _value(text) for key, text in noise.items()}}).teacher
    recipe = replace(method.recipe, teacher=replace(teacher, **{key: getattr(read, key) for key in noise}))
    return replace(method, name=f"{LAD}@{keys}", recipe=recipe, teacher=f"label@{keys}")


def _value(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text

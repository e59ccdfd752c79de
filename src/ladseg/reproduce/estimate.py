"""Estimate the cost of an experiment from multiply-accumulates counted once, at a stated rate."""

import csv
from collections.abc import Sequence
from importlib import resources

from ladseg.comparison.methods import Method
from ladseg.data.layouts import LAYOUTS
from ladseg.recipe import Recipe
from ladseg.reproduce.experiments import Experiment
from ladseg.reproduce.methods import paper_method

# Multiply-accumulates per second of a V100 in LAD's distillation step: Table 1 has 270 ms for DeepLabV3-R18 with two
# images of 512x1024 (a GPU's share of CIRKD's batch), each of which takes 387.9 G for the student and 128.2 G for the
# teacher.
RATE = 2 * (387.9e9 + 128.2e9) / 0.270

Counted = dict[tuple[str, int, int, int], tuple[int, int]]


def counted_macs() -> Counted:
    """Return the multiply-accumulates of one image, as ``benchmarks/paper_macs.py`` counted them.

    Returns:
        The counts of a training step, training-only heads included, and of a prediction, by network, number of
        classes, height and width.
    """
    text = (resources.files("ladseg.reproduce") / "macs.csv").read_text(encoding="utf-8")
    return {
        (row["network"], int(row["classes"]), int(row["height"]), int(row["width"])): (
            int(row["train"]),
            int(row["predict"]),
        )
        for row in csv.DictReader(text.splitlines())
    }


def needed_macs(experiments: Sequence[Experiment]) -> list[tuple[str, int, int, int]]:
    """Return the sorted keys of :func:`counted_macs` that these experiments need."""
    return sorted(
        {
            key
            for experiment in experiments
            for setting in experiment.settings
            for method in _methods(setting.load(), setting.methods)
            for key in (_key(method.recipe, student=True), _key(method.recipe, student=False))
        }
    )


def experiment_macs(experiment: Experiment) -> int:
    """Return the multiply-accumulates of all trainings of an experiment with one seed.

    A teacher of several methods is counted once. Evaluations, the arithmetic of the distillers, and the label's channel
    (less than 0.1 % of a network) are left out.
    """
    counted = counted_macs()
    total = 0
    for setting in experiment.settings:
        recipe = setting.load()
        methods = _methods(recipe, setting.methods)
        teachers = {method.teacher: method for method in methods if method.teacher}
        steps, batch = recipe.schedule.iterations, recipe.schedule.batch_size
        images = steps * batch
        if not experiment.is_figure:
            taught = [_key(method.recipe, student=False) for method in methods if method.teacher]
            # Every comparison trains the student alone, even if the table has no row for it.
            total += (1 + len(taught)) * images * counted[_key(recipe, student=True)][0]
            total += sum(images * counted[teacher][1] for teacher in taught)
        for method in teachers.values():
            paths = 2 if method.recipe.teacher.label_assisted else 1
            total += paths * images * counted[_key(method.recipe, student=False)][0]
    return total


def gpu_hours(macs: int) -> float:
    """Return the estimated hours at :data:`RATE`, without data loading and evaluations."""
    return macs / RATE / 3600


def _methods(recipe: Recipe, words: Sequence[str]) -> list[Method]:
    return [paper_method(recipe, word, {}) for word in words]


def _key(recipe: Recipe, student: bool) -> tuple[str, int, int, int]:
    network = recipe.student.model if student else recipe.teacher.model or recipe.student.model
    spec = LAYOUTS[recipe.data.layout].spec
    assert spec is not None, f"{recipe.data.layout} has no classes of its own"
    return network, spec.num_classes, *recipe.schedule.crop

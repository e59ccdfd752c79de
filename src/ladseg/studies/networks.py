"""The networks of a run, built from its recipe."""

from dataclasses import replace

import torch
from torch import Tensor

from ladseg.models import Segmenter, build_model
from ladseg.objectives import LabelAssisted
from ladseg.recipe import Recipe
from ladseg.seeds import derive_seed, generator_for


def build_student(recipe: Recipe, num_classes: int) -> Segmenter:
    """The student as it starts; the same weights every time, so that all that is compared starts equal."""
    student = recipe.student
    return _build(student.model, student.weights, student.output_stride, num_classes, recipe.seed)


def build_teacher(recipe: Recipe, num_classes: int, start: dict[str, Tensor] | None) -> Segmenter | LabelAssisted:
    """The teacher as it starts.

    Args:
        recipe: The run; a teacher without a model of its own is the student's.
        num_classes: Number of classes.
        start: Weights of the trained plain student to start from, for ``teacher.warm_start``.
    """
    teacher = recipe.teacher
    if teacher.model in (None, recipe.student.model):
        teacher = replace(
            teacher,
            model=recipe.student.model,
            weights=teacher.weights or recipe.student.weights,
            output_stride=teacher.output_stride or recipe.student.output_stride,
        )
    network = _build(str(teacher.model), teacher.weights, teacher.output_stride, num_classes, recipe.seed)
    if start is not None:
        network.load_state_dict(start)
    if not teacher.label_assisted:
        return network
    return LabelAssisted(
        network,
        num_classes,
        alpha=teacher.alpha,
        scale=teacher.scale,
        class_weights=teacher.class_weights,
        ignore=teacher.ignore,
        slice_std=teacher.slice_std,
        generator=generator_for(recipe.seed, "input slice"),
    )


def _build(name: str, weights: str | None, output_stride: int | None, num_classes: int, seed: int) -> Segmenter:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "weights"))
        return build_model(name, num_classes, weights=weights, output_stride=output_stride)

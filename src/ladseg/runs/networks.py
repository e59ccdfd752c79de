"""The networks of a run, built from its recipe."""

from dataclasses import replace

import torch
from torch import Tensor

from ladseg.distillers import Distiller, build_distiller
from ladseg.models import Segmenter, build_model
from ladseg.objectives import LabelAssisted, Network, segmenter
from ladseg.recipe import Recipe, StudentSettings
from ladseg.seeds import derive_seed, generator_for


def build_student(recipe: Recipe, num_classes: int) -> Segmenter:
    """The student as it starts; the same weights every time, so that all that is compared starts equal."""
    return _build(recipe.student, num_classes, recipe.seed)


def build_teacher(recipe: Recipe, num_classes: int, start: dict[str, Tensor] | None) -> Network:
    """The teacher as it starts.

    Args:
        recipe: The run; a teacher without a model of its own is the student's.
        num_classes: Number of classes.
        start: Weights of the trained plain student to start from, for ``teacher.warm_start``.
    """
    teacher = recipe.teacher
    network = _build(teacher_network(recipe), num_classes, recipe.seed)
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
        input_layer=teacher.input_layer,
        generator=generator_for(recipe.seed, "input slice"),
    )


def check_networks(recipe: Recipe, num_classes: int) -> None:
    """Build what the recipe names, so that a fault in the teacher's part shows before the first training, not after.

    Raises:
        ModelError: A network can't be built, or its input or features are not found.
        RecipeError: The methods of distillation don't go together.
    """
    student = build_student(recipe, num_classes)
    if recipe.distill.method != "none":
        make_distiller(recipe, student, build_teacher(recipe, num_classes, start=None))


def make_distiller(recipe: Recipe, student: Segmenter, teacher: Network) -> Distiller:
    """The distiller as it starts; what it trains starts the same every time, and fits the two networks' widths."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(recipe.seed, "distiller"))
        return build_distiller(recipe.distill, student.trial_output(), segmenter(teacher).trial_output())


def teacher_network(recipe: Recipe) -> StudentSettings:
    """The teacher's network in the terms of a student's: what it leaves open is the student's, if the model is."""
    teacher, student = recipe.teacher, recipe.student
    own = StudentSettings(
        model=teacher.model or student.model,
        args=teacher.args,
        weights=teacher.weights,
        output_stride=teacher.output_stride,
        features=teacher.features,
    )
    if not recipe.teacher_is_students_model:
        return own
    return replace(
        own,
        args=own.args or student.args,
        weights=own.weights or student.weights,
        output_stride=own.output_stride or student.output_stride,
        features=own.features or student.features,
    )


def _build(settings: StudentSettings, num_classes: int, seed: int) -> Segmenter:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "weights"))
        network = build_model(
            settings.model,
            num_classes,
            weights=settings.weights,
            output_stride=settings.output_stride,
            args=settings.args,
        )
    return network.tap(settings.features) if settings.features else network

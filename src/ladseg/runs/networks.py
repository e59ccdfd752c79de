"""Build the networks of a run from its recipe."""

import os
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ladseg.data import build_transform
from ladseg.deploy.teacher_file import is_ladsegs, load_teacher
from ladseg.distillers import Distiller, MissingFeatureMap, build_distiller
from ladseg.errors import ModelError, RecipeError
from ladseg.losses.class_loss import make_class_loss
from ladseg.models import Segmenter, build_model, label_factor, refuse_unknown_network, see_bgr
from ladseg.models.finished import load_finished
from ladseg.objectives import LabelAssisted, Network, reorder_classes, segmenter
from ladseg.recipe import Recipe, StudentSettings
from ladseg.recipe_checks import unlabelled_fault
from ladseg.runs.finished_teacher import finished_class_names
from ladseg.seeds import derive_seed, generator_for


def build_student(recipe: Recipe, num_classes: int) -> Segmenter:
    """Return the untrained student, whose weights depend on the seed alone, so that all methods start equally."""
    return _build(recipe.student, num_classes, recipe, recipe.seed)


def build_teacher(recipe: Recipe, num_classes: int, start: dict[str, Tensor] | None) -> Network:
    """Return the teacher: untrained, or from its file if the recipe does not train it.

    Args:
        recipe: The recipe; a teacher without its own model takes the student's.
        num_classes: Number of classes.
        start: Weights of the trained plain student, for ``teacher.warm_start``; None for none.
    """
    teacher = recipe.teacher
    if not teacher.train and teacher.weights is not None:
        return _finished_teacher(recipe)
    network = _build(teacher_network(recipe), num_classes, recipe, teacher_seed(recipe))
    if start is not None:
        network.load_state_dict(start)
    if not teacher.label_assisted:
        return network
    return LabelAssisted(
        network,
        num_classes,
        alpha=teacher.alpha,
        scale=teacher.scale * label_factor(network.input_std),
        class_weights=teacher.class_weights,
        ignore=teacher.ignore,
        slice_std=teacher.slice_std,
        input_layer=teacher.input_layer,
        generator=generator_for(teacher_seed(recipe), "input slice"),
        placebo=teacher.placebo,
    )


def _finished_teacher(recipe: Recipe) -> Network:
    settings = recipe.teacher
    assert settings.weights is not None
    teacher: Network
    if is_ladsegs(Path(settings.weights)):
        teacher = load_teacher(Path(settings.weights), settings.model)
    else:
        assert settings.model is not None
        count = len(finished_class_names(recipe))
        teacher = load_finished(settings.model, count, settings.weights, settings.output_stride, settings.args)
    if recipe.teacher.classes is not None:
        reorder_classes(teacher, recipe.teacher.classes)
    takes = len(segmenter(teacher).input_mean)
    if takes != recipe.data.channels:
        raise ModelError(
            f"{recipe.teacher.weights}: takes images of {takes} channels, but data.channels is {recipe.data.channels}"
        )
    features = teacher_network(recipe).features
    if features:
        segmenter(teacher).tap(features)
    return teacher


def check_names(recipe: Recipe) -> None:
    """Look up the networks of the recipe by name alone, which takes no data.

    Raises:
        ModelError: There is no such network.
    """
    refuse_unknown_network(recipe.student.model)
    if recipe.distill.method != "none" and recipe.teacher.train:
        refuse_unknown_network(teacher_network(recipe).model)


def check_networks(recipe: Recipe, num_classes: int) -> None:
    """Build all networks of the recipe, to find faults before the first training.

    Raises:
        ModelError: A network can't be built, or its input layer or features are not found.
        RecipeError: The distillation methods can't be combined or don't go with the teacher, or the class loss or the
            augmentation does not fit.
    """
    make_class_loss(recipe.loss, num_classes)
    if recipe.data.channels != 3 and recipe.data.mean is None:
        raise RecipeError(
            f"data.channels is {recipe.data.channels}, which needs data.mean and data.std; "
            "'ladseg check RECIPE --stats' prints them"
        )
    fault = unlabelled_fault(recipe)
    if fault:
        raise RecipeError(fault)
    if recipe.augment.function is not None:
        build_transform(recipe.augment.function, recipe.schedule.crop)
    student = build_student(recipe, num_classes)
    if recipe.distill.method == "none":
        return
    if recipe.untaught_steps >= recipe.schedule.iterations:
        key, share = (
            ("distill.start", recipe.distill.start)
            if recipe.snapshot_step is None
            else ("teacher.snapshot", recipe.teacher.snapshot)
        )
        raise RecipeError(
            f"{key} {share} of {recipe.schedule.iterations} steps leaves none to teach; "
            "lower it, or raise schedule.iterations"
        )
    if recipe.snapshot_step is None:
        make_distiller(recipe, student, build_teacher(recipe, num_classes, start=None))
        _refuse_lone_images(recipe)
        return
    if make_distiller(recipe, student, student).first_stage() is not None:
        raise RecipeError("teacher.snapshot: maskd learns of a trained teacher first, and there is none; leave one out")


def _refuse_lone_images(recipe: Recipe) -> None:
    """Refuse batches in which an image has no other one whose label it could be shown."""
    parts = int(os.environ.get("WORLD_SIZE", "1")) * recipe.schedule.accumulate
    if recipe.teacher.placebo == "shuffled" and recipe.schedule.batch_size // parts < 2:
        raise RecipeError("teacher.placebo shuffled needs batches of two images or more in each process and part")


def make_distiller(recipe: Recipe, student: Segmenter, teacher: Network) -> Distiller:
    """Return the untrained distiller for the widths of the two networks, whose weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(recipe.seed, "distiller"))
        try:
            return build_distiller(recipe.distill, student.trial_output(), segmenter(teacher).trial_output())
        except MissingFeatureMap as missing:
            network = student if missing.role == "student" else segmenter(teacher)
            path = None if missing.has_backbone else network.deepest_map()
            if path is None:
                raise
            example = f"--distill.layer backbone --{missing.role}.features {path}"
            raise ModelError(f"{missing}, such as {example}") from None


def teacher_network(recipe: Recipe) -> StudentSettings:
    """Return the settings of the teacher's network; those left open are the student's if the model is the same."""
    teacher, student = recipe.teacher, recipe.student
    own = StudentSettings(
        model=teacher.model or student.model,
        args=teacher.args,
        weights=teacher.weights,
        output_stride=teacher.output_stride,
        features=teacher.features,
        dropout=teacher.dropout,
        input=teacher.input,
    )
    if not recipe.teacher_is_students_model:
        return own
    return replace(
        own,
        args=own.args or student.args,
        weights=own.weights or student.weights,
        output_stride=own.output_stride or student.output_stride,
        features=own.features or student.features,
        dropout=student.dropout if own.dropout is None else own.dropout,
        input=own.input or student.input,
    )


def teacher_seed(recipe: Recipe) -> int:
    """Return the seed of the teacher's weights, batches, augmentation and dropout.

    With the student's, a teacher without a label would be the student itself over again, which has nothing to teach.
    """
    return derive_seed(recipe.seed, "teacher")


def _build(settings: StudentSettings, num_classes: int, recipe: Recipe, seed: int) -> Segmenter:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "weights"))
        network = build_model(
            settings.model,
            num_classes,
            weights=settings.weights,
            output_stride=settings.output_stride,
            args=settings.args,
            image_channels=recipe.data.channels,
        )
    if recipe.data.mean is not None and recipe.data.std is not None:
        network.input_mean, network.input_std = tuple(recipe.data.mean), tuple(recipe.data.std)
    if settings.dropout is not None:
        for module in network.modules():
            if isinstance(module, nn.Dropout | nn.Dropout2d):
                module.p = settings.dropout
    if settings.input == "bgr":
        see_bgr(network)
    if recipe.schedule.freeze:
        network.freeze(recipe.schedule.freeze)
    return network.tap(settings.features) if settings.features else network

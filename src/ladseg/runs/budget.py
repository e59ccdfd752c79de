"""Fit the number of training steps to a budget in minutes."""

import time
from dataclasses import replace
from itertools import islice

import torch
from accelerate import Accelerator

from ladseg.data import SegmentationDataset
from ladseg.errors import RecipeError
from ladseg.objectives import Network
from ladseg.recipe import Recipe
from ladseg.runs.finished import Log, open_splits
from ladseg.runs.networks import build_teacher
from ladseg.runs.trainings import Training, baseline_training, batches_of, student_training, teacher_training
from ladseg.runs.validation import Validation
from ladseg.training import build_optimizer, make_accelerator
from ladseg.training.resume import prepared
from ladseg.training.step import to_device, train_step

# Number of untimed steps, of timed steps, and of images whose evaluation is timed.
WARM, TIMED, IMAGES = 2, 6, 4
# Number of evaluations during a training if the recipe does not set it, and after its end.
EVALUATIONS, LAST = 5, 1


def fit_to_minutes(recipe: Recipe, log: Log) -> Recipe:
    """Return the recipe with as many steps as its trainings can do in ``schedule.minutes``, evaluations included.

    A few steps of each training are timed, with their loading, and the evaluation of a few images.

    Args:
        recipe: The recipe; its number of steps is replaced.
        log: Receives a line about the result.

    Raises:
        RecipeError: There are several processes, or the minutes are too few for one step.
    """
    minutes = recipe.schedule.minutes
    if minutes is None:
        return recipe
    accelerator = make_accelerator(recipe.schedule.precision, recipe.folder)
    if accelerator.num_processes > 1:
        raise RecipeError("schedule.minutes is measured by one process; set schedule.iterations for several")
    sets = open_splits(recipe.data)
    train_set, val_set = sets["train"], sets["val"]
    trainings = _trainings(recipe, train_set.spec.num_classes)
    steps = {training.key: seconds_a_step(training, recipe, train_set, accelerator) for training in trainings}
    evaluation = _seconds_an_evaluation(trainings[0], recipe, val_set, accelerator)
    iterations = fitting_steps(recipe, minutes * 60, steps, evaluation)
    if iterations < 1:
        raise RecipeError(f"schedule.minutes {minutes:g} are too few for a single step of each training")
    rates = ", ".join(f"{key} {1000 * seconds:.0f} ms" for key, seconds in steps.items())
    log(
        f"{minutes:g} minutes are enough for {iterations} steps per training "
        f"(a step: {rates}; an evaluation: {evaluation:.1f} s)"
    )
    return replace(recipe, schedule=replace(recipe.schedule, iterations=iterations))


def fitting_steps(recipe: Recipe, seconds: float, steps: dict[str, float], evaluation: float) -> int:
    """Return the number of steps per training that fit into a budget.

    Args:
        recipe: The recipe.
        seconds: The budget.
        steps: Seconds of a step, by training.
        evaluation: Seconds of one evaluation on val.
    """
    every = recipe.schedule.eval_every
    fixed, growing = 0.0, 0.0
    for key, rate in steps.items():
        own = recipe.teacher.iterations if key == "teacher" else None
        evaluations = LAST + (EVALUATIONS if every is None else 0)
        fixed += evaluations * evaluation
        rate += 0.0 if every is None else evaluation / every
        if own is None:
            growing += rate
        else:
            fixed += own * rate
    if "student" in steps and recipe.distill.method == "maskd":
        growing += steps["student"] / 4  # its first stage has a quarter of the steps
    return int((seconds - fixed) / growing)


def seconds_a_step(training: Training, recipe: Recipe, dataset: SegmentationDataset, accelerator: Accelerator) -> float:
    """Return the mean seconds of a training step, loading included, over a few steps."""
    schedule = training.schedule
    batches = batches_of(training, recipe, dataset, accelerator, 0, WARM + TIMED)
    with prepared(training.objective, accelerator, dict) as (model, _):
        model.train()
        optimizer = build_optimizer(training.objective, schedule)
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        started = 0.0
        for number, batch in enumerate(batches):
            if number == WARM:
                started = time.perf_counter()
            batch = to_device(batch, accelerator.device)
            terms = train_step(model, batch, optimizer, parameters, 0.0, schedule, accelerator)
            float(terms["loss"].detach())  # wait for the device
        return (time.perf_counter() - started) / TIMED


def _seconds_an_evaluation(
    training: Training, recipe: Recipe, dataset: SegmentationDataset, accelerator: Accelerator
) -> float:
    network = training.network
    assert isinstance(network, Network)
    few = replace(dataset, pairs=list(islice(dataset.pairs, IMAGES)))
    started = time.perf_counter()
    Validation(few, 0, accelerator).evaluate(network.to(accelerator.device).eval())
    return (time.perf_counter() - started) / len(few) * len(dataset)


def _trainings(recipe: Recipe, num_classes: int) -> list[Training]:
    """Return the trainings of the run, with new networks."""
    with torch.random.fork_rng(devices=[]):
        plain = baseline_training(recipe, num_classes)
        if recipe.distill.method == "none":
            return [plain]
        before = [plain] if recipe.baseline else []
        if recipe.snapshot_step is not None:
            return [*before, student_training(recipe, num_classes, None, None)]
        if recipe.teacher.train:
            teacher = teacher_training(recipe, num_classes, None)
            assert isinstance(teacher.network, Network)
            return [*before, teacher, student_training(recipe, num_classes, None, teacher.network)]
        finished = build_teacher(recipe, num_classes, start=None)
        return [*before, student_training(recipe, num_classes, None, finished)]

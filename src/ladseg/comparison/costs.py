"""Count the arithmetic of a comparison's methods once, and time their steps in turns."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from ladseg.comparison.methods import Method
from ladseg.measure.step_costs import prediction_macs, step_macs, step_times
from ladseg.objectives import Network, segmenter
from ladseg.recipe import Recipe
from ladseg.results import MethodCost, NetworkCost, read_if_complete, write_json
from ladseg.runs.finished import Log
from ladseg.runs.trainings import (
    Training,
    baseline_training,
    first_stage_steps,
    first_stage_training,
    student_training,
    teacher_training,
)

FILE = "costs.json"
Costs = dict[str, MethodCost]


def count_costs(methods: Sequence[Method], num_classes: int, folder: Path, log: Log) -> Costs:
    """Return the costs of the methods; count those that ``folder`` does not hold yet, and write them there.

    A finished teacher costs nothing, since its steps are 0.

    Args:
        methods: The methods.
        num_classes: Number of classes.
        folder: The comparison's folder.
        log: Receives a line for each method that is counted.
    """
    costs: Costs = read_if_complete(Costs, folder / FILE) or {}
    for method in methods:
        known = costs.get(method.name)
        if known is None or known.recipe != _identity(method.recipe, num_classes):
            log(f"counting a training step of {method.name}")
            costs[method.name] = _count(method, num_classes)
            write_json(folder / FILE, costs)
    return costs


def time_steps(
    methods: Sequence[Method], costs: Costs, num_classes: int, folder: Path, device: torch.device, log: Log
) -> Costs:
    """Time the methods' steps in turns unless all of them have been timed, and write the times to ``folder``."""
    if not are_timed(methods, costs):
        log(f"timing a training step of {len(methods)} methods in turns")
        steps = {method.name: trainings_of(method.recipe, num_classes)[-1] for method in methods}
        try:
            times = step_times(steps, num_classes, device)
        except torch.cuda.OutOfMemoryError:
            log(f"the networks of {len(methods)} methods don't fit {device} together: their steps are not timed")
            return costs
        costs = {name: replace(cost, time=times.get(name)) for name, cost in costs.items()}
        write_json(folder / FILE, costs)
    return costs


def are_timed(methods: Sequence[Method], costs: Costs) -> bool:
    """Return whether the steps of all methods have been timed."""
    return all(costs[method.name].time is not None for method in methods)


def total_macs(method: Method, cost: MethodCost) -> int:
    """Return the multiply-accumulates of all trainings for a method's student, including its own."""
    return sum(macs * _steps(method.recipe)[key] for key, macs in cost.step_macs.items())


def marginal_macs(method: Method, cost: MethodCost) -> int:
    """Return the multiply-accumulates of one more student of an existing teacher.

    A student that starts from a trained plain student needs that training too; a distiller's first stage (MasKD), which
    learns from the teacher alone, exists together with the teacher.
    """
    if method.teacher is None:
        return total_macs(method, cost)
    recipe = method.recipe
    alone = recipe.untaught_steps + recipe.schedule.iterations * recipe.student_starts_warm
    plain = cost.step_macs["baseline"] * alone if alone else 0
    return plain + cost.step_macs["student"] * _steps(recipe)["student"]


def starts_from_baseline(recipe: Recipe) -> bool:
    """Return whether the teacher or the distilled student starts from the trained plain student."""
    return recipe.teacher_starts_warm or recipe.student_starts_warm


def _steps(recipe: Recipe) -> dict[str, int]:
    steps = recipe.schedule.iterations
    # Until it is taught, a student's step is one of the student alone.
    alone = recipe.untaught_steps
    plain = steps if recipe.distill.method == "none" or starts_from_baseline(recipe) else 0
    return {
        "baseline": plain + alone,
        "teacher": (recipe.teacher.iterations or steps) if recipe.teacher.train else 0,
        "first-stage": first_stage_steps(recipe),
        "student": steps - alone,
    }


def trainings_of(recipe: Recipe, num_classes: int) -> list[Training]:
    """Return a run's trainings with new networks; the last one trains the delivered network."""
    baseline = baseline_training(recipe, num_classes)
    if recipe.distill.method == "none":
        return [baseline]
    if recipe.snapshot_step is not None:
        return [baseline, student_training(recipe, num_classes, None, None)]
    teacher = teacher_training(recipe, num_classes, None)
    assert isinstance(teacher.network, Network)
    student = student_training(recipe, num_classes, None, teacher.network)
    before = [*([baseline] if starts_from_baseline(recipe) or recipe.untaught_steps else []), teacher]
    first_stage = first_stage_training(recipe, student)
    if first_stage is None:
        return [*before, student]
    # The first stage has unfrozen a part of its distiller, which must not be counted in the student's step too.
    return [*before, first_stage, student_training(recipe, num_classes, None, teacher.network)]


def _count(method: Method, num_classes: int) -> MethodCost:
    trainings = trainings_of(method.recipe, num_classes)
    # The student's objective freezes its teacher and may record its features, so another copy is counted.
    trainings = [teacher_training(method.recipe, num_classes, None) if t.key == "teacher" else t for t in trainings]
    counted = {training.key: step_macs(training, num_classes) for training in trainings}
    networks = {t.key: t.network for t in trainings if isinstance(t.network, Network)}
    crop = method.recipe.schedule.crop
    return MethodCost(
        counted,
        _network_cost(networks[trainings[-1].key], crop),
        _network_cost(networks["teacher"], crop) if "teacher" in networks else None,
        _identity(method.recipe, num_classes),
        time=None,
    )


def _identity(recipe: Recipe, num_classes: int) -> str:
    schedule = recipe.schedule
    parts = [asdict(section) for section in (recipe.student, recipe.teacher, recipe.distill, recipe.loss)]
    step = [
        recipe.teacher.paths,
        schedule.batch_size,
        schedule.crop,
        schedule.optimizer,
        schedule.precision,
        schedule.accumulate,
        schedule.freeze,
    ]
    return hashlib.sha256(json.dumps([*parts, *step, num_classes], sort_keys=True).encode()).hexdigest()


def _network_cost(network: Network, size: tuple[int, int]) -> NetworkCost:
    return NetworkCost(segmenter(network).deployed_parameters(), prediction_macs(network, size))

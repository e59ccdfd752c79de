"""What the methods of a comparison cost: counted once, and timed in turns."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from ladseg.comparison.methods import Method
from ladseg.files import write_text
from ladseg.measure.step_costs import StepTime, prediction_macs, step_macs, step_times
from ladseg.objectives import Network, segmenter
from ladseg.recipe import Recipe
from ladseg.runs.preparation import Say
from ladseg.runs.trainings import (
    Training,
    baseline_training,
    first_stage_steps,
    first_stage_training,
    student_training,
    teacher_training,
)

FILE = "costs.json"


@dataclass(frozen=True)
class NetworkCost:
    """A network as it predicts.

    Attributes:
        parameters: In use.
        macs: Multiply-accumulates of one image of the training crop's size.
    """

    parameters: int
    macs: int


@dataclass(frozen=True)
class MethodCost:
    """What a method costs, apart from its results.

    Attributes:
        step_macs: Multiply-accumulates of one step of each training that its student depends on.
        student: The network that is delivered.
        teacher: The network that it learns from; None without one.
        recipe: Tells apart what it was counted for.
        time: The student's training step; None if it has not been measured.
    """

    step_macs: dict[str, int]
    student: NetworkCost
    teacher: NetworkCost | None
    recipe: str
    time: StepTime | None = None


Costs = dict[str, MethodCost]


def count_costs(methods: Sequence[Method], num_classes: int, folder: Path, say: Say) -> Costs:
    """Count what ``folder`` does not know yet; and keep it there.

    Args:
        methods: The methods.
        num_classes: Number of classes.
        folder: The comparison's.
        say: Takes a line about what is counted.
    """
    costs = _read(folder)
    for method in methods:
        known = costs.get(method.name)
        if known is None or known.recipe != _identity(method.recipe, num_classes):
            say(f"counting a training step of {method.name}")
            costs[method.name] = _count(method, num_classes)
            _write(costs, folder)
    return costs


def time_steps(
    methods: Sequence[Method], costs: Costs, num_classes: int, folder: Path, device: torch.device, say: Say
) -> Costs:
    """Time the methods' steps in turns, unless they all have been; and keep the times in ``folder``."""
    if any(costs[method.name].time is None for method in methods):
        say(f"timing a training step of {len(methods)} methods in turns")
        steps = {method.name: trainings_of(method.recipe, num_classes)[-1] for method in methods}
        try:
            times = step_times(steps, num_classes, device)
        except torch.cuda.OutOfMemoryError:
            say(f"the networks of {len(methods)} methods don't fit {device} together: their steps are not timed")
            return costs
        costs = {name: replace(cost, time=times.get(name)) for name, cost in costs.items()}
        _write(costs, folder)
    return costs


def total_macs(method: Method, cost: MethodCost) -> int:
    """Multiply-accumulates of everything that was trained for a method's student, itself included."""
    return sum(macs * _steps(method.recipe)[key] for key, macs in cost.step_macs.items())


def starts_from_baseline(recipe: Recipe) -> bool:
    """Whether a distilled student owes something to the trained plain student."""
    return recipe.teacher_starts_warm or recipe.distill.warm_start


def _steps(recipe: Recipe) -> dict[str, int]:
    steps = recipe.schedule.iterations
    return {
        "baseline": steps,
        "teacher": recipe.teacher.iterations or steps,
        "first-stage": first_stage_steps(recipe),
        "student": steps,
    }


def trainings_of(recipe: Recipe, num_classes: int) -> list[Training]:
    """The trainings of networks as they start; the last one is that of the network that is delivered."""
    baseline = baseline_training(recipe, num_classes)
    if recipe.distill.method == "none":
        return [baseline]
    teacher = teacher_training(recipe, num_classes, None)
    assert isinstance(teacher.network, Network)
    student = student_training(recipe, num_classes, None, teacher.network)
    before = [*([baseline] if starts_from_baseline(recipe) else []), teacher]
    first_stage = first_stage_training(recipe, student)
    if first_stage is None:
        return [*before, student]
    # It has unfrozen its part of that student, whose own step would be counted as training it too.
    return [*before, first_stage, student_training(recipe, num_classes, None, teacher.network)]


def _count(method: Method, num_classes: int) -> MethodCost:
    trainings = trainings_of(method.recipe, num_classes)
    # The student's objective freezes its teacher, and may ask it for more than a prediction: another copy is counted.
    trainings = [teacher_training(method.recipe, num_classes, None) if t.key == "teacher" else t for t in trainings]
    counted = {training.key: step_macs(training, num_classes) for training in trainings}
    networks = {t.key: t.network for t in trainings if isinstance(t.network, Network)}
    crop = method.recipe.schedule.crop
    return MethodCost(
        counted,
        _network_cost(networks[trainings[-1].key], crop),
        _network_cost(networks["teacher"], crop) if "teacher" in networks else None,
        _identity(method.recipe, num_classes),
    )


def _identity(recipe: Recipe, num_classes: int) -> str:
    schedule = recipe.schedule
    parts = [asdict(section) for section in (recipe.student, recipe.teacher, recipe.distill)]
    step = [schedule.batch_size, schedule.crop, schedule.optimizer, schedule.precision]
    return hashlib.sha256(json.dumps([*parts, *step, num_classes], sort_keys=True).encode()).hexdigest()


def _network_cost(network: Network, size: tuple[int, int]) -> NetworkCost:
    return NetworkCost(segmenter(network).deployed_parameters(), prediction_macs(network, size))


def _write(costs: Costs, folder: Path) -> None:
    write_text(folder / FILE, json.dumps({name: asdict(cost) for name, cost in costs.items()}, indent=2) + "\n")


def _read(folder: Path) -> Costs:
    path = folder / FILE
    if not path.is_file():
        return {}
    costs = {}
    for name, values in json.loads(path.read_text(encoding="utf-8")).items():
        teacher, time = values["teacher"], values["time"]
        costs[name] = MethodCost(
            values["step_macs"],
            NetworkCost(**values["student"]),
            NetworkCost(**teacher) if teacher else None,
            values.get("recipe", ""),
            StepTime(**time) if time else None,
        )
    return costs

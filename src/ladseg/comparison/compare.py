"""Methods side by side: one student, data, order of images, augmentation, schedule and evaluation for all of them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ladseg.comparison.costs import count_costs, time_steps, total_macs
from ladseg.comparison.methods import (
    LAD,
    LAD_WARM,
    NONE,
    NONE_LONG,
    Method,
    classic_teacher,
    default_teacher,
    from_own_weights,
    lengthened,
    make_method,
)
from ladseg.comparison.summary import summarize
from ladseg.deploy.student_file import is_trained
from ladseg.errors import RecipeError
from ladseg.measure.environment import describe_environment
from ladseg.recipe import Recipe
from ladseg.runs.networks import check_networks
from ladseg.runs.preparation import Say, Sets, prepare
from ladseg.runs.run import train
from ladseg.training import make_accelerator


@dataclass(frozen=True)
class Cell:
    """One method with one seed: a run of its own, in a folder of its own."""

    method: Method
    seed: int
    folder: Path

    @property
    def key(self) -> tuple[str, int]:
        return self.method.name, self.seed

    @property
    def results(self) -> dict[str, Any] | None:
        """What the run gave; None if it has not finished."""
        path = self.folder / "results.json"
        found: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        return found

    @property
    def recipe(self) -> Recipe:
        return replace(self.method.recipe, seed=self.seed, out=str(self.folder))

    @property
    def shared(self) -> dict[str, Path]:
        """The trainings that the cells of one seed share; what is trained for longer is its own."""
        if self.method.name == NONE_LONG:
            return {}
        beside = self.folder.parent
        shared = {"baseline": beside / "baseline"}
        return shared | ({"teacher": beside / f"teacher-{self.method.teacher}"} if self.method.teacher else {})


def compare(
    recipe: Recipe,
    methods: Sequence[str],
    seeds: Sequence[int],
    teacher: str | None = None,
    teacher_weights: str | None = None,
    only: Sequence[tuple[str, int]] | None = None,
    say: Say = print,
) -> dict[str, Any]:
    """Train what is missing of a comparison, and sum up what is there.

    Args:
        recipe: What all methods share, and what LAD is; its seed is not used.
        methods: Their names, as :func:`ladseg.comparison.methods.make_method` takes them; ``none`` always is one.
        seeds: Each method is trained once with each.
        teacher: The classic teacher's network for those that name none; None for the recipe's, or the student's own.
        teacher_weights: Weights that it starts from.
        only: The cells to train in this process; None for all. Cells that other processes or machines have finished in
            this folder count as those of this one.
        say: Takes the lines about where the comparison is.

    Returns:
        What ``results.json`` holds; see :func:`ladseg.comparison.summary.summarize`. Under torchrun, nothing in the
        processes that only help.

    Raises:
        UserError: Anything a user can put right, found before the first training.
    """
    recipe = replace(recipe, baseline=True, seed=0)
    if (recipe.folder / "student.safetensors").exists():
        raise RecipeError(f"{recipe.folder} holds a run, not a comparison; choose another --out")
    if teacher_weights and not teacher:
        raise RecipeError("--teacher-weights are those of a classic teacher; name its network with --teacher")
    chosen = classic_teacher(recipe, teacher, teacher_weights) if teacher else default_teacher(recipe)
    made = (make_method(recipe, word, chosen) for word in [NONE, *methods])
    wanted = list({method.name: method for method in made}.values())  # two words may name one
    picked = None if only is None else {(make_method(recipe, word, chosen).name, seed) for word, seed in only}
    known = {(method.name, seed) for method in wanted for seed in seeds}
    for name, seed in sorted((picked or set()) - known):
        raise RecipeError(f"--cell {name}:{seed} is not among --methods and --seeds")

    accelerator = make_accelerator(recipe.schedule.precision, recipe.folder)
    say = say if accelerator.is_main_process else lambda line: None
    sets = prepare(recipe, say)
    classes = sets[0].spec.num_classes
    for method in wanted:
        check_networks(method.recipe, classes)
    if is_trained(recipe.student.weights, recipe.student.model, classes):
        wanted = [from_own_weights(method) if method.name == LAD_WARM else method for method in wanted]
    wanted = _with_steps_of_lad(wanted, make_method(recipe, LAD, chosen), classes, recipe.folder, say)
    cells = [Cell(method, seed, recipe.folder / f"seed-{seed}" / method.name) for seed in seeds for method in wanted]
    _train([cell for cell in cells if picked is None or cell.key in picked], sets, say)

    # What follows is one process's work.
    accelerator.end_training()
    if not accelerator.is_main_process:
        return {}
    costs = count_costs(wanted, classes, recipe.folder, say)
    # While other processes train, a clock would tell of them.
    if all(cell.results is not None for cell in cells):
        costs = time_steps(wanted, costs, classes, recipe.folder, accelerator.device, say)
    runs: dict[str, dict[int, Any]] = {method.name: {} for method in wanted}
    for cell in cells:
        if (results := cell.results) is not None:
            runs[cell.method.name][cell.seed] = results
    return summarize(recipe, wanted, runs, costs, describe_environment())


def _with_steps_of_lad(methods: list[Method], lad: Method, classes: int, folder: Path, say: Say) -> list[Method]:
    """The methods; ``none-long`` with as many steps as give it the arithmetic of all that LAD trains."""
    if all(method.name != NONE_LONG for method in methods):
        return methods
    none = methods[0]
    costs = count_costs([none, lad], classes, folder, say)
    steps = round(total_macs(lad, costs[LAD]) / costs[NONE].step_macs["baseline"])
    return [lengthened(method, steps) if method.name == NONE_LONG else method for method in methods]


def _train(cells: Sequence[Cell], sets: Sets, say: Say) -> None:
    """Train what is not finished; another process may have finished it since this one started."""
    for number, cell in enumerate(cells, 1):
        place = f"cell {number} of {len(cells)}: {cell.method.name}, seed {cell.seed}"
        if cell.results is not None:
            say(f"{place}: finished before")
        else:
            say(place)
            train(cell.recipe, say, sets, cell.shared)

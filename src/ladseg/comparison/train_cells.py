"""Train the cells of a comparison, and summarise those that have finished."""

import math
from collections.abc import Collection, Sequence
from pathlib import Path

from ladseg.comparison.cells import Cell, make_cells
from ladseg.comparison.costs import count_costs, time_steps, total_macs
from ladseg.comparison.methods import (
    LAD,
    LAD_WARM,
    LONG,
    NONE,
    NONE_TIMES,
    Method,
    from_own_weights,
    lengthened,
    make_method,
)
from ladseg.comparison.sharing import train_shared
from ladseg.comparison.summary import summarize
from ladseg.deploy.student_file import is_trained
from ladseg.measure.environment import describe_environment, is_main_process
from ladseg.recipe import Recipe, TeacherSettings
from ladseg.results import ComparisonResults, RunResults
from ladseg.runs.finished import Log
from ladseg.runs.networks import check_names, check_networks
from ladseg.runs.preparation import open_workspace, refuse_lone_splits
from ladseg.runs.trainings import planned_work


def train_cells(
    recipe: Recipe,
    methods: list[Method],
    seeds: Sequence[int],
    teacher: TeacherSettings,
    only: Collection[tuple[str, int]] | None,
    log: Log,
    worker: bool = False,
) -> ComparisonResults | None:
    """Train the cells that have not finished; see :func:`ladseg.comparison.compare.compare`.

    Args:
        recipe: The recipe that all methods share.
        methods: The methods; the first is ``none``.
        seeds: The seeds.
        teacher: The teacher of methods that name none.
        only: Method and seed of the cells to train in this process; None for all.
        log: Receives lines about the progress.
        worker: Whether to return without waiting for the cells that other processes train.
    """
    for method in methods:
        check_names(method.recipe)
    workspace = open_workspace(recipe, log)
    classes = workspace.num_classes
    for method in methods:
        check_networks(method.recipe, classes)
        refuse_lone_splits(method.recipe, workspace.checked)
    if is_trained(recipe.student.weights, recipe.student.model, classes):
        methods = [from_own_weights(method) if method.name == LAD_WARM else method for method in methods]
    methods = _with_steps_of_lad(methods, make_method(recipe, LAD, teacher), classes, recipe.folder, log)
    cells = make_cells(recipe, methods, seeds)
    wanted = [cell for cell in cells if only is None or cell.key in only]
    log(_work_ahead(wanted, recipe.schedule.iterations))
    train_shared(wanted, workspace, log, wait=not worker)

    # A single process does the rest.
    workspace.accelerator.end_training()
    if not is_main_process():
        return None
    results = {cell.key: cell.results for cell in cells}
    if worker and None in results.values():
        return None  # the process that finishes last writes the summary
    costs = count_costs(methods, classes, recipe.folder, log)
    # Other processes' trainings would distort the times.
    if None not in results.values():
        costs = time_steps(methods, costs, classes, recipe.folder, workspace.accelerator.device, log)
    runs: dict[str, dict[int, RunResults]] = {method.name: {} for method in methods}
    for (name, seed), result in results.items():
        if result is not None:
            runs[name][seed] = result
    return summarize(recipe, methods, runs, costs, describe_environment())


def _work_ahead(cells: Sequence[Cell], iterations: int) -> str:
    """Return a sentence on the work of all cells together, finished or not, in trainings of the student alone."""
    work, curve = {}, {}
    for cell in cells:
        for key, (steps, weight) in planned_work(cell.recipe).items():
            folder = cell.shared.get(key, cell.folder / key)  # what the cells of a seed share counts once
            work[folder] = steps * weight / iterations
            if NONE_TIMES.fullmatch(cell.method.name):
                curve[folder] = work[folder]
    many = f"{len(cells)} cell{'s' * (len(cells) != 1)}"
    ahead = f"{many}, about {sum(work.values()):.0f} times the work of training the student alone"
    return f"{ahead}; {sum(curve.values()):.0f} times for the plain curve (--plain-lengths)" if curve else ahead


def _with_steps_of_lad(methods: list[Method], lad: Method, classes: int, folder: Path, log: Log) -> list[Method]:
    """Return the methods, with those in ``LONG`` lengthened to the arithmetic of all trainings of LAD."""
    if all(method.name not in LONG for method in methods):
        return methods
    none = methods[0]
    costs = count_costs([none, lad], classes, folder, log)
    # Rounding up lets the plain curve reach LAD's compute.
    steps = math.ceil(total_macs(lad, costs[LAD]) / costs[NONE].step_macs["baseline"])
    return [lengthened(method, steps) if method.name in LONG else method for method in methods]

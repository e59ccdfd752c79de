"""Run ``ladseg train`` and ``ladseg compare`` from Python, without the printing of tables."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ladseg.commands.report import update_report, write_comparison
from ladseg.comparison.compare import compare as compare_recipe
from ladseg.recipe import Recipe
from ladseg.recipe_files import as_recipe
from ladseg.results import ComparisonResults, RunResults
from ladseg.runs.finished import Log
from ladseg.runs.train import train as train_recipe

if TYPE_CHECKING:  # the results of a finished run need no training code
    from ladseg.training import Callback

RecipeLike = Recipe | Mapping[str, Any] | str | Path


def train(recipe: RecipeLike, callbacks: Sequence["Callback"] = (), log: Log = print) -> RunResults | None:
    """Run a recipe and write its folder, including the report; resume if the folder holds a part of the run.

    Args:
        recipe: A recipe, its sections and keys as nested plain values, a YAML file, or the name of a ready recipe.
        callbacks: Functions to call on the main process with the training (``"baseline"``, ``"teacher"``,
            ``"first-stage"`` or ``"student"``) and a dict of the values of a line of ``metrics.jsonl``: ``step`` and
            ``score`` (mIoU in 0..1) after an evaluation, else ``step``, ``lr`` and the mean loss terms. An exception
            that one raises stops the run, which resumes from its last checkpoint when called again.
        log: Receives lines about the progress, on the main process.

    Returns:
        The content of ``results.json``; None in all processes of torchrun but the main one.

    Raises:
        UserError: The data, the recipe or the folder has a fault that a user can correct.
    """
    recipe = as_recipe(recipe)
    results = train_recipe(recipe, log, callbacks)
    if results is not None:
        update_report(recipe.folder)
    return results


def compare(
    recipe: RecipeLike,
    methods: Sequence[str] = ("none", "none-long", "lad"),
    seeds: Sequence[int] = (0, 1, 2),
    log: Log = print,
    **options: Any,
) -> ComparisonResults | None:
    """Train several methods and write the comparison's folder, with its results, tables, plot and report.

    Args:
        recipe: The recipe that all methods share, as for :func:`ladseg.train`; the folder is ``runs/NAME-compare``
            unless ``out`` is set.
        methods: Names of the methods, as on the command line.
        seeds: Seeds; each method is trained once with each.
        log: Receives lines about the progress, on the main process.
        options: Further arguments of :func:`ladseg.comparison.compare.compare`: ``teacher``, ``teacher_weights``,
            ``only``, ``plain_lengths``, ``worker``.

    Returns:
        The content of ``results.json``; None in all processes of torchrun but the main one, and in a worker that is
        not the last to finish.

    Raises:
        UserError: There is a fault that a user can correct, found before the first training.
    """
    recipe = as_recipe(recipe)
    folder = Path(recipe.out or f"runs/{recipe.name}-compare")
    results = compare_recipe(replace(recipe, out=str(folder)), methods, seeds, log=log, **options)
    if results is not None:
        write_comparison(folder, results)
        update_report(folder)
    return results

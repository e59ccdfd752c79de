"""What ``ladseg train`` and ``ladseg compare`` do, for Python: everything but the printing of tables."""

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

if TYPE_CHECKING:  # a finished run gives its results without loading what trains
    from ladseg.training import Callback

RecipeLike = Recipe | Mapping[str, Any] | str | Path


def train(recipe: RecipeLike, callbacks: Sequence["Callback"] = (), log: Log = print) -> RunResults | None:
    """Run a recipe and write its folder, the report included; on a folder that holds a part of it, go on from there.

    Args:
        recipe: A recipe, its sections and keys as nested plain values, a YAML file, or the name of a ready recipe.
        callbacks: Each is called on the main process with the training (``"baseline"``, ``"teacher"``,
            ``"first-stage"`` or ``"student"``) and a dict of figures: what a line of ``metrics.jsonl`` holds, ``step``
            and ``score`` (mIoU in 0..1) after an evaluation, else ``step``, ``lr`` and the mean loss terms. An
            exception that it raises stops the run, which goes on from its last checkpoint when called again.
        log: Takes the few lines about the progress, on the main process.

    Returns:
        What ``results.json`` holds; None in the processes of torchrun that only help.

    Raises:
        UserError: Anything a user can put right: the data, the recipe, a folder that holds another run.
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
    """Train methods side by side and write the comparison's folder: figures, tables, plot and report.

    Args:
        recipe: What all methods share, as for :func:`ladseg.train`; its folder is ``runs/NAME-compare`` unless ``out``
            says otherwise.
        methods: Their names, as on the command line.
        seeds: Each method is trained once with each seed.
        log: Takes the lines about the progress, on the main process.
        options: Further arguments of :func:`ladseg.comparison.compare.compare`: ``teacher``, ``teacher_weights``,
            ``only``, ``plain_lengths``, ``worker``.

    Returns:
        What ``results.json`` holds; None in the processes of torchrun that only help, and in a worker that others
        outlast.

    Raises:
        UserError: Anything a user can put right, found before the first training.
    """
    recipe = as_recipe(recipe)
    folder = Path(recipe.out or f"runs/{recipe.name}-compare")
    results = compare_recipe(replace(recipe, out=str(folder)), methods, seeds, log=log, **options)
    if results is not None:
        write_comparison(folder, results)
        update_report(folder)
    return results

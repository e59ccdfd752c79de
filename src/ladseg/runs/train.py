"""Run a recipe, or return the results of an earlier run of it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ladseg.errors import printable
from ladseg.measure.environment import is_main_process
from ladseg.recipe import Recipe
from ladseg.recipe_checks import unread_keys
from ladseg.results import RunResults
from ladseg.runs.finished import Log, find_finished, refuse_other_recipe, with_steps_of_an_earlier_start
from ladseg.runs.finished_teacher import with_finished_teacher

if TYPE_CHECKING:
    from ladseg.training import Callback


def train(recipe: Recipe, log: Log = print, callbacks: Sequence["Callback"] = ()) -> RunResults | None:
    """Run a recipe, from the check of its data to its pictures; resume if its folder holds a part of the run.

    Args:
        recipe: The recipe.
        log: Receives lines about the progress, on the main process.
        callbacks: As for :func:`ladseg.training.fit`, for every training of the run.

    Returns:
        The content of ``results.json``; None in all processes of torchrun but the main one.

    Raises:
        UserError: The data, the recipe or the folder has a fault that a user can correct.
    """
    for line in unread_keys(recipe) if is_main_process() else ():
        log(printable(line))
    recipe, known = with_steps_of_an_earlier_start(with_finished_teacher(recipe))
    finished = find_finished(recipe, log if is_main_process() else lambda line: None) if known else None
    if finished is None:
        from ladseg.runs.networks import check_names
        from ladseg.runs.run import train_networks  # imports all training code

        check_names(recipe)
        if not known:
            from ladseg.runs.budget import fit_to_minutes

            refuse_other_recipe(recipe)
            recipe = fit_to_minutes(recipe, log)
        return train_networks(recipe, log, callbacks=callbacks)
    if not is_main_process():
        return None
    log(f"{recipe.folder} has finished before, and {recipe.data.root} is unchanged since it was checked")
    return finished

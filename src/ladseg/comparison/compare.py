"""Compare methods under equal conditions: student, data, order of images, augmentation, schedule and evaluation."""

from collections.abc import Sequence
from dataclasses import replace

from ladseg.comparison.cells import Cell, cells_beside, make_cells
from ladseg.comparison.methods import (
    PLAIN_LENGTHS,
    Method,
    classic_teacher,
    default_teacher,
    make_method,
    plain_words,
    with_one_start,
)
from ladseg.errors import RecipeError
from ladseg.measure.environment import is_main_process
from ladseg.recipe import Recipe, TeacherSettings
from ladseg.results import RESULTS, STUDENT, ComparisonResults, read_if_complete
from ladseg.runs.finished import Log, data_is_unchanged, refuse_other_recipe
from ladseg.runs.finished_teacher import with_finished_teacher


def compare(
    recipe: Recipe,
    methods: Sequence[str],
    seeds: Sequence[int],
    teacher: str | None = None,
    teacher_weights: str | None = None,
    only: Sequence[tuple[str, int]] | None = None,
    log: Log = print,
    plain_lengths: Sequence[int] = PLAIN_LENGTHS,
    worker: bool = False,
) -> ComparisonResults | None:
    """Train the cells of a comparison that have not finished, and summarise those that have.

    Args:
        recipe: The recipe that all methods share, which also defines LAD; its seed is not used.
        methods: Names of the methods, as for :func:`ladseg.comparison.methods.make_method`; ``none`` is always
            included.
        seeds: Seeds; each method is trained once with each.
        teacher: The classic teacher's network for methods that name none; None for the recipe's, or the student's own.
        teacher_weights: Initial weights of the classic teacher.
        only: The cells to train in this process; None for all. Cells that other processes or machines have finished in
            the same folder are summarised too.
        log: Receives lines about the progress, on the main process.
        plain_lengths: Lengths of the plain curve by which all methods are judged, as multiples of the schedule; each is
            a training of the student alone with its own full decay.
        worker: Whether to return when no cell is left to take, instead of waiting for those that other processes train.

    Returns:
        The results; None in all processes of torchrun but the main one, and in a worker that is not the last to finish.

    Raises:
        UserError: There is a fault that a user can correct, found before the first training.
    """
    if recipe.schedule.minutes is not None:
        raise RecipeError(
            "schedule.minutes: the methods of a comparison share a number of steps; set schedule.iterations"
        )
    recipe = with_finished_teacher(_shared(recipe), records_noise=False)
    if teacher_weights and not teacher:
        raise RecipeError("--teacher-weights are those of a classic teacher; name its network with --teacher")
    chosen = classic_teacher(recipe, teacher, teacher_weights) if teacher else default_teacher(recipe)
    made = (make_method(recipe, word, chosen) for word in [*plain_words(plain_lengths), *methods])
    wanted = list({method.name: method for method in made}.values())  # two words may name the same method
    _refuse_idle_teacher(recipe, wanted)
    picked = None if only is None else [(make_method(recipe, word, chosen).name, seed) for word, seed in only]
    results = compare_methods(recipe, wanted, seeds, chosen, picked, log, worker)
    if results is not None and (beside := cells_beside(recipe.folder, [one.name for one in wanted], seeds)):
        log(beside)
    return results


def compare_methods(
    recipe: Recipe,
    methods: list[Method],
    seeds: Sequence[int],
    teacher: TeacherSettings,
    only: Sequence[tuple[str, int]] | None = None,
    log: Log = print,
    worker: bool = False,
) -> ComparisonResults | None:
    """Do the work of :func:`compare` for given methods.

    Args:
        recipe: The recipe that all methods share.
        methods: The methods, which differ from the recipe in teacher and distillation only; the first is ``none``.
        seeds: As for :func:`compare`.
        teacher: The classic teacher of methods that name none.
        only: Names of methods and seeds, as for :func:`compare`.
        log: As for :func:`compare`.
        worker: As for :func:`compare`.
    """
    recipe = _shared(recipe)
    if (recipe.folder / STUDENT).exists():
        raise RecipeError(f"{recipe.folder} holds a run, not a comparison; choose another --out")
    picked = None if only is None else set(only)
    known = {(method.name, seed) for method in methods for seed in seeds}
    for name, seed in sorted((picked or set()) - known):
        raise RecipeError(f"--cell {name}:{seed} is not among --methods and --seeds")

    log = log if is_main_process() else lambda line: None
    cells = make_cells(recipe, methods, seeds)
    # The recipe recorded in the folder covers neither --teacher nor its weights, so they are compared by one cell.
    taught = next((cell for cell in cells if cell.method.teacher and cell.method.recipe.teacher == teacher), None)
    if taught is not None:
        refuse_other_recipe(taught.recipe)
    finished = _find_finished(recipe, cells)
    if finished is not None:
        log(f"all cells have finished before, and {recipe.data.root} is unchanged since it was checked")
        return finished if is_main_process() else None
    from ladseg.comparison.train_cells import train_cells  # imports all training code

    return train_cells(recipe, methods, seeds, teacher, picked, log, worker)


def _refuse_idle_teacher(recipe: Recipe, methods: Sequence[Method]) -> None:
    """Refuse a finished teacher that no method learns from."""
    file, assisted = recipe.teacher.finished_file, recipe.teacher.label_assisted
    taught = (method.recipe for method in methods if method.recipe.distill.method != "none")
    if file is not None and not any(one.teacher.weights == file for one in taught):
        raise RecipeError(
            f"{file}: this teacher {'sees labels' if assisted else 'sees no label'}, and no method of --methods learns "
            f"from it; add {'lad, or kd+label' if assisted else 'cwd, kd'} or the like"
        )


def _shared(recipe: Recipe) -> Recipe:
    """Return the recipe to record in the folder: it trains the student alone, and the seeds belong to the cells."""
    return with_one_start(replace(recipe, baseline=True, seed=0))


def _find_finished(recipe: Recipe, cells: Sequence[Cell]) -> ComparisonResults | None:
    """Return the results of an earlier start of this comparison if all cells have finished and nothing has changed."""
    results = read_if_complete(ComparisonResults, recipe.folder / RESULTS)
    if results is None:
        return None
    refuse_other_recipe(recipe)
    rows = {row.name: row for row in results.methods}
    complete = list(rows) == list({cell.method.name: None for cell in cells}) and all(
        row.step_ms is not None and set(row.mean_iou) == {cell.seed for cell in cells} for row in results.methods
    )
    for cell in cells if complete else ():
        run = cell.results
        complete &= run is not None and run.delivered.mean_iou == rows[cell.method.name].mean_iou[cell.seed]
    return results if complete and data_is_unchanged(recipe) else None

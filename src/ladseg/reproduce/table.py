"""Reproduce one of the paper's tables: train its cells as a comparison, and list them beside the paper's figures."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ladseg.commands.report import write_comparison
from ladseg.comparison.cells import make_cells
from ladseg.comparison.compare import compare_methods
from ladseg.comparison.methods import NONE, Method, default_teacher
from ladseg.comparison.summary import mean_of_known, mean_with_interval
from ladseg.data.layouts import LAYOUTS
from ladseg.errors import RecipeError
from ladseg.measure.environment import describe_environment, is_main_process
from ladseg.recipe import Recipe
from ladseg.recipe_files import load_recipe
from ladseg.report.paper_match import known_differences, published_differences
from ladseg.report.reproduced import TINY, OurFigures, PaperFigures, ReproducedRow, ReproducedTable
from ladseg.reproduce.experiments import Experiment, Setting
from ladseg.reproduce.methods import paper_method, with_teacher
from ladseg.reproduce.tiny import NETWORKS, tiny_method, tiny_recipe
from ladseg.results import MethodCost, RunResults, read_if_complete
from ladseg.runs.finished import Log


@dataclass(frozen=True)
class Request:
    """The arguments of ``ladseg reproduce``.

    Attributes:
        out: Folder of the tables; each student has a folder in it, which the tables share.
        seeds: Seeds; each cell is trained once with each.
        only: Words that select students by the names of their recipes; empty for all students.
        cells: Methods and seeds to train in this process; None for all.
        weights: The initial weights of classic teachers, by network.
        keys: Recipe keys of the command line, for all students.
        tiny: Whether to train small networks on the built-in scenes.
        worker: Whether to return when no cell is left to take, instead of waiting for those that other processes train.
    """

    out: Path
    seeds: Sequence[int]
    only: Sequence[str] = ()
    cells: Sequence[tuple[str, int]] | None = None
    weights: Mapping[str, str | None] | None = None
    keys: Sequence[str] = ()
    tiny: bool = False
    worker: bool = False

    @property
    def scenes(self) -> Path:
        """The folder of the built-in scenes."""
        return self.out / "scenes"

    def recipe(self, setting: Setting) -> Recipe:
        """Return a student's recipe, with the request's changes."""
        full = not self.tiny
        recipe = setting.load(list(self.keys)) if full else tiny_recipe(setting.recipe, self.scenes, self.keys)
        return replace(recipe, out=str(self.out / setting.recipe))

    def method(self, recipe: Recipe, word: str) -> Method:
        """Return the method of a row of paper.csv, with the request's changes."""
        if self.tiny:
            return paper_method(recipe, tiny_method(with_teacher(word)), dict.fromkeys(NETWORKS.values()))
        return paper_method(recipe, word, self.weights or {})


def reproduce_table(experiment: Experiment, request: Request, log: Log = print) -> ReproducedTable | None:
    """Train the cells of a table that have not finished.

    Args:
        experiment: The table.
        request: Which cells to train, and where.
        log: Receives lines about the progress.

    Returns:
        The whole table with all cells that have finished in the folder; None in all processes of torchrun but the main
        one.

    Raises:
        UserError: There is a fault that a user can correct.
    """
    chosen = experiment.only(request.only)
    refuse_one_folder_for_many(chosen, request)
    _refuse_unknown_cells(chosen, request)
    for setting in chosen:
        recipe = request.recipe(setting)
        methods = _methods(request, recipe, setting)
        _refuse_missing_weights(setting, methods.values())
        only = None
        if request.cells is not None:
            only = [(methods[word].name, seed) for word, seed in request.cells if word in methods]
            if not only:
                continue
        log(f"{experiment.name}, {setting.recipe}")
        unique = list({method.name: method for method in methods.values()}.values())
        results = compare_methods(recipe, unique, request.seeds, default_teacher(recipe), only, log, request.worker)
        if results is not None:
            write_comparison(recipe.folder, results)
    if not is_main_process():
        return None
    rows = [row for setting in experiment.settings for row in _rows(setting, request, setting in chosen)]
    remark = TINY if request.tiny else ""
    return ReproducedTable(experiment.name, experiment.title, remark, rows, describe_environment())


def refuse_one_folder_for_many(settings: Sequence[Setting], request: Request) -> None:
    """Refuse one ``--data.root`` for students on several data sets, and one file of weights for several students.

    Raises:
        RecipeError: One path is given for several data sets or networks.
    """
    if request.tiny:
        return
    layouts = dict.fromkeys(setting.load().data.layout for setting in settings)
    if "--data.root" in request.keys and len(layouts) > 1:
        titles = ", ".join(LAYOUTS[layout].title for layout in layouts)
        raise RecipeError(f"--data.root is one data set, but these students use several ({titles}); select by --only")
    models = dict.fromkeys(setting.load().student.model for setting in settings)
    starts = {setting.load().student.weights for setting in settings}
    if "--student.weights" in request.keys and len(starts) > 1:
        raise RecipeError(
            f"--student.weights is one file, but these students ({', '.join(models)}) differ; select by --only"
        )


def _refuse_missing_weights(setting: Setting, methods: Iterable[Method]) -> None:
    """Refuse missing files of weights, before all of the data is read."""
    for method in methods:
        for file in (method.recipe.student.weights, method.recipe.teacher.weights):
            if file not in (None, "timm") and not Path(str(file)).is_file():
                hint = f" (needs: {'; '.join(setting.needs)})" if setting.needs else ""
                raise RecipeError(f"{file}: no such file of weights{hint}; docs/reproduce.md says where it is")


def _refuse_unknown_cells(settings: Sequence[Setting], request: Request) -> None:
    words = dict.fromkeys(word for setting in settings for word in (NONE, *setting.methods))
    for word, seed in request.cells or ():
        if word not in words or seed not in request.seeds:
            raise RecipeError(f"--cell {word}:{seed} is not among {', '.join(words)} with seeds {list(request.seeds)}")


def _methods(request: Request, recipe: Recipe, setting: Setting) -> dict[str, Method]:
    """Return the methods by their names in paper.csv, the student alone first."""
    return {word: request.method(recipe, word) for word in dict.fromkeys([NONE, *setting.methods])}


def _rows(setting: Setting, request: Request, is_chosen: bool) -> list[ReproducedRow]:
    """Return the rows of a student, with the results that have finished in its folder."""
    recipe = request.recipe(setting)
    stored = recipe.folder / "recipe.yaml"
    if not is_chosen and stored.is_file():
        recipe = replace(load_recipe(stored), out=str(recipe.folder))
    recipe = replace(recipe, baseline=True)
    methods = _methods(request, recipe, setting)
    seeds = sorted(int(place.name.removeprefix("seed-")) for place in recipe.folder.glob("seed-*"))
    runs = {word: _finished(recipe, method, seeds) for word, method in methods.items()}
    costs = read_if_complete(dict[str, MethodCost], recipe.folder / "costs.json") or {}
    rows = []
    for row in setting.rows:
        word = row["method"]
        differs = (
            [] if request.tiny else [*published_differences(row, recipe), *known_differences(setting.recipe, word)]
        )
        cost = costs.get(methods[word].name)
        step_ms = cost.time.milliseconds if cost is not None and cost.time is not None else None
        ours = _ours(runs[word], runs[NONE] if word != NONE else {}, step_ms) if runs[word] else None
        rows.append(ReproducedRow(setting.recipe, row["student"], row["layout"], word, _paper(row), ours, differs))
    return rows


def _finished(recipe: Recipe, method: Method, seeds: Sequence[int]) -> dict[int, RunResults]:
    found = {cell.seed: cell.results for cell in make_cells(recipe, [method], seeds)}
    return {seed: results for seed, results in found.items() if results is not None}


def _ours(runs: Mapping[int, RunResults], alone: Mapping[int, RunResults], step_ms: float | None) -> OurFigures:
    by_seed = {seed: run.delivered.mean_iou for seed, run in runs.items()}
    gains = [value - alone[seed].delivered.mean_iou for seed, value in by_seed.items() if seed in alone]
    teachers = [run.networks["teacher"] for run in runs.values() if "teacher" in run.networks]
    return OurFigures(
        mean_iou=by_seed,
        std=statistics.stdev(by_seed.values()) if len(by_seed) > 1 else None,
        gain=mean_with_interval(gains) if gains else None,
        teacher=mean_of_known(row.mean_iou for row in teachers),
        kl=mean_of_known(row.mean_kl_between_draws for row in teachers),
        step_ms=step_ms,
    )


def _paper(row: Mapping[str, str]) -> PaperFigures:
    test, teacher, kl, step = (
        float(row[key]) if row[key] else None for key in ("test", "teacher_val", "kl", "step_ms")
    )
    return PaperFigures(float(row["val"]), test, teacher, kl, step)

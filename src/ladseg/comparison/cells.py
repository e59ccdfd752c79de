"""The cells of a comparison, one run for each method and seed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ladseg.comparison.methods import NONE, NONE_TIMES, Method
from ladseg.recipe import Recipe
from ladseg.recipe_files import load_recipe
from ladseg.results import RESULTS, ComparisonResults, RunResults, cell_folder
from ladseg.runs.finished import finished_results


@dataclass(frozen=True)
class Cell:
    """One method with one seed, which is a separate run in its own folder."""

    method: Method
    seed: int
    folder: Path

    @property
    def key(self) -> tuple[str, int]:
        """The name of the method, and the seed."""
        return self.method.name, self.seed

    @property
    def results(self) -> RunResults | None:
        """The results of the run; None if it has not finished, or a file of it is spoilt."""
        return finished_results(self.folder, log=lambda line: None)

    @property
    def recipe(self) -> Recipe:
        """The recipe of the run."""
        return replace(self.method.recipe, seed=self.seed, out=str(self.folder))

    @property
    def shared(self) -> dict[str, Path]:
        """The folders of trainings that the cells of one seed share; another plain training shares none."""
        if self.method.recipe.distill.method == "none" and self.method.name != NONE:
            return {}
        beside = self.folder.parent
        shared = {"baseline": beside / "baseline"}
        return shared | ({"teacher": beside / f"teacher-{self.method.teacher}"} if self.method.teacher else {})


def make_cells(recipe: Recipe, methods: Sequence[Method], seeds: Sequence[int]) -> list[Cell]:
    """Return the cells of all methods and seeds."""
    return [Cell(method, seed, cell_folder(recipe.folder, method.name, seed)) for seed in seeds for method in methods]


def cells_beside(folder: Path, methods: Sequence[str], seeds: Sequence[int]) -> str | None:
    """Return a sentence on the finished cells that a summary leaves out, and the options that show them.

    Args:
        folder: Of the comparison.
        methods: Names of the methods in the summary.
        seeds: Its seeds.

    Returns:
        The sentence; None if there are no others.
    """
    found = {
        (place.parent.name, int(seed))
        for place in folder.glob(f"seed-*/*/{RESULTS}")
        if (seed := place.parent.parent.name.removeprefix("seed-")).isdecimal()
    }
    others = sorted((name, seed) for name, seed in found if name not in methods or seed not in seeds)
    if not others:
        return None
    by_method = {name: ",".join(str(seed) for one, seed in others if one == name) for name, _ in others}
    listed = "; ".join(f"{name} with --seeds {numbers}" for name, numbers in by_method.items())
    every = list(dict.fromkeys([*methods, *by_method]))
    all_seeds = sorted({*seeds, *(seed for _, seed in others)})
    lengths = sorted([1, *(int(times[1]) for name in every if (times := NONE_TIMES.fullmatch(name)))])
    words = [name for name in every if not NONE_TIMES.fullmatch(name)]
    missing = len(every) * len(all_seeds) - len(found)
    return (
        f"note: {folder} holds finished cells that this summary and its page leave out ({listed}); all are shown with "
        f"--methods {','.join(words)} --seeds {','.join(map(str, all_seeds))} "
        f"--plain-lengths {','.join(map(str, lengths))}"
        f"{f', which trains {missing} more' if missing > 0 else ''}"
    )


def trained_recipes(folder: Path, results: ComparisonResults) -> dict[str, Recipe]:
    """Return by method the recipe of one of its runs, as far as they are still there.

    Args:
        folder: Of the comparison.
        results: What it holds.
    """
    places = {
        row.name: cell_folder(folder, row.name, seed) / "recipe.yaml"
        for row in results.methods
        for seed in row.mean_iou
    }
    return {name: load_recipe(place) for name, place in places.items() if place.is_file()}

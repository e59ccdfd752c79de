"""The paper's experiments by name: what each holds, as rows of paper.csv and as recipes. Nothing here loads torch."""

from collections.abc import Sequence
from dataclasses import dataclass

from ladseg.errors import RecipeError, nearest
from ladseg.recipe import Recipe
from ladseg.recipe_files import load_recipe
from ladseg.report.paper_match import recipe_remarks
from ladseg.report.paper_tables import TITLES, paper_rows

FIGURE = "figure-4"
# The network of Figure 4 is not named; that of Table 9 asks the same question.
FIGURE_RECIPE = "table-4-stdc2"
# Figure 4's two teachers: the paper's own, and the one that sees the clean label.
NOISED, CLEAN = "lad", "lad@class_weights=none,alpha=0"
FIGURE_TITLE = "Figure 4: what a class is predicted from, by a teacher of the noised and one of the clean label"


@dataclass(frozen=True)
class Setting:
    """A student with its data and schedule: one ready recipe, and the methods that an experiment trains on it.

    Attributes:
        recipe: Name of the ready recipe.
        rows: The experiment's rows of paper.csv on it.
    """

    recipe: str
    rows: Sequence[dict[str, str]]

    @property
    def methods(self) -> list[str]:
        """The methods, as paper.csv names them."""
        return [row["method"] for row in self.rows]

    def load(self, overrides: list[str] | None = None) -> Recipe:
        """Return the recipe, with recipe keys of the command line over it."""
        return load_recipe(self.recipe, overrides)

    @property
    def needs(self) -> list[str]:
        """Files of weights that the recipe starts from and that timm does not fetch."""
        return recipe_remarks(self.recipe, "needs")


@dataclass(frozen=True)
class Experiment:
    """One of the paper's tables, or its Figure 4.

    Attributes:
        name: ``table-1`` to ``table-9``, ``dinov2`` or ``figure-4``.
        title: What it holds, in one line.
        settings: Its students.
    """

    name: str
    title: str
    settings: Sequence[Setting]

    @property
    def is_figure(self) -> bool:
        """Whether it trains teachers alone, for Figure 4."""
        return self.name == FIGURE

    def only(self, words: Sequence[str]) -> list[Setting]:
        """Return the settings whose recipe's name has one of the words in it; all without words.

        Raises:
            RecipeError: A word is in no name.
        """
        for word in words:
            if not any(word in setting.recipe for setting in self.settings):
                known = ", ".join(setting.recipe for setting in self.settings)
                raise RecipeError(f"--only {word}: {self.name} has no such student; it has {known}")
        return [one for one in self.settings if not words or any(word in one.recipe for word in words)]


def experiments() -> dict[str, Experiment]:
    """Return all experiments by name, in the order of the paper."""
    found = {}
    for number, title in TITLES.items():
        name = f"table-{number}" if number.isdigit() else number
        rows = [row for row in paper_rows() if row["table"] == number]
        recipes = dict.fromkeys(row["recipe"] for row in rows)
        settings = [Setting(recipe, [row for row in rows if row["recipe"] == recipe]) for recipe in recipes]
        found[name] = Experiment(name, title, settings)
    table_9 = found["table-9"].settings[0]
    teachers = [row for row in table_9.rows if row["method"] in (NOISED, CLEAN)]
    found[FIGURE] = Experiment(FIGURE, FIGURE_TITLE, [Setting(FIGURE_RECIPE, teachers)])
    return found


def find_experiment(name: str) -> Experiment:
    """Return the experiment of a name.

    Raises:
        RecipeError: There is none.
    """
    known = experiments()
    if name not in known:
        raise RecipeError(f"no experiment of the paper is called '{name}'{nearest(name, list(known))}")
    return known[name]

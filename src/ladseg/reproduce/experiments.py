"""The paper's experiments by name, as rows of paper.csv and as recipes; this module does not import torch."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ladseg.errors import RecipeError, nearest
from ladseg.recipe import Recipe
from ladseg.recipe_files import load_recipe
from ladseg.report.paper_match import recipe_remarks
from ladseg.report.paper_tables import TITLES, paper_rows

FIGURE = "figure-4"
# The paper does not name Figure 4's network, so Table 9's is taken, which varies the noise too.
FIGURE_RECIPE = "table-4-stdc2"
# Figure 4's two teachers: the paper's own, and one that sees the clean label.
NOISED, CLEAN = "lad", "lad@class_weights=none,alpha=0"
FIGURE_TITLE = "Figure 4: contributions of image and label to a class, for teachers of the noised and the clean label"


@dataclass(frozen=True)
class Setting:
    """A student with its data and schedule, which is one ready recipe, and the methods trained on it.

    Attributes:
        recipe: Name of the ready recipe.
        rows: The experiment's rows of paper.csv on it.
    """

    recipe: str
    rows: Sequence[dict[str, str]]

    @property
    def methods(self) -> list[str]:
        """The names of the methods in paper.csv."""
        return [row["method"] for row in self.rows]

    def load(self, overrides: list[str] | None = None) -> Recipe:
        """Return the recipe, overridden by recipe keys of the command line."""
        return load_recipe(self.recipe, overrides)

    @property
    def needs(self) -> list[str]:
        """The files of initial weights that timm does not fetch."""
        return recipe_remarks(self.recipe, "needs")


@dataclass(frozen=True)
class Experiment:
    """One of the paper's tables, or its Figure 4.

    Attributes:
        name: ``table-1`` to ``table-9``, ``dinov2`` or ``figure-4``.
        title: Its content, in one line.
        settings: Its students.
    """

    name: str
    title: str
    settings: Sequence[Setting]

    @property
    def is_figure(self) -> bool:
        """Whether it is Figure 4, which trains teachers only."""
        return self.name == FIGURE

    def only(self, words: Sequence[str]) -> list[Setting]:
        """Return the settings whose recipe's name contains one of the words; without words, return all.

        Raises:
            RecipeError: No name contains a word.
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
        # What ends a title in brackets explains names of methods; the legend does so here.
        found[name] = Experiment(name, re.sub(r" \([^()]*\)$", "", title), settings)
    table_9 = found["table-9"].settings[0]
    teachers = [row for row in table_9.rows if row["method"] in (NOISED, CLEAN)]
    found[FIGURE] = Experiment(FIGURE, FIGURE_TITLE, [Setting(FIGURE_RECIPE, teachers)])
    return found


def find_experiment(name: str) -> Experiment:
    """Return the experiment with a name.

    Raises:
        RecipeError: There is no such experiment.
    """
    known = experiments()
    if name not in known:
        raise RecipeError(f"no experiment of the paper is called '{name}'{nearest(name, list(known))}")
    return known[name]

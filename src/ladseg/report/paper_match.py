"""Compare a recipe with the published one of a row of the paper's tables."""

import re
from dataclasses import asdict
from typing import Any

from ladseg.distillation_methods import IN_THE_TABLES
from ladseg.recipe import VALUES, Recipe
from ladseg.recipe_files import load_recipe, recipe_text

# Keys that hold a path or on which no result depends.
FREE = {"student.weights", "teacher.weights", "schedule.precision", "schedule.save_every"}
DATA = ("layout", "augmented")
# Sections whose relevance depends on the method and the data.
BY_METHOD = {"data", "teacher", "distill"}
# The most differences that a table names.
MOST = 3


def known_differences(recipe: str, method: str) -> list[str]:
    """Return the known differences of a ready recipe from a method's published setting, from its comments."""
    name = re.split("[+@]", method)[0]
    words = ["differs", f"differs ({name})", *([] if name in ("none", "lad") else ["differs (rivals)"])]
    return [remark for word in words for remark in recipe_remarks(recipe, word)]


def recipe_remarks(recipe: str, word: str) -> list[str]:
    """Return the comments of a ready recipe that begin with ``# word: ``, without this beginning."""
    start = f"# {word}: "
    return [line.removeprefix(start) for line in recipe_text(recipe).splitlines() if line.startswith(start)]


def published_differences(row: dict[str, str], recipe: Recipe) -> list[str]:
    """Return the first three differences of a recipe from the published one, and the number of others.

    Args:
        row: A row of paper.csv.
        recipe: The recipe that the methods of a comparison share.
    """
    published = _compared(load_recipe(row["recipe"]), row["method"])
    ours = _compared(recipe, row["method"])
    start = "pretrained" if recipe.student.weights else "scratch"
    found = [] if start == row["start"] else [f"start ({start})"]
    found += [f"{key} ({ours.get(key)}, not {value})" for key, value in published.items() if ours.get(key) != value]
    return found if len(found) <= MOST else [*found[:MOST], f"{len(found) - MOST} more"]


def own_differences(method: str, trained: Recipe | None) -> list[str]:
    """Return the keys of its own by which a rival was trained otherwise than for the tables.

    Args:
        method: Of a row of paper.csv.
        trained: The recipe of one of its runs; None if it is not there any more.
    """
    own = IN_THE_TABLES.get(method.partition("+")[0], {})
    ours = {} if trained is None else asdict(trained.distill)
    return [f"distill.{key} ({ours[key]}, not {value})" for key, value in own.items() if ours and ours[key] != value]


def _compared(recipe: Recipe, method: str) -> dict[str, Any]:
    """Return the settings on which a method's result depends, by key."""
    values = asdict(recipe)
    found = {f"data.{key}": values["data"][key] for key in DATA}
    sections = [name for name, value in values.items() if isinstance(value, dict) and name not in BY_METHOD]
    if method.startswith("lad"):
        # The method's name already tells which keys of the teacher section differ from the recipe's.
        sections += ["teacher", "distill"]
        model = recipe.teacher.model or recipe.student.model
        values["teacher"]["model"] = method.partition("+")[2] or model
    for section in sections:
        found |= {f"{section}.{key}": value for key, value in values[section].items() if key not in VALUES}
    return {key: value for key, value in found.items() if key not in FREE}

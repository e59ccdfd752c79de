"""The run's own files: whose folder it is, and what came out."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from ladseg.errors import RecipeError
from ladseg.files import write_text
from ladseg.recipe import VALUES, Recipe
from ladseg.recipe_files import dump_recipe, load_recipe
from ladseg.measure.environment import describe_environment

# What may change between a run's start and its resumption, because no result depends on it.
FREE_KEYS = {"name", "out", "preset", "data.workers", "data.cache", "data.root", "schedule.save_every", "trackers"}


def claim_folder(recipe: Recipe) -> None:
    """Record the recipe in the run's folder, or accept a folder that already holds the same one.

    Raises:
        RecipeError: The folder holds a run of another recipe; the message names the first difference.
    """
    path = recipe.folder / "recipe.yaml"
    if path.exists():
        differences = _differences(load_recipe(path), recipe)
        if differences:
            raise RecipeError(
                f"{recipe.folder} holds a run of another recipe ({differences[0]}); "
                "choose another --name or --out, or delete that folder"
            )
    else:
        write_text(path, dump_recipe(recipe))
    write_text(
        recipe.folder / "environment.json",
        json.dumps({"seed": recipe.seed, **describe_environment()}, indent=2) + "\n",
    )


def write_results(folder: Path, results: dict[str, Any]) -> None:
    """``results.json``, complete or absent."""
    write_text(folder / "results.json", json.dumps(results, indent=2) + "\n")


def _differences(old: Recipe, new: Recipe) -> list[str]:
    before, after = _flat(dataclasses.asdict(old)), _flat(dataclasses.asdict(new))
    return [f"{key}: {before[key]} there, {after[key]} now" for key in after if before[key] != after[key]]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        path = prefix + key
        if path in FREE_KEYS:
            continue
        if isinstance(value, dict) and key not in VALUES:
            flat |= _flat(value, f"{path}.")
        else:
            flat[path] = value
    return flat

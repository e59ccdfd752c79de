"""Recipes from YAML, presets and the command line.

Values come from four places, each overriding the one before: the defaults of :mod:`ladseg.recipe`, the ``preset``,
the recipe file, and ``--key.sub value`` on the command line. A key that does not exist is an error that names the
nearest one that does.
"""

import dataclasses
import json
import re
from argparse import SUPPRESS
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from ladseg.distillation_methods import METHODS
from ladseg.errors import RecipeError, first_words, nearest
from ladseg.presets import PRESETS
from ladseg.recipe import METHOD_KEYS, VALUES, Distill, Recipe


def recipe_names() -> list[str]:
    """The ready recipes that ship in the package."""
    folder = resources.files("ladseg") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def recipe_text(name: str) -> str:
    """The YAML of a ready recipe, comments included."""
    if name not in recipe_names():
        raise RecipeError(f"no ready recipe is called '{name}'{nearest(name, recipe_names())}")
    return (resources.files("ladseg") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")


def load_recipe(source: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe.

    Args:
        source: A YAML file, or the name of a ready recipe.
        overrides: Command-line words such as ``["--schedule.lr", "0.01"]``.

    Raises:
        RecipeError: No such file or recipe, not YAML, an unknown key, a value of the wrong type.
    """
    path = Path(source)
    if path.suffix in {".yaml", ".yml"} or path.is_file():
        if not path.is_file():
            raise RecipeError(f"{path}: no such recipe file; 'ladseg recipes' lists the ready ones")
        text = path.read_text(encoding="utf-8")
    else:
        text = recipe_text(str(source))
    values = _read_yaml(text, str(source)) or {}
    if not isinstance(values, dict):
        raise RecipeError(f"{source}: a recipe is a mapping of keys such as data, student and schedule")
    return make_recipe(values, overrides, str(source))


def make_recipe(values: dict[str, Any], overrides: list[str] | None = None, source: str = "recipe") -> Recipe:
    """A recipe from nested plain values; arguments and errors as for :func:`load_recipe`."""
    values = _with_one_distill(values, source)
    _refuse_unknown_keys(values, Recipe, source)
    chosen = _parse_overrides(overrides or [])
    values = _merged(_for_method(values, chosen), chosen)
    parsed = _parsed(_merged(_for_method(_preset(values, source), values), values), source)
    parsed["distill"]["also"] = [_further_method(settings, source) for settings in parsed["distill"]["also"]]
    try:
        recipe: Recipe = _instance(Recipe, parsed)
    except RecipeError as error:
        raise RecipeError(f"{source}: {error}") from None
    _refuse_inconsistent(recipe, source)
    return recipe


def _preset(values: dict[str, Any], source: str) -> dict[str, Any]:
    """Return what the preset that these values name says."""
    name = values.get("preset", "ladseg")
    if name not in PRESETS:
        raise RecipeError(f"{source}: preset '{name}' is not one of {', '.join(PRESETS)}")
    return PRESETS[name]


def _for_method(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return ``under`` without what it says of its method of distillation, where ``over`` names another one.

    Weights and temperatures are chosen for one method: another method keeps its own.
    """
    distill = under.get("distill", {})
    method = over.get("distill", {}).get("method")
    if method is None or method == distill.get("method", Distill.method):
        return under
    kept = {key: value for key, value in distill.items() if key not in (*METHOD_KEYS, "also")}
    return {**under, "distill": kept}


def _parsed(values: dict[str, Any], source: str) -> dict[str, Any]:
    method = values.get("distill", {}).get("method", Distill.method)
    if method not in METHODS:
        raise RecipeError(f"{source}: distill.method '{method}' is not one of {', '.join(METHODS)}")
    try:
        parsed: dict[str, Any] = recipe_parser().parse_object(values).as_dict()
    except ArgumentError as error:
        raise RecipeError(f"{source}: {first_words(error)}") from None
    return parsed


def _with_one_distill(values: dict[str, Any], source: str) -> dict[str, Any]:
    """Return the values with a list under ``distill`` as its first section, which has the others in ``also``."""
    distill = values.get("distill")
    methods = distill if isinstance(distill, list) else [distill]
    for settings in methods:
        if isinstance(settings, dict):
            _refuse_former_keys(settings, source)
    if not isinstance(distill, list):
        return values
    first, *further = methods or [None]
    if not isinstance(first, dict) or not all(isinstance(method, dict) for method in further):
        raise RecipeError(f"{source}: distill is a list, but not of sections such as {{method: cwd, weight: 3}}")
    return {**values, "distill": {**first, "also": further}}


# Keys that distill had once, and how the same is written now.
FORMER_KEYS = {
    "also": "write a list: distill: [{method: cwd}, {method: kd}]",
    "recipe": "cwd with all that the field's comparisons add is method: cwd-full",
    "features_weight": "write a list: distill: [{method: cwd}, {method: cwd-features, weight: 50}]",
}


def _refuse_former_keys(settings: dict[str, Any], source: str) -> None:
    for key in settings.keys() & FORMER_KEYS.keys():
        raise RecipeError(f"{source}: distill.{key} is no key any more; {FORMER_KEYS[key]}")


def _further_method(settings: dict[str, Any], source: str) -> dict[str, Any]:
    """Return a further section of a list, its values checked as those of the first one are."""
    for key in settings:
        if key not in METHOD_KEYS:
            raise RecipeError(
                f"{source}: unknown key '{key}' of a further method of distill{nearest(key, METHOD_KEYS)}"
            )
    if "method" not in settings:
        raise RecipeError(f"{source}: a further method of distill names no method")
    parsed = _parsed({"distill": settings}, source)["distill"]
    return {key: parsed[key] for key in settings}


def recipe_parser(**options: Any) -> ArgumentParser:
    """The parser behind the recipe: types, defaults and the help text of every key."""
    parser = ArgumentParser(exit_on_error=False, **options)
    parser.add_class_arguments(Recipe, None)
    for action in parser._actions:
        if action.dest == "distill.also":  # filled in from a list, which is the one way to write it
            action.help = SUPPRESS
    return parser


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML with every value, defaults included; :func:`load_recipe` reads it back equal."""
    values = dataclasses.asdict(recipe)
    values["schedule"]["crop"] = list(recipe.schedule.crop)
    further = values["distill"].pop("also")
    if further:
        values["distill"] = [values["distill"], *further]
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads ``1e-4`` as a string; every user of learning rates means a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def _read_yaml(text: str, source: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise RecipeError(f"{source}: not valid YAML: {first_words(error)}") from None


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Nested mappings joined; where both name a key, ``over`` wins. ``label_map`` and ``args`` are values."""
    result = dict(under)
    for key, value in over.items():
        nested = isinstance(value, dict) and isinstance(result.get(key), dict) and key not in VALUES
        result[key] = _merged(result[key], value) if nested else value
    return result


def _parse_overrides(words: list[str]) -> dict[str, Any]:
    for word in words:
        if word.startswith("--"):
            refuse_unknown_path(word[2:].split("=")[0])
    try:
        parsed: dict[str, Any] = recipe_parser().parse_args(_without_lists(words), defaults=False).as_dict()
    except ArgumentError as error:
        raise RecipeError(f"command line: {first_words(error)}") from None
    return parsed


def _without_lists(words: list[str]) -> list[str]:
    """Return the words with a list of methods after ``--distill`` as the one section that the parser takes."""
    result: list[str] = []
    for word in words:
        text = word.removeprefix("--distill=")
        if text.startswith(("[", "{")) and (text != word or result[-1:] == ["--distill"]):
            values = _with_one_distill({"distill": _read_yaml(text, "command line: --distill")}, "command line")
            word = word.removesuffix(text) + json.dumps(values["distill"])
        result.append(word)
    return result


def _sections() -> dict[str, type]:
    return {f.name: f.type for f in dataclasses.fields(Recipe) if dataclasses.is_dataclass(f.type)}  # type: ignore[misc]


def key_paths() -> list[str]:
    """Return the keys of a recipe as the command line spells them, such as ``schedule.lr``."""
    top = [f.name for f in dataclasses.fields(Recipe)]
    paths = top + [f"{s}.{f.name}" for s, cls in _sections().items() for f in dataclasses.fields(cls)]
    return [path for path in paths if path != "distill.also"]


def refuse_unknown_path(path: str, others: Sequence[str] = ()) -> None:
    """Raise RecipeError if no key of a recipe is called so.

    Args:
        path: Such as ``schedule.lr``.
        others: Further names to suggest.
    """
    section, _, key = path.partition(".")
    if section == "distill":
        _refuse_former_keys({key: None}, "command line")
    if path not in key_paths():
        hint = nearest(path, [*others, *key_paths()], listed=False)
        raise RecipeError(f"command line: no recipe key is called '{path}'{hint}")


def _refuse_unknown_keys(values: dict[str, Any], cls: type, source: str, prefix: str = "") -> None:
    known = [f.name for f in dataclasses.fields(cls)]
    for key, value in values.items():
        if key not in known:
            raise RecipeError(f"{source}: unknown key '{prefix}{key}'{nearest(str(key), known)}")
        section = _sections().get(key) if cls is Recipe else None
        if section is not None:
            if not isinstance(value, dict):
                raise RecipeError(
                    f"{source}: '{key}' needs keys below it, such as {dataclasses.fields(section)[0].name}"
                )
            _refuse_unknown_keys(value, section, source, f"{key}.")


def _instance(cls: type, values: dict[str, Any]) -> Any:
    sections = _sections() if cls is Recipe else {}
    return cls(**{k: _instance(sections[k], v) if k in sections else v for k, v in values.items()})


def _refuse_inconsistent(recipe: Recipe, source: str) -> None:
    """Faults that no single value shows."""
    schedule, teacher = recipe.schedule, recipe.teacher
    for key, value in {
        "iterations": schedule.iterations,
        "batch_size": schedule.batch_size,
        "lr": schedule.lr,
    }.items():
        if value <= 0:
            raise RecipeError(f"{source}: schedule.{key} is {value}; it must be above 0")
    for settings in (dataclasses.asdict(recipe.distill), *recipe.distill.also):
        tau, weight = settings.get("tau"), settings.get("weight")
        if tau is not None and tau <= 0:
            raise RecipeError(f"{source}: distill.tau is {tau}; it must be above 0")
        for value in (weight, *(settings.get("term_weights") or {}).values()):
            if value is not None and value < 0:
                raise RecipeError(f"{source}: a weight of distill is {value}; it must be 0 or more")
    for section, warm in {"teacher": teacher.warm_start, "distill": recipe.distill.warm_start}.items():
        if warm and not recipe.baseline:
            raise RecipeError(f"{source}: {section}.warm_start starts from the plain student; set baseline: true")
    if teacher.warm_start and not recipe.teacher_is_students_model:
        raise RecipeError(
            f"{source}: teacher.warm_start needs the student's model '{recipe.student.model}', not '{teacher.model}'"
        )

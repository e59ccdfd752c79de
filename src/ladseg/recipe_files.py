"""Make recipes from YAML, presets and the command line.

Values come from four sources, each overriding the ones before it: the defaults of :mod:`ladseg.recipe`, the ``preset``,
the recipe file, and ``--key.sub value`` on the command line. A preset on the command line also overrides a ready
recipe of the package. An unknown key is an error that names the nearest known one.
"""

import dataclasses
import logging
import os
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from ladseg.distillation_methods import METHODS
from ladseg.errors import RecipeError, nearest
from ladseg.presets import PRESETS
from ladseg.recipe import METHOD_KEYS, NAMES_A_FILE, VALUES, Distill, Recipe
from ladseg.recipe_checks import refuse_inconsistent
from ladseg.recipe_values import accepts_text, checked, description, shown
from ladseg.recipe_yaml import read_recipe_file, read_yaml

COMMAND_LINE = "command line"
# Former keys of ``distill``, and what to write instead.
FORMER_KEYS = {
    "also": "write a list: distill: [{method: cwd}, {method: kd}]",
    "recipe": "cwd with all that the field's comparisons add is method: cwd-full",
    "features_weight": "write a list: distill: [{method: cwd}, {method: cwd-features, weight: 50}]",
}
logger = logging.getLogger(__name__)


def recipe_names() -> list[str]:
    """Return the names of the ready recipes that ship in the package."""
    folder = resources.files("ladseg") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def recipe_text(name: str) -> str:
    """Return the YAML of a ready recipe, comments included."""
    if name not in recipe_names():
        raise RecipeError(f"no ready recipe is called '{name}'{nearest(name, recipe_names())}")
    return (resources.files("ladseg") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")


def load_recipe(source: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe.

    Args:
        source: A YAML file, or the name of a ready recipe.
        overrides: Command-line words such as ``["--schedule.lr", "0.01"]``.

    Raises:
        RecipeError: The file or recipe does not exist or is not YAML, or a key or value is wrong.
    """
    path = Path(expanded(str(source)))
    is_file = path.suffix in {".yaml", ".yml"} or path.is_file()
    if not is_file and path.is_dir() and str(source) not in recipe_names():
        raise RecipeError(f"{source}: a folder, not a recipe; {_recipe_for(path)}")
    values = read_yaml(read_recipe_file(path) if is_file else recipe_text(str(source)), str(source))
    return make_recipe({} if values is None else values, overrides, str(source), shipped=not is_file)


def _recipe_for(folder: Path) -> str:
    """Return what to do with a folder in a recipe's place."""
    if (folder / "recipe.yaml").is_file():
        return f"give {folder / 'recipe.yaml'}"
    return f"'ladseg init {folder} --out mine.yaml' writes one for the data in it"


def make_recipe(
    values: Any, overrides: list[str] | None = None, source: str = "recipe", shipped: bool = False
) -> Recipe:
    """Make a recipe from nested plain values.

    Args:
        values: A mapping of sections and keys, as read from YAML.
        overrides: Command-line words such as ``["--schedule.lr", "0.01"]``.
        source: Name of the values in messages.
        shipped: Whether the values are a ready recipe of the package, which a preset on the command line overrides.

    Raises:
        RecipeError: A key or value is wrong.
    """
    if not isinstance(values, dict):
        raise RecipeError(f"{source}: a recipe is a mapping of keys such as data, student and schedule")
    file, words = _checked_keys(values, source), _parse_overrides(overrides or [])
    name = words.get("preset", file.get("preset", "ladseg"))
    preset = _checked_keys(PRESETS[name], f"preset {name}")
    if "preset" in words and shipped:
        layers = [file, preset, words]
    else:
        layers = [preset, file, words]
        if "preset" in words:
            _report_conflicts(preset, file, words, source)
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = _merged(_for_method(merged, layer), layer)
    try:
        recipe: Recipe = _instance(Recipe, merged)
    except RecipeError as error:
        raise RecipeError(f"{source}: {error}") from None
    refuse_inconsistent(recipe, source)
    return recipe


def as_recipe(source: Recipe | Mapping[str, Any] | str | Path) -> Recipe:
    """Return a recipe, or make one from nested plain values, a YAML file or the name of a ready one.

    Raises:
        RecipeError: As for :func:`load_recipe`.
    """
    if isinstance(source, Recipe):
        return source
    return make_recipe(dict(source)) if isinstance(source, Mapping) else load_recipe(source)


def key_paths() -> list[str]:
    """Return the keys of a recipe as the command line spells them, such as ``schedule.lr``."""
    top = [f.name for f in dataclasses.fields(Recipe)]
    paths = top + [f"{s}.{f.name}" for s, cls in _sections().items() for f in dataclasses.fields(cls)]
    return [path for path in paths if path != "distill.also"]


def refuse_unknown_path(path: str, others: Sequence[str] = ()) -> None:
    """Raise RecipeError if no key of a recipe is called so.

    Args:
        path: The key, such as ``schedule.lr``.
        others: Further names to suggest.
    """
    section, _, key = path.partition(".")
    if section == "distill":
        _refuse_former_keys({key: None}, "command line")
    if path not in key_paths():
        whole, _, inner = path.rpartition(".")
        if whole in key_paths() and whole.rpartition(".")[2] in VALUES:
            raise RecipeError(f"command line: {whole} is one mapping; write --{whole} '{{{inner}: VALUE}}'")
        hint = nearest(path, [*others, *key_paths()], listed=False)
        raise RecipeError(f"command line: no recipe key is called '{path}'{hint}")


def keys_help(recipe: Recipe | None = None) -> str:
    """Return the help text of every key: its meaning, type, range and value in the recipe; None takes the defaults."""
    recipe, lines = recipe or Recipe(), []
    for cls, prefix in [(Recipe, ""), *((cls, f"{name}.") for name, cls in _sections().items())]:
        text = cls.__doc__ or ""
        meanings = dict(re.findall(r"^ {8}(\w+): (.*(?:\n {12}.*)*)", text, re.MULTILINE))
        defaults = getattr(recipe, prefix[:-1]) if prefix else recipe
        lines.append(text.splitlines()[0])
        for field in dataclasses.fields(cls):
            if f"{prefix}{field.name}" in key_paths() and (prefix or field.name not in _sections()):
                default = shown(getattr(defaults, field.name))
                line = f"{' '.join(meanings[field.name].split())} ({description(field.type)}; default: {default})"
                lines += [f"  --{prefix}{field.name}", f"{' ' * 8}{line}"]
        lines.append("")
    return "\n".join(lines)


def dump_recipe(recipe: Recipe) -> str:
    """Return the recipe as YAML with every value, defaults included; :func:`load_recipe` reads it back equal."""
    values = dataclasses.asdict(recipe)
    for section, key in (("schedule", "crop"), ("schedule", "eval_window"), ("data", "value_range")):
        if values[section][key] is not None:
            values[section][key] = _as_lists(values[section][key])
    further = values["distill"].pop("also")
    if further:
        values["distill"] = [values["distill"], *further]
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _as_lists(values: Any) -> Any:
    """Return nested tuples, which YAML does not have, as lists."""
    return [_as_lists(value) for value in values] if isinstance(values, list | tuple) else values


def _with_home(key: str, value: Any) -> Any:
    return expanded(value) if key in NAMES_A_FILE and isinstance(value, str) else value


def expanded(path: str) -> str:
    """Return a path with ``~`` and ``$VARIABLE`` replaced."""
    return os.path.expandvars(os.path.expanduser(path))


def _for_method(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return ``under`` without the settings of its distillation method, if ``over`` names another method.

    Weights and temperatures belong to one method; another method has its own.
    """
    distill = under.get("distill", {})
    method = over.get("distill", {}).get("method")
    if method is None or method == distill.get("method", Distill.method):
        return under
    kept = {key: value for key, value in distill.items() if key not in (*METHOD_KEYS, "also")}
    return {**under, "distill": kept}


def _report_conflicts(preset: dict[str, Any], file: dict[str, Any], words: dict[str, Any], source: str) -> None:
    """Log the keys of the user's file that keep their value although the command line's preset has another."""
    kept = [
        f"{section}.{key} {shown(value)} (preset: {shown(preset[section][key])})"
        for section, keys in file.items()
        if section in _sections() and isinstance(preset.get(section), dict)
        for key, value in keys.items()
        if key in preset[section] and preset[section][key] != value and key not in words.get(section, {})
    ]
    if kept:
        logger.warning("%s: these keys win over preset %s: %s", source, words["preset"], ", ".join(kept))


def _checked_keys(values: dict[str, Any], source: str) -> dict[str, Any]:
    """Return nested values, each as its field holds it; absent keys stay absent."""
    values = _with_one_distill(values, source)
    if isinstance(values.get("augment"), str):
        values = {**values, "augment": {"function": values["augment"]}}
    result: dict[str, Any] = {}
    fields = {field.name: field.type for field in dataclasses.fields(Recipe)}
    for key, value in values.items():
        if key not in fields:
            raise RecipeError(f"{source}: unknown key '{key}'{nearest(str(key), [*fields])}")
        if key in _sections():
            result[key] = _section(value, key, _sections()[key], source)
        else:
            result[key] = _with_home(key, checked(value, fields[key], key, source))
    return result


def _section(values: Any, name: str, cls: type, source: str) -> dict[str, Any]:
    fields = {field.name: field.type for field in dataclasses.fields(cls)}
    if not isinstance(values, dict):
        raise RecipeError(f"{source}: '{name}' needs keys below it, such as {next(iter(fields))}")
    result = {}
    for key, value in values.items():
        if key not in fields:
            raise RecipeError(f"{source}: unknown key '{name}.{key}'{nearest(str(key), [*fields])}")
        if key == "also":  # filled in from a list of methods
            result[key] = [_further_method(settings, i, source) for i, settings in enumerate(value, 1)]
            continue
        path = f"{name}.{key}"
        result[key] = _with_home(path, checked(value, fields[key], path, source))
    return result


def _with_one_distill(values: dict[str, Any], source: str) -> dict[str, Any]:
    """Replace a list under ``distill`` by its first section, whose ``also`` holds the others."""
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


def _refuse_former_keys(settings: dict[str, Any], source: str) -> None:
    for key in settings.keys() & FORMER_KEYS.keys():
        raise RecipeError(f"{source}: distill.{key} is no longer a key; {FORMER_KEYS[key]}")


def _further_method(settings: dict[str, Any], number: int, source: str) -> dict[str, Any]:
    """Return a further section of a list, with its values checked like those of the first."""
    for key in settings:
        if key not in METHOD_KEYS:
            hint = nearest(str(key), METHOD_KEYS)
            raise RecipeError(f"{source}: unknown key '{key}' of a further method of distill{hint}")
    if "method" not in settings:
        raise RecipeError(f"{source}: a further method of distill names no method; known: {', '.join(METHODS)}")
    fields = {field.name: field.type for field in dataclasses.fields(Distill)}
    return {key: checked(value, fields[key], f"distill[{number}].{key}", source) for key, value in settings.items()}


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Merge nested mappings; if both have a key, ``over`` wins. The keys in ``VALUES`` are replaced as a whole."""
    result = dict(under)
    for key, value in over.items():
        nested = isinstance(value, dict) and isinstance(result.get(key), dict) and key not in VALUES
        result[key] = _merged(result[key], value) if nested else value
    return result


def _parse_overrides(words: list[str]) -> dict[str, Any]:
    """Return the nested values of ``--key.sub value`` or ``--key.sub=value``; of repeated keys the last wins."""
    result: dict[str, Any] = {}
    remaining = iter(words)
    for word in remaining:
        flag, equals, text = word.partition("=")
        path = flag.removeprefix("--")
        if flag == path:
            raise RecipeError(f"{COMMAND_LINE}: '{word}' is not --key value")
        refuse_unknown_path(path)
        if not equals and (text := next(remaining, "--")).startswith("--"):
            raise RecipeError(f"{COMMAND_LINE}: {flag} needs a value")
        section, _, key = path.rpartition(".")
        value = _value_of(text, path)
        result = _merged(result, _checked_keys({section: {key: value}} if section else {key: value}, COMMAND_LINE))
    return result


def _value_of(text: str, path: str) -> Any:
    """Return a word of the command line, parsed as YAML unless the key holds text."""
    section, _, key = path.rpartition(".")
    cls = _sections()[section] if section else Recipe
    kind = next(field.type for field in dataclasses.fields(cls) if field.name == key)
    if accepts_text(kind) and text != "null" and not text.startswith("["):
        return text
    if not text:
        raise RecipeError(f"{COMMAND_LINE}: --{path} needs a value")
    return read_yaml(text, f"{COMMAND_LINE}: --{path}")


def _sections() -> dict[str, type]:
    return {f.name: f.type for f in dataclasses.fields(Recipe) if dataclasses.is_dataclass(f.type)}  # type: ignore[misc]


def _instance(cls: type, values: dict[str, Any]) -> Any:
    sections = _sections() if cls is Recipe else {}
    return cls(**{k: _instance(sections[k], v) if k in sections else v for k, v in values.items()})

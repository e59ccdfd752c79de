"""Read the YAML of recipes, and refuse what is not plain, finite YAML."""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from ladseg.errors import RecipeError, first_words

# Limits on nesting and on bytes, far above any real recipe's.
DEEPEST, LONGEST = 20, 1 << 20


def read_recipe_file(path: Path) -> str:
    """Return the text of a recipe file.

    Raises:
        RecipeError: The file is missing or not UTF-8 text.
    """
    if not path.is_file():
        raise RecipeError(
            f"{path}: no such recipe file; a relative path starts at the working directory {Path.cwd()}, and "
            "'ladseg recipes' lists the ready recipes"
        )
    content = path.read_bytes()
    if len(content) > LONGEST:
        raise RecipeError(f"{path}: {len(content)} bytes are too many for a recipe; give a recipe file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: byte {error.start + 1} is not UTF-8; save the recipe as UTF-8") from None


def read_yaml(text: str, source: str) -> Any:
    """Return the values of a YAML text.

    Args:
        text: The YAML.
        source: Name of the text in messages.

    Raises:
        RecipeError: The text is not YAML, has a key twice, is nested too deeply or contains itself.
    """
    try:
        values = yaml.load(text, _Loader)
        _refuse_depth(values)
    except yaml.YAMLError as error:
        raise RecipeError(f"{source}: not valid YAML: {first_words(error)}") from None
    except RecursionError:
        raise RecipeError(f"{source}: nested more than {DEEPEST} deep, or an anchor contains itself") from None
    except (ValueError, TypeError, OverflowError) as error:  # such as a date whose month is 13
        raise RecipeError(f"{source}: a value can't be read ({first_words(error)}); put it in quotes") from None
    return values


class _Loader(yaml.SafeLoader):
    """A YAML loader that reads ``1e-4`` as a number, which YAML 1.1 does not, and refuses repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            line = key.start_mark.line + 1
            if key.value in lines:
                problem = f"key '{key.value}' stands twice, on lines {lines[key.value]} and {line}; keep one"
                raise yaml.MarkedYAMLError(problem=problem)
            lines[key.value] = line
        return super().construct_mapping(node, deep)


def _whole_number(loader: _Loader, node: yaml.ScalarNode) -> int:
    """Return a whole number, but refuse 010 and 1:30, which YAML reads as 8 and as 90."""
    value = loader.construct_yaml_int(node)
    digits = node.value.lstrip("+-")
    if ":" in digits or (digits.isdecimal() and int(digits) != abs(value)):
        problem = f"{node.value} on line {node.start_mark.line + 1} is {value} in YAML; write the number that you mean"
        raise yaml.MarkedYAMLError(problem=problem)
    return value


def _number(loader: _Loader, node: yaml.ScalarNode) -> float:
    """Return a number, but refuse 1:30.5, which YAML reads as 90.5."""
    value = loader.construct_yaml_float(node)
    if ":" in node.value:
        problem = f"{node.value} on line {node.start_mark.line + 1} is {value} in YAML; write the number that you mean"
        raise yaml.MarkedYAMLError(problem=problem)
    return value


_Loader.add_constructor("tag:yaml.org,2002:int", _whole_number)
_Loader.add_constructor("tag:yaml.org,2002:float", _number)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def _refuse_depth(values: Any) -> None:
    """Raise RecursionError if the values are nested too deeply.

    Each container is visited once per level, so that nested aliases don't multiply the time.
    """
    level = {id(values): values}
    for _ in range(DEEPEST):
        containers = [value for value in level.values() if isinstance(value, list | dict)]
        if not containers:
            return
        inner = (value for each in containers for value in (each.values() if isinstance(each, dict) else each))
        level = {id(value): value for value in inner}
    raise RecursionError

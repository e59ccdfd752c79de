"""The page docs/api.md, made from signatures and docstrings.

python -m tests.api_page > docs/api.md
"""

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any

from torch import nn

import ladseg

INTRODUCTION = """# Python

What `import ladseg` gives, made from the code by `python -m tests.api_page`. Arguments, shapes, ranges and errors
stand in the docstrings (`help(ladseg.LabelNoise)`). These names, the commands and the recipe's keys are kept;
everything else may change.
"""
# In the order in which one meets them.
ORDER = (
    "load", "Student", "Inference", "load_recipe", "Recipe", "train", "RunResults", "compare", "ComparisonResults",
    "build_model", "list_models", "adapt", "Segmenter",
    "SegmentationOutput", "LabelNoise", "widen_input", "LabelAssisted", "TeacherObjective", "StudentObjective", "Plain",
    "distillers", "ConfusionMatrix",
)  # fmt: skip
# What a module overrides of torch is no news, but for its call.
INHERITED = set(dir(nn.Module)) - {"forward"}


def api_page() -> str:
    """Return the page."""
    return "\n".join([INTRODUCTION, *(section for name in ORDER for section in sections(name))])


def sections(name: str) -> Iterator[str]:
    """Yield the section of a public name."""
    value = getattr(ladseg, name)
    if inspect.ismodule(value):
        listed = ", ".join(f"`{each}`" for each in value.__all__)
        yield f"## `{name}`\n\n{summary(value)}\n\n{listed}\n"
        return
    yield f"## `{signature(name, value)}`\n\n{summary(value)}\n"
    if inspect.isclass(value) and not dataclasses.is_dataclass(value) and (methods := list(methods_of(value))):
        yield "\n".join(methods) + "\n"


def methods_of(kind: type) -> Iterator[str]:
    """Yield a line for each public method of a class that is its own."""
    for name, value in vars(kind).items():
        if name.startswith("_") or name in INHERITED:
            continue
        function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        if inspect.isfunction(function) and function.__doc__:
            yield f"- `{signature(name, function)}`: {summary(function)}"


def signature(name: str, value: Any) -> str:
    """Return the call as the source writes it, without ``self``: annotations print otherwise in each Python version."""
    node = ast.parse(textwrap.dedent(inspect.getsource(value))).body[0]
    if isinstance(node, ast.ClassDef):
        inits = [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
        if not inits:  # a dataclass
            return f"{name}({', '.join(ast.unparse(part) for part in node.body if isinstance(part, ast.AnnAssign))})"
        return f"{name}({arguments(inits[0])})"
    assert isinstance(node, ast.FunctionDef)
    returned = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{name}({arguments(node)}){returned}".replace("'", '"')


def arguments(function: ast.FunctionDef) -> str:
    """Return the arguments of a function or method, annotations and defaults included."""
    given = function.args
    given.args = [one for one in given.args if one.arg not in ("self", "cls")]
    return ast.unparse(given).replace("'", '"')


def summary(value: object) -> str:
    """Return the first paragraph of a docstring, as Markdown."""
    text = inspect.getdoc(value) or ""
    text = " ".join(text.split("\n\n")[0].split())
    return re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", text.replace("``", "`"))


if __name__ == "__main__":
    print(api_page(), end="")

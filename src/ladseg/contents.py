"""Load the names of a package on first use (PEP 562).

Importing torch takes seconds. A package whose ``__init__`` imports nothing costs no time until one of its names is
used, so that ``ladseg --help`` and ``import ladseg`` are instant.
"""

import ast
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any


def on_first_use(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return ``__getattr__``, ``__dir__`` and ``__all__`` for the ``__init__`` of a package.

    The names are those that the ``__init__`` imports under ``if TYPE_CHECKING:``, where type checkers and editors find
    them too, so that each name is written once.

    Args:
        package: ``__name__`` of the ``__init__``.
        file: ``__file__`` of the ``__init__``. No name may equal that of a module in the package, because importing the
            module would replace it.
    """
    modules: dict[str, str | None] = {}
    for branch in ast.parse(Path(file).read_text(encoding="utf-8")).body:
        for node in branch.body if isinstance(branch, ast.If) else []:
            if isinstance(node, ast.ImportFrom):
                modules |= {alias.name: node.module for alias in node.names}

    def load(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        module = modules[name]
        if module is None:
            return importlib.import_module(f"{package}.{name}")
        value = getattr(importlib.import_module(f"{package}.{module}"), name)
        setattr(importlib.import_module(package), name, value)
        return value

    return load, lambda: sorted(modules), sorted(modules)

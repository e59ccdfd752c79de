"""The distillers by the name that a recipe gives them."""

from collections.abc import Callable

from torch import nn

from ladseg.distillers.cwd import CWD
from ladseg.distillers.kd import KD
from ladseg.distillers.none import NoDistillation
from ladseg.errors import RecipeError
from ladseg.recipe import Distill

DISTILLERS: dict[str, Callable[[Distill], nn.Module]] = {
    "none": lambda distill: NoDistillation(),
    "kd": lambda distill: KD(distill.tau),
    "cwd": lambda distill: CWD(distill.tau),
}


def build_distiller(distill: Distill) -> nn.Module:
    """The distiller of a recipe.

    Raises:
        RecipeError: No such method.
    """
    if distill.method not in DISTILLERS:
        raise RecipeError(f"distill.method '{distill.method}' is not one of {', '.join(DISTILLERS)}")
    return DISTILLERS[distill.method](distill)

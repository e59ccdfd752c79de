"""The class loss of a recipe: cross-entropy and losses of segmentation_models_pytorch, weighted and summed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

from torch import Tensor, nn

from ladseg.errors import RecipeError
from ladseg.losses.cross_entropy import HardPixels, cross_entropy
from ladseg.recipe import Loss
from ladseg.resize import resize_logits

# A function of logits (N, C, h, w), label (N, H, W) int64 and align_corners that returns a scalar.
ClassLoss = Callable[..., Tensor]
IGNORE = 255
LIBRARY = "segmentation_models_pytorch"


def make_class_loss(settings: Loss, num_classes: int) -> ClassLoss:
    """Return the loss that trains every head of a network.

    Args:
        settings: The recipe's section. ``balanced`` class weights must have been replaced by numbers; they are 1 here.
        num_classes: Number of classes.

    Raises:
        RecipeError: The numbers of class weights and of classes differ, or a package is not installed.
    """
    weights = settings.class_weights if isinstance(settings.class_weights, list) else None
    if weights is not None and len(weights) != num_classes:
        raise RecipeError(f"loss.class_weights has {len(weights)} numbers, and the data has {num_classes} classes")
    hard = None if settings.ohem is None else HardPixels(settings.ohem, settings.ohem_min_kept)
    entropy = partial(cross_entropy, class_weights=weights, mean=settings.mean, hard=hard)
    parts: list[tuple[float, ClassLoss]] = [(settings.cross_entropy, entropy)] if settings.cross_entropy else []
    parts += [(weight, _library_loss(name, settings)) for name, weight in _others(settings).items() if weight]
    return entropy if parts == [(1.0, entropy)] else WeightedSum(parts)


@dataclass(frozen=True)
class WeightedSum:
    """A weighted sum of losses."""

    parts: list[tuple[float, ClassLoss]]

    def __call__(self, logits: Tensor, label: Tensor, align_corners: bool = True) -> Tensor:
        losses = [weight * loss(logits, label, align_corners=align_corners) for weight, loss in self.parts]
        return sum(losses[1:], losses[0])


@dataclass(frozen=True)
class FullSize:
    """A loss of another library, which needs logits of the label's size."""

    loss: nn.Module

    def __call__(self, logits: Tensor, label: Tensor, align_corners: bool = True) -> Tensor:
        size = (label.shape[-2], label.shape[-1])
        if not (label != IGNORE).any():  # some of the library's losses would be NaN
            return logits.sum() * 0.0
        value: Tensor = self.loss(resize_logits(logits.float(), size, align_corners), label)
        return value


def _others(settings: Loss) -> dict[str, float]:
    return {"dice": settings.dice, "focal": settings.focal, "lovasz": settings.lovasz}


def _library_loss(name: str, settings: Loss) -> FullSize:
    if find_spec(LIBRARY) is None:
        raise RecipeError(f"loss.{name} is computed by {LIBRARY}, which is not installed: pip install 'ladseg[losses]'")
    from segmentation_models_pytorch.losses import DiceLoss, FocalLoss, LovaszLoss

    if name == "dice":
        return FullSize(DiceLoss("multiclass", ignore_index=IGNORE))
    if name == "focal":
        return FullSize(FocalLoss("multiclass", gamma=settings.focal_gamma, ignore_index=IGNORE))
    return FullSize(LovaszLoss("multiclass", ignore_index=IGNORE))

"""Any ``nn.Module`` as a network of ours: what it returns, what sizes it takes, and how a recipe names it."""

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ladseg.errors import ModelError, first_words
from ladseg.models.input_layer import input_normalization
from ladseg.models.segmenter import Segmenter
from ladseg.models.sizes import try_sizes
from ladseg.outputs import SegmentationOutput

# The arguments by which networks of torchvision, segmentation_models_pytorch and transformers are told their classes.
CLASS_ARGUMENTS = ("num_classes", "classes", "num_labels")


class Adapted(Segmenter):
    """A foreign network; made by :func:`adapt`."""

    def __init__(
        self,
        module: nn.Module,
        num_classes: int,
        input_mean: tuple[float, ...],
        input_std: tuple[float, ...],
        size_divisor: int,
    ) -> None:
        super().__init__(num_classes, input_mean, input_std, size_divisor)
        self.module = module

    @property
    def core(self) -> nn.Module:
        return self.module

    def segment(self, image: Tensor) -> SegmentationOutput:
        output = SegmentationOutput.of(self.module(image))
        return output if self.gives_aux else SegmentationOutput(output.logits, output.features)


def adapt(
    module: nn.Module,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    features: str | None = None,
) -> Adapted:
    """Make any segmentation network one that ladseg can train, distil, measure and deliver.

    The module is used as it is, not copied. It is run once, in eval mode on a small image of zeros, to learn its number
    of classes and whether its sides must be multiples of something: other sizes are then padded, and the maps cut back.

    Args:
        module: Maps ``(N, 3, H, W)`` to logits ``(N, C, h, w)``: a tensor, a mapping with ``"out"`` and perhaps
            ``"aux"`` (torchvision), an object with ``.logits`` (transformers), or a tuple with the main logits first
            and those of auxiliary heads after it.
        mean: Mean of RGB in 0..1 that it expects to be subtracted; None takes the module's ``input_mean`` or timm's
            configuration where it has one, else ImageNet's.
        std: Standard deviation that it expects to be divided by; None as for the mean.
        features: Path of the module, such as ``"backbone.layer4"``, whose output feature distillers read.

    Raises:
        ModelError: It fails on an image of any size tried, or does not return logits.
    """
    known_mean, known_std = input_normalization(module)
    try:
        divisor, result = try_sizes(module)
    except Exception as error:
        name = type(module).__name__
        raise ModelError(f"{name} fails on images of zeros of every size tried: {first_words(error)}") from error
    network = Adapted(module, _logits(module, result).shape[1], mean or known_mean, std or known_std, divisor)
    network.origin = {"name": f"{type(module).__module__}:{type(module).__qualname__}"}
    return network.tap(features) if features else network  # type: ignore[return-value]


def build_foreign(name: str, num_classes: int, args: dict[str, Any] | None = None) -> Adapted:
    """The network that a recipe names as ``package.module:Class``.

    A class of transformers gets its configuration made from the arguments. The number of classes is filled in where the
    class or function has an argument for it (``num_classes``, ``classes``, ``num_labels``) that is not given.

    Args:
        name: Where it is: a class, or a function that returns a network.
        num_classes: The number of classes that it must give.
        args: Its arguments.

    Raises:
        ModelError: It can't be imported or built, or gives another number of classes.
    """
    make = _resolve(name)
    config = getattr(make, "config_class", None)
    known = inspect.signature(make).parameters if config is None else dict.fromkeys(("num_labels",))
    filled = {key: num_classes for key in CLASS_ARGUMENTS if key in known}
    values = (filled if not set(filled) & set(args or {}) else {}) | (args or {})
    try:
        module = make(**values) if config is None else make(config(**values))
    except Exception as error:  # whatever the user's own code raises
        raise ModelError(f"'{name}' can't be built: {type(error).__name__}: {first_words(error)}") from error
    if not isinstance(module, nn.Module):
        raise ModelError(f"'{name}' gives {type(module).__name__}, not a torch.nn.Module")
    network = adapt(module)
    if network.num_classes != num_classes:
        raise ModelError(
            f"'{name}' gives {network.num_classes} classes but the data has {num_classes}; set the number in its args"
        )
    network.origin = {"name": name, "args": args}
    return network


def _resolve(name: str) -> Callable[..., Any]:
    place, _, path = name.partition(":")
    # As 'python -m' does: a module in the folder where the command was typed.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        target: Any = importlib.import_module(place)
    except Exception as error:  # importing runs the user's module
        raise ModelError(
            f"'{name}': can't import '{place}' ({first_words(error)}); is its folder on PYTHONPATH, or installed?"
        ) from error
    for part in path.split("."):
        if not hasattr(target, part):
            raise ModelError(f"'{name}': '{place}' has no '{path}'")
        target = getattr(target, part)
    if not callable(target):
        raise ModelError(f"'{name}' is neither a class nor a function")
    return target


def _logits(module: nn.Module, result: Any) -> Tensor:
    try:
        logits = SegmentationOutput.of(result).logits
    except TypeError as error:
        raise ModelError(f"{type(module).__name__}: {error}") from None
    if logits.ndim != 4:
        raise ModelError(f"{type(module).__name__} gives {tuple(logits.shape)}; logits are (N, C, h, w)")
    return logits

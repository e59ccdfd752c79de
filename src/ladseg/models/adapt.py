"""Make any ``nn.Module`` a network of ladseg, and build one that a recipe names."""

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ladseg.errors import ModelError, first_words
from ladseg.models.heads.base import SINGLE_VALUE
from ladseg.models.input_layer import input_normalization
from ladseg.models.returned import Readings, try_readings
from ladseg.models.segmenter import Segmenter
from ladseg.models.sizes import try_sizes
from ladseg.models.weights import say_once
from ladseg.outputs import SegmentationOutput

# The arguments by which networks of torchvision, segmentation_models_pytorch and transformers are told their classes.
CLASS_ARGUMENTS = ("num_classes", "classes", "num_labels")


class Adapted(Segmenter):
    """A foreign network; made by :func:`adapt`.

    Args:
        module: The network.
        num_classes: This and the next three as for :class:`Segmenter`.
        input_mean: See there.
        input_std: See there.
        size_divisor: See there.
        readings: Where class scores stand in what it returns; None for one that returns them alone.
    """

    def __init__(
        self,
        module: nn.Module,
        num_classes: int,
        input_mean: tuple[float, ...],
        input_std: tuple[float, ...],
        size_divisor: int,
        readings: Readings | None = None,
    ) -> None:
        super().__init__(num_classes, input_mean, input_std, size_divisor)
        self.module = module
        self.readings = readings

    @property
    def core(self) -> nn.Module:
        return self.module

    def segment(self, image: Tensor) -> SegmentationOutput:
        # A copy, because a foreign network may change its input in place, and others still read the image.
        result = self._run(image.clone())
        if self.readings is None or isinstance(result, SegmentationOutput):
            output = SegmentationOutput.of(result)
        else:
            output = (self.readings.training if self.training else self.readings.evaluating).read(result)
        return output if self.gives_aux else SegmentationOutput(output.logits, output.features)

    def _run(self, image: Tensor) -> Any:
        try:
            return self.module(image)
        except ValueError as error:
            if "more than 1 value per channel" in str(error):
                raise ModelError(SINGLE_VALUE) from error
            raise


def adapt(
    module: nn.Module,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    features: str | None = None,
    num_classes: int | None = None,
) -> Adapted:
    """Make any segmentation network one that ladseg can train, distil, measure and deliver.

    The module is used as it is, not copied. It is run in eval mode on a small image of zeros, to learn whether its
    sides must be multiples of something: other sizes are then padded, and the maps cut back. It is run again in both
    modes on a random image, to learn where class scores stand in what it returns; where there is a choice, a line says
    what was taken for what.

    Args:
        module: Maps ``(N, 3, H, W)`` to logits ``(N, C, h, w)``, alone or among others in a mapping, tuple, list or
            dataclass. Logits are what is called ``"out"`` (torchvision) or ``"logits"`` (transformers), else the first
            map; maps of as many channels beside them are taken for the scores of training-only heads, others are left.
        mean: Mean of RGB in 0..1 that it expects to be subtracted; None takes the module's ``input_mean`` or timm's
            configuration where it has one, else ImageNet's.
        std: Standard deviation that it expects to be divided by; None as for the mean.
        features: Path of the module, such as ``"backbone.layer4"``, whose output feature distillers read.
        num_classes: Number of classes C of the data; None takes the channels of the logits.

    Raises:
        ModelError: It fails on an image of any size tried or in training mode, does not return logits, or gives another
            number of classes.
    """
    network = _adapted(module, num_classes, mean, std)
    if num_classes not in (None, network.num_classes):
        raise ModelError(f"{type(module).__name__} gives {network.num_classes} classes, not {num_classes}")
    return network.tap(features) if features else network  # type: ignore[return-value]


def _adapted(
    module: nn.Module,
    num_classes: int | None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> Adapted:
    """:func:`adapt`, to whatever number of classes the network gives if it does not give ``num_classes``."""
    name = type(module).__name__
    known_mean, known_std = input_normalization(module)
    try:
        divisor, image, result = try_sizes(module)
    except Exception as error:  # anyone's code
        raise ModelError(f"{name} fails on images of zeros of every size tried: {first_words(error)}") from error
    if isinstance(result, SegmentationOutput):
        readings, classes = None, result.logits.shape[1]
    else:
        noise = torch.rand(image.shape, generator=torch.Generator().manual_seed(0))
        readings = try_readings(module, noise.to(image), num_classes)
        classes = readings.num_classes
        if readings.notice:
            say_once(readings.notice)
    network = Adapted(module, classes, mean or known_mean, std or known_std, divisor, readings)
    network.origin = {"name": f"{type(module).__module__}:{type(module).__qualname__}"}
    return network


def build_foreign(name: str, num_classes: int, args: dict[str, Any] | None = None) -> Adapted:
    """Build the network that a recipe names as ``package.module:Class``.

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
    network = _adapted(module, num_classes)
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

"""Turn any ``nn.Module`` into a network of ladseg, and build one that a recipe names."""

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
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

# Names of the number of classes in torchvision, segmentation_models_pytorch and transformers.
CLASS_ARGUMENTS = ("num_classes", "classes", "num_labels")


class Adapted(Segmenter):
    """A network that is not ladseg's own; :func:`adapt` makes it.

    Args:
        module: The network.
        num_classes: As for :class:`Segmenter`.
        input_mean: As for :class:`Segmenter`.
        input_std: As for :class:`Segmenter`.
        size_divisor: As for :class:`Segmenter`.
        readings: Where the logits are in its output; None if it returns nothing else.
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
        # The network may change its input in place, but others still read the image.
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
    """Wrap any segmentation network so that ladseg can train, distil, measure and deliver it.

    The module is used as it is, not copied. It runs in eval mode on a small image of zeros, to find out which multiple
    the image's sides must be; images of other sizes are padded and the maps cropped. It then runs in both modes on a
    random image, to find the logits in its output; if there is a choice, a line says what was chosen.

    Args:
        module: Maps ``(N, 3, H, W)`` to logits ``(N, C, h, w)``, alone or in a mapping, tuple, list or dataclass. The
            logits are the map called ``"out"`` (torchvision) or ``"logits"`` (transformers), or else the first map.
            Further maps with as many channels are taken as logits of training-only heads, others are ignored.
        mean: Mean of RGB in 0..1 for which it was trained; None takes the module's ``input_mean``, timm's configuration
            or ImageNet's, whichever is found first.
        std: The standard deviation, likewise.
        features: Path of the module, such as ``"backbone.layer4"``, whose output feature distillers read.
        num_classes: Number of classes C of the data; None takes the channels of the logits.

    Raises:
        ModelError: The module fails on images of every size tried or in training mode, returns no logits, or has
            another number of classes.
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
    """Do the work of :func:`adapt`, but accept a network with another number of classes than ``num_classes``."""
    name = type(module).__name__
    known_mean, known_std = input_normalization(module)
    try:
        divisor, image, result = try_sizes(module)
    except Exception as error:  # the network's code may raise anything
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

    For a class of transformers, the arguments make its configuration. The number of classes is filled in if the class
    or function has an argument for it (``num_classes``, ``classes``, ``num_labels``) that is not given.

    Args:
        name: Path of a class, or of a function that returns a network.
        num_classes: The required number of classes.
        args: Arguments of the class or function.

    Raises:
        ModelError: It can't be imported or built, or has another number of classes.
    """
    make = resolve(name)
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


def resolve(name: str) -> Callable[..., Any]:
    """Return the class or function of ``package.module:Class``.

    Raises:
        ModelError: It can't be imported, or is not there.
    """
    place, _, path = name.partition(":")
    if place.endswith(".py"):
        module = ".".join(Path(place).with_suffix("").parts)
        raise ModelError(f"'{name}': a module has no .py; write '{module}:{path}'")
    # Find modules in the working directory, as 'python -m' does.
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

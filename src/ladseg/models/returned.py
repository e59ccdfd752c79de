"""Find the logits, and those of training-only heads, in the output of a network that is not ladseg's own."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ladseg.errors import ModelError, first_words
from ladseg.models.sizes import trial_run
from ladseg.outputs import SegmentationOutput

# The paths of the main head's logits in torchvision and transformers; "" means that the output is the logits.
MAIN = ("", "out", "logits")
SAME = 1e-4


@dataclass(frozen=True)
class Reading:
    """Where the logits are in an output, as paths of :func:`named_tensors`.

    Attributes:
        logits: Path of the main head's logits.
        aux: Paths of the training-only heads' logits.
    """

    logits: str
    aux: tuple[str, ...]

    def read(self, result: Any) -> SegmentationOutput:
        """Take the logits out of an output.

        Raises:
            ModelError: They are not where they were when the network was first run.
        """
        tensors = dict(named_tensors(result))
        missing = [path for path in (self.logits, *self.aux) if path not in tensors]
        if missing:
            raise ModelError(
                f"a network returns no '{missing[0]}', which it did when it was first run; the structure of its output "
                "may depend on training and eval mode only"
            )
        return SegmentationOutput(tensors[self.logits], aux=tuple(tensors[path] for path in self.aux))


@dataclass(frozen=True)
class Readings:
    """How to read a network's outputs in both modes.

    Attributes:
        training: Its outputs in training mode.
        evaluating: Its outputs in eval mode.
        num_classes: Channels of the logits.
        notice: A sentence about which maps were chosen; empty if the network returns its logits alone.
    """

    training: Reading
    evaluating: Reading
    num_classes: int
    notice: str


def named_tensors(result: Any, path: str = "", depth: int = 3) -> Iterator[tuple[str, Tensor]]:
    """Yield each tensor of an output with its path, such as ``""``, ``"out"``, ``"[1]"`` or ``"aux[0]"``."""
    if isinstance(result, Tensor):
        yield path, result
    elif depth == 0:
        return
    elif isinstance(result, Mapping):
        for key, value in result.items():
            yield from named_tensors(value, f"{path}.{key}" if path else str(key), depth - 1)
    elif isinstance(result, tuple | list):
        names = getattr(result, "_fields", [f"[{index}]" for index in range(len(result))])
        for name, value in zip(names, result, strict=True):
            yield from named_tensors(value, f"{path}{name}", depth - 1)
    elif is_dataclass(result) and not isinstance(result, type):
        values = {field.name: getattr(result, field.name) for field in fields(result)}
        yield from named_tensors(values, path, depth)
    elif isinstance(getattr(result, "logits", None), Tensor):
        yield "logits", result.logits


def try_readings(module: nn.Module, image: Tensor, num_classes: int | None) -> Readings:
    """Run a network in both modes, and identify the logits by their number of channels.

    In training mode, batch norm and dropout stay in eval mode, so that the main head's values are the same in both
    modes and identify it. Buffers and random generators are restored.

    Args:
        module: Maps ``(N, 3, H, W)`` to any output.
        image: An image that it accepts.
        num_classes: Channels of its logits; None means those of the main head.

    Raises:
        ModelError: It returns no logits, or fails in training mode.
    """
    name = type(module).__name__
    with trial_run(module):
        evaluating = _maps(name, module(image.clone()))
        main = _main(evaluating, num_classes)
        logits = evaluating[main]
        classes = logits.shape[1]
        _train_without_chance(module)
        try:
            with torch.enable_grad():
                result = module(image.clone())
        except Exception as error:  # the network's code may raise anything
            raise ModelError(f"{name} fails in training mode on an image alone: {first_words(error)}") from error
        training = _maps(f"{name} in training mode", result)
    _refuse_probabilities(name, logits)
    same = [path for path, value in training.items() if _is_same(value, logits)]
    first = same[0] if same else _main(training, classes)
    if training[first].shape[1] != classes:
        raise ModelError(f"{name} returns no map of {classes} channels in training mode: {_shapes(training)}")
    if any(p.requires_grad for p in module.parameters()) and not training[first].requires_grad:
        raise ModelError(f"{name}'s logits have no gradient in training mode; it detaches them or works under no_grad")
    found = Readings(_reading(training, first), _reading(evaluating, main), classes, "")
    return Readings(found.training, found.evaluating, classes, _notice(name, found, training, evaluating))


def _refuse_probabilities(name: str, values: Tensor) -> None:
    """Refuse the output of a softmax: a loss on it would take the softmax of a softmax, and train to little.

    Raises:
        ModelError: No value is negative, and those of each pixel add up to 1.
    """
    sums = values.detach().float().sum(1)
    if values.shape[1] > 1 and bool((values >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
        raise ModelError(f"{name} returns probabilities, not logits: each pixel's add up to 1; leave out its softmax")


def _maps(name: str, result: Any) -> dict[str, Tensor]:
    """Return the tensors ``(N, C, h, w)`` of an output by path.

    Raises:
        ModelError: There is none.
    """
    tensors = dict(named_tensors(result))
    maps = {path: value for path, value in tensors.items() if value.ndim == 4}
    if maps:
        return maps
    if tensors:
        raise ModelError(f"{name} gives {_shapes(tensors)}; logits are (N, C, h, w)")
    try:
        SegmentationOutput.of(result)
    except TypeError as error:
        raise ModelError(f"{name}: {error}") from None
    raise ModelError(f"{name} returns no tensor")


def _main(maps: dict[str, Tensor], num_classes: int | None) -> str:
    """Return the path of the main head's logits: by name or else the first, of ``num_classes`` channels if any is."""
    ranked = sorted(maps, key=lambda path: MAIN.index(path) if path in MAIN else len(MAIN))
    fitting = [path for path in ranked if maps[path].shape[1] == num_classes]
    return (fitting or ranked)[0]


def _reading(maps: dict[str, Tensor], main: str) -> Reading:
    classes = maps[main].shape[1]
    return Reading(main, tuple(path for path, value in maps.items() if path != main and value.shape[1] == classes))


def _is_same(value: Tensor, other: Tensor) -> bool:
    return value.shape == other.shape and bool((value - other).abs().max() <= SAME * other.abs().max())


def _notice(name: str, found: Readings, training: dict[str, Tensor], evaluating: dict[str, Tensor]) -> str:
    """Return a sentence about which maps were chosen as logits; empty if there was no choice."""
    reading, maps = found.training, training
    mode = "in training mode"
    if len(training) == 1:
        if len(evaluating) == 1:
            return ""
        reading, maps, mode = found.evaluating, evaluating, "in eval mode"
    parts = [f"'{reading.logits}' as logits"]
    if reading.aux:
        parts.append(f"{_quoted(reading.aux)} as those of training-only heads")
    left = [path for path in maps if path not in (reading.logits, *reading.aux)]
    if left:
        parts.append(f"nothing of {_quoted(left)}, which do not have {found.num_classes} channels")
    return f"{name} returns {_shapes(maps)} {mode}; ladseg takes {', '.join(parts)}"


def _quoted(paths: list[str] | tuple[str, ...]) -> str:
    return ", ".join(f"'{path}'" for path in paths)


def _shapes(tensors: dict[str, Tensor]) -> str:
    """Return the first eight tensors' shapes in words."""
    shown = [f"{path} {tuple(value.shape)}".strip() for path, value in list(tensors.items())[:8]]
    return ", ".join([*shown, "..."] if len(tensors) > len(shown) else shown)


def _train_without_chance(module: nn.Module) -> None:
    """Set training mode, except for layers that would change the main head's values."""
    module.train()
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) or "drop" in type(part).__name__.lower():
            part.eval()

"""What a foreign network returns, told apart: class scores, those of training-only heads, and what is neither."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from torch import Tensor, nn

from ladseg.errors import ModelError, first_words
from ladseg.models.sizes import trial_run
from ladseg.outputs import SegmentationOutput

# The names that torchvision and transformers give to the main head's scores; "" is a result that is the scores.
MAIN = ("", "out", "logits")
SAME = 1e-4


@dataclass(frozen=True)
class Reading:
    """Where class scores stand in a result; paths are those of :func:`named_tensors`.

    Attributes:
        logits: The main head's.
        aux: Those of training-only heads.
    """

    logits: str
    aux: tuple[str, ...]

    def read(self, result: Any) -> SegmentationOutput:
        """Take the class scores out of a result.

        Raises:
            ModelError: They are not where they were when the network was tried.
        """
        tensors = dict(named_tensors(result))
        missing = [path for path in (self.logits, *self.aux) if path not in tensors]
        if missing:
            raise ModelError(
                f"a network returns no '{missing[0]}', which it did when it was tried; what it returns may depend on "
                "nothing but training and eval mode"
            )
        return SegmentationOutput(tensors[self.logits], aux=tuple(tensors[path] for path in self.aux))


@dataclass(frozen=True)
class Readings:
    """How to read a network's results in either mode.

    Attributes:
        training: Its results in training mode.
        evaluating: Its results in eval mode.
        num_classes: Channels of the class scores.
        notice: What was taken for what, in a sentence; empty where a network returns its class scores and nothing else.
    """

    training: Reading
    evaluating: Reading
    num_classes: int
    notice: str


def named_tensors(result: Any, path: str = "", depth: int = 3) -> Iterator[tuple[str, Tensor]]:
    """Each tensor of a result, with the path that leads to it: ``""``, ``"out"``, ``"[1]"``, ``"aux[0]"``."""
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
    """Run a network in both modes, and tell class scores from the rest by their channels.

    In training mode batch norm and dropout stay as in eval mode, so that the main head gives there what it gave in eval
    mode and is found among others by its values. No buffer and no random generator is left changed.

    Args:
        module: Maps ``(N, 3, H, W)`` to anything.
        image: An image that it takes.
        num_classes: Channels of its class scores; None takes those of the main head.

    Raises:
        ModelError: It returns no class scores, or fails in training mode.
    """
    name = type(module).__name__
    with trial_run(module):
        evaluating = _maps(name, module(image.clone()))
        main = _main(evaluating, num_classes)
        logits = evaluating[main]
        classes = logits.shape[1]
        _train_without_chance(module)
        try:
            result = module(image.clone())
        except Exception as error:  # anyone's code
            raise ModelError(f"{name} fails in training mode on an image alone: {first_words(error)}") from error
        training = _maps(f"{name} in training mode", result)
    same = [path for path, value in training.items() if _is_same(value, logits)]
    first = same[0] if same else _main(training, classes)
    if training[first].shape[1] != classes:
        raise ModelError(f"{name} returns no map of {classes} channels in training mode: {_shapes(training)}")
    found = Readings(_reading(training, first), _reading(evaluating, main), classes, "")
    return Readings(found.training, found.evaluating, classes, _notice(name, found, training, evaluating))


def _maps(name: str, result: Any) -> dict[str, Tensor]:
    """The tensors ``(N, C, h, w)`` of a result by path.

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
    """The path of the main head's scores: by name, else the first; of ``num_classes`` channels where there is one."""
    ranked = sorted(maps, key=lambda path: MAIN.index(path) if path in MAIN else len(MAIN))
    fitting = [path for path in ranked if maps[path].shape[1] == num_classes]
    return (fitting or ranked)[0]


def _reading(maps: dict[str, Tensor], main: str) -> Reading:
    classes = maps[main].shape[1]
    return Reading(main, tuple(path for path, value in maps.items() if path != main and value.shape[1] == classes))


def _is_same(value: Tensor, other: Tensor) -> bool:
    return value.shape == other.shape and bool((value - other).abs().max() <= SAME * other.abs().max())


def _notice(name: str, found: Readings, training: dict[str, Tensor], evaluating: dict[str, Tensor]) -> str:
    """Say what was taken for what, where there was a choice."""
    reading, maps = found.training, training
    mode = "in training mode"
    if len(training) == 1:
        if len(evaluating) == 1:
            return ""
        reading, maps, mode = found.evaluating, evaluating, "in eval mode"
    parts = [f"'{reading.logits}' as class scores"]
    if reading.aux:
        parts.append(f"{_quoted(reading.aux)} as those of training-only heads")
    left = [path for path in maps if path not in (reading.logits, *reading.aux)]
    if left:
        parts.append(f"nothing of {_quoted(left)}, which have not {found.num_classes} channels")
    return f"{name} returns {_shapes(maps)} {mode}; ladseg takes {', '.join(parts)}"


def _quoted(paths: list[str] | tuple[str, ...]) -> str:
    return ", ".join(f"'{path}'" for path in paths)


def _shapes(tensors: dict[str, Tensor]) -> str:
    """The tensors in words, the first eight of them."""
    shown = [f"{path} {tuple(value.shape)}".strip() for path, value in list(tensors.items())[:8]]
    return ", ".join([*shown, "..."] if len(tensors) > len(shown) else shown)


def _train_without_chance(module: nn.Module) -> None:
    """Training mode, but for what would make the main head's values others than in eval mode."""
    module.train()
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) or "drop" in type(part).__name__.lower():
            part.eval()

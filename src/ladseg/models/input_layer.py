"""Find a network's input layers, read its normalisation, and widen it by channels beyond RGB."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame
from torch import Generator, Tensor, nn

from ladseg.errors import ModelError, first_words
from ladseg.models.input_probe import (
    RGB,
    InputLayer,
    added_channels,
    convolutions_in_order,
    find_entry_layers,
    first_output,
    in_channels,
    random_image,
    trial_side,
)
from ladseg.models.label_stem import LabelStem
from ladseg.models.renames import CIRKD_NORMALIZATION
from ladseg.models.segmenter import Segmenter
from ladseg.models.sizes import trial_run
from ladseg.models.weights import say_once

# The value of ``input_layer`` that requests a label stem.
STEM = "stem"
# Layers that normalise their weights over all input channels, so that another channel would change the output for RGB.
STANDARDISED = (StdConv2d, StdConv2dSame, ScaledStdConv2d, ScaledStdConv2dSame)
# Allowed rounding differences from summing in another order, relative to the largest output.
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}


@dataclass(frozen=True)
class EntryLayer:
    """A layer that takes the image, or a rearrangement of its pixels, as its input.

    Attributes:
        path: Its path in the network.
        layer: The layer.
        channels: The image channel of each of its input channels after widening.
        known: Number of image channels before widening; higher channel indices are new.
    """

    path: str
    layer: InputLayer
    channels: list[int]
    known: int

    def order(self) -> list[int]:
        """Return, for each input after widening, its index before widening, or a higher index if it is new."""
        old = sum(channel < self.known for channel in self.channels)
        numbers = iter(range(old)), iter(range(old, len(self.channels)))
        return [next(numbers[channel >= self.known]) for channel in self.channels]

    def rgb(self) -> list[int]:
        """Return the indices of the old inputs that hold RGB."""
        return [i for i, channel in enumerate(c for c in self.channels if c < self.known) if channel < RGB]


def widen_input(
    network: nn.Module,
    extra_channels: int = 1,
    slice_std: float | Literal["match"] = 0.1,
    input_layer: str | Sequence[str] | None = None,
    generator: Generator | None = None,
) -> nn.Module:
    """Let a network take more channels than RGB, in place.

    The layers that take the image are widened. Each stays the same object with its class, stride, padding and hooks,
    and its old weights stay bit for bit (libraries that build a four-channel stem rescale them). An image with zeros
    in the new channels thus gives the same output as before. The widened weight is a new parameter, trainable even if
    the old one was frozen, so widen before you make an optimizer. Widening again appends more channels.

    Such a layer is a convolution on the image (a grouped one is first made dense, with zeros between the groups), a
    patch embedding, or a convolution or linear layer on the rearranged image (space-to-depth). There may be several,
    as in re-parameterised stems or two branches. They are found by running the network on an image with additional
    channels; another run checks the result.

    If the image also reaches something that can't be widened (a normalisation with three means, a check of the number
    of channels, a skip connection), the network keeps its three channels and gets a label stem: a convolution of the
    new channels, added to the first feature map, with weights that start at zero. A log line says so.

    Args:
        network: Any module that takes an image ``(N, 3, H, W)``.
        extra_channels: How many channels to append.
        slice_std: Standard deviation of the new weights, drawn from a normal distribution of mean 0; ``"match"`` takes
            that of the layer's RGB weights, 0 makes them zero. A label stem's weights are always zero.
        input_layer: Path of the layer to widen, such as ``"encoder.conv1"``, or several paths; ``"stem"`` requests a
            label stem, unless a layer has this name. None widens all layers that take the image, or adds a label stem
            if that fails.
        generator: Source of the new weights; None means torch's global CPU generator.

    Returns:
        The same network.

    Raises:
        ModelError: A named layer does not exist, gets none of the new channels or can't be widened, or a value is out
            of range.
    """
    if extra_channels < 1:
        raise ModelError(f"extra_channels is {extra_channels}; it must be at least 1")
    if slice_std != "match" and (isinstance(slice_std, str) or not slice_std >= 0):
        raise ModelError(f"slice_std is {slice_std!r}; it must be 0 or more, or 'match'")
    # Parameters made in inference mode can't be trained.
    with torch.inference_mode(False):
        core, side = _core(network), trial_side(network)
        named = _named(network, input_layer)
        if named is None or _label_stem(core) is not None:
            _widen_by_stem(network, side, extra_channels)
            return network
        try:
            _widen_layers(network, named, side, extra_channels, slice_std, generator)
        except ModelError as error:
            if input_layer is not None or side is None:
                raise
            _widen_by_stem(network, side, extra_channels)
            say_once(f"{error}; the label enters through a stem of its own, added to the first feature map")
    return network


def input_normalization(network: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and standard deviation of RGB in 0..1 by which a network expects images to be normalised.

    Args:
        network: A :class:`ladseg.Segmenter`, a timm network, or a module that holds one; for any other, ImageNet's
            values are returned.
    """
    for module in network.modules():
        own = getattr(module, "input_mean", None), getattr(module, "input_std", None)
        config = getattr(module, "pretrained_cfg", None)
        timms = (config.get("mean"), config.get("std")) if isinstance(config, dict) else (None, None)
        for mean, std in (own, timms):
            if mean is not None and std is not None:
                return tuple(mean), tuple(std)
    return IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD


def see_bgr(network: Segmenter) -> Segmenter:
    """Use a network with weights for BGR in 0..255 minus ImageNet's mean, in place; it still takes RGB.

    The channels of its input layers are reversed, and its normalisation becomes CIRKD's. A network whose checkpoint
    already has this normalisation is not changed.

    Raises:
        ModelError: An input layer takes something else than an image's channels.
    """
    mean, std = CIRKD_NORMALIZATION
    if network.input_mean == mean:
        return network
    for entry in _find(network, [], trial_side(network), 1):
        if entry.channels[:RGB] != list(range(RGB)) or not _takes_image(entry.layer, RGB):
            raise ModelError(f"input: bgr: '{entry.path}' of {network.name} takes more than an image's channels")
        with torch.no_grad():
            entry.layer.weight.copy_(entry.layer.weight.flip(1))
    network.input_mean, network.input_std = mean, std
    return network


def label_factor(input_std: Sequence[float]) -> float:
    """Return the factor on a noised label that keeps its size beside the image's: 1, or 58 for images of 0..255."""
    return sum(IMAGENET_DEFAULT_STD) / sum(input_std) if tuple(input_std) == CIRKD_NORMALIZATION[1] else 1.0


def find_entries(network: nn.Module, side: int) -> list[EntryLayer]:
    """Return the layers that the image reaches, their channels with one more than the image has.

    Raises:
        ModelError: The image reaches none, or something else too.
    """
    return _find(network, [], side, 1)


def dense_weight(layer: InputLayer) -> Tensor:
    """Return the weights of a layer; those of a grouped convolution are made dense."""
    return _dense(layer) if isinstance(layer, nn.Conv2d) else layer.weight.detach()


def _core(network: nn.Module) -> nn.Module:
    """Return the module whose paths a user names; in an adapted network this is the wrapped one."""
    return network.core if isinstance(network, Segmenter) else network


def _name(network: nn.Module) -> str:
    return type(_core(network)).__name__


def _layers(network: nn.Module) -> dict[str, InputLayer]:
    return {k: m for k, m in _core(network).named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}


def _named(network: nn.Module, paths: str | Sequence[str] | None) -> list[str] | None:
    """Return the named paths, or an empty list to widen all layers that are found, or None for a label stem.

    Raises:
        ModelError: There is no layer at a path.
    """
    layers = _layers(network)
    named = [paths] if isinstance(paths, str) else list(paths or [])
    if named == [STEM] and STEM not in layers:
        return None
    for path in named:
        if path not in layers:
            known = ", ".join(list(layers)[:5]) or "none"
            raise ModelError(
                f"input_layer '{path}' is not a Conv2d or Linear layer of {_name(network)}; the first are: {known}"
            )
    return named


def _widen_layers(
    network: nn.Module,
    named: list[str],
    side: int | None,
    extra_channels: int,
    slice_std: float | Literal["match"],
    generator: Generator | None,
) -> None:
    """Widen the named layers, or all that take the image; restore the network if that fails."""
    found = _find(network, named, side, extra_channels)
    image = None if side is None else random_image(network, side, in_channels(network))
    plain = None if image is None else _run(network, image)
    before = [(entry.layer, dict(vars(entry.layer)), entry.layer.weight) for entry in found]
    try:
        for entry in found:
            _widen_layer(entry, extra_channels, slice_std, generator)
        if image is not None and plain is not None:
            _check(network, found, image, plain, extra_channels, _remedy(named))
    except Exception:
        for layer, attributes, weight in before:
            vars(layer).pop("added_channels", None)
            vars(layer).update(attributes)
            layer.weight = weight
        raise


def _find(network: nn.Module, named: list[str], side: int | None, extra_channels: int) -> list[EntryLayer]:
    """Find the layers to widen.

    Raises:
        ModelError: The image reaches no layer, reaches something else as well, or does not reach a named layer.
    """
    layers = _layers(network)
    name, channels = _name(network), in_channels(network)
    if side is None:
        paths = named or [path for path, layer in layers.items() if _takes_image(layer, channels)][:1]
        if not paths:
            raise ModelError(
                f"no input layer found in {name}: no Conv2d has {channels} input channels, and the network can't be "
                'run; name the layer that takes the image, such as input_layer: "encoder.conv1"'
            )
        return [EntryLayer(path, layers[path], list(range(channels + extra_channels)), channels) for path in paths]
    candidates = {path: layers[path] for path in named} if named else layers
    try:
        reached = find_entry_layers(network, candidates, side, extra_channels)
    except Exception as error:  # the network's code may raise anything
        reason = f"{name} takes no image of {channels + extra_channels} channels ({first_words(error)})"
        raise ModelError(f"{reason}{_remedy(named)}") from error
    missing = [path for path in named if path not in reached]
    if missing or not reached:
        layer = f"'{missing[0]}' of {name}" if missing else f"no layer of {name}"
        raise ModelError(f"{layer} gets nothing of a channel beyond the image's {channels}{_remedy(named)}")
    found = [EntryLayer(path, layers[path], order, channels) for path, order in reached.items()]
    for entry in found:
        # A parametrised weight (weight norm, spectral norm) is not a parameter of the layer itself.
        if isinstance(entry.layer, STANDARDISED) or entry.layer._parameters.get("weight") is None:
            raise ModelError(
                f"'{entry.path}' of {name} ({type(entry.layer).__name__}) computes its weights from all its "
                f"input channels, so a new one would change its output for RGB{_remedy(named)}"
            )
    return found


def _remedy(named: list[str]) -> str:
    if not named:
        return ""
    return f"; name all layers that take the image (input_layer: [a, b]), or set input_layer: {STEM}"


def _takes_image(layer: InputLayer, channels: int) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.in_channels == channels


def _widen_layer(
    entry: EntryLayer, extra_channels: int, slice_std: float | Literal["match"], generator: Generator | None
) -> None:
    layer = entry.layer
    old = dense_weight(layer)
    std = float(old[:, entry.rgb()].float().std()) if slice_std == "match" else float(slice_std)
    weight = _with_new_slice(old, entry.order(), std, generator)
    layer.weight = nn.Parameter(weight)
    if isinstance(layer, nn.Conv2d):
        layer.in_channels, layer.groups = weight.shape[1], 1
    else:
        layer.in_features = weight.shape[1]
    layer.added_channels = added_channels(layer) + extra_channels  # type: ignore[assignment]


def _dense(layer: nn.Conv2d) -> Tensor:
    """Return the weights as those of a convolution without groups, with zeros between the groups.

    The zeros leave the output unchanged, and the groups can't divide the image's channels once there is one more.
    """
    weight = layer.weight.detach()
    if layer.groups == 1:
        return weight
    outputs, inputs = weight.shape[0] // layer.groups, weight.shape[1]
    dense = weight.new_zeros(weight.shape[0], layer.in_channels, *weight.shape[2:])
    for group in range(layer.groups):
        rows, columns = slice(group * outputs, (group + 1) * outputs), slice(group * inputs, (group + 1) * inputs)
        dense[rows, columns] = weight[rows]
    return dense


def _with_new_slice(old: Tensor, order: list[int], std: float, generator: Generator | None) -> Tensor:
    """Extend weights ``(O, I, ...)`` to ``(O, len(order), ...)``, in the same memory format.

    ``order`` holds the index of each input: below I it is an old one, from I on a new one.
    """
    shape = (old.shape[0], len(order) - old.shape[1], *old.shape[2:])
    # Draw in float32 on the generator's device, so that the draw does not depend on the network's device and type.
    new = torch.randn(shape, generator=generator, device=generator.device if generator else "cpu").mul_(std)
    joined = torch.cat([old, new.to(old)], dim=1)
    if order != sorted(order):
        joined = joined.index_select(1, torch.tensor(order, device=old.device))
    channels_last = old.ndim == 4 and not old.is_contiguous() and old.is_contiguous(memory_format=torch.channels_last)
    return joined.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def _run(network: nn.Module, image: Tensor) -> Tensor:
    with trial_run(network):
        return first_output(network(image.clone()))


def _check(
    network: nn.Module, found: list[EntryLayer], image: Tensor, plain: Tensor, extra_channels: int, remedy: str
) -> None:
    """Check that zeros in the new channels do not change the output, and that it depends on every widened layer.

    Raises:
        ModelError: The check or the network fails.
    """
    name = _name(network)
    zeros = image.new_zeros(1, extra_channels, *image.shape[2:])
    label = torch.randn(zeros.shape, generator=torch.Generator().manual_seed(1)).to(image)
    try:
        blank = _run(network, torch.cat([image, zeros], dim=1))
        gradients = _gradients(network, torch.cat([image, label], dim=1), [e.layer.weight for e in found])
    except Exception as error:  # the network's code may raise anything
        paths = ", ".join(entry.path for entry in found)
        raise ModelError(f"{name} fails with {paths} widened ({first_words(error)}){remedy}") from error
    scale = plain.abs().max().clamp(min=torch.finfo(plain.dtype).tiny)
    if blank.shape != plain.shape or not (blank - plain).abs().max() <= TOLERANCE.get(plain.dtype, 0.1) * scale:
        raise ModelError(f"the output of {name} changes when a channel of zeros is added to the image{remedy}")
    for entry, gradient in zip(found, gradients, strict=True):
        if gradient is None:
            raise ModelError(f"'{entry.path}' of {name} has no influence on the output{remedy}")


def _gradients(network: nn.Module, image: Tensor, weights: list[Tensor]) -> tuple[Tensor | None, ...]:
    """Return gradients of a random sum of the output with respect to weights; None for weights without influence."""
    with trial_run(network), torch.enable_grad():
        output = first_output(network(image.clone()))
        factors = torch.randn(output.shape, generator=torch.Generator().manual_seed(2)).to(output)
        return torch.autograd.grad((output * factors).sum(), weights, allow_unused=True)


def _label_stem(core: nn.Module) -> LabelStem | None:
    return next((module for module in core.modules() if isinstance(module, LabelStem)), None)


def _widen_by_stem(network: nn.Module, side: int | None, extra_channels: int) -> None:
    """Give a network a label stem, or widen the one that it has.

    Raises:
        ModelError: It has no convolution to whose output a stem could be added.
    """
    core = _core(network)
    stem = _label_stem(core)
    if stem is not None:
        stem.widen(extra_channels)
        return
    if side is None:
        raise ModelError(f"{_name(network)} runs on no image of the sizes tried, so it can't get a label stem")
    order = convolutions_in_order(network, side)
    if not order:
        raise ModelError(f"{_name(network)} has no convolution, so it can't get a label stem")
    # A map of three channels is taken to be an image in another colour space, not a feature map.
    layer = next((layer for layer in order if layer.out_channels > RGB), order[0])
    divisor = network.size_divisor if isinstance(network, Segmenter) and core is network else 1
    stem = LabelStem(layer, extra_channels, divisor)
    stem.attach(core, layer)
    image = random_image(network, side, RGB + extra_channels)
    if _gradients(network, image, [stem.conv.weight])[0] is None:
        raise ModelError(f"the first feature map of {_name(network)} has no influence on its output")

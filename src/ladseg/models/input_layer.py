"""A network's input: found, read, and widened by channels beyond RGB."""

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
    find_arrivals,
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

# The name that asks for a label stem.
STEM = "stem"
# They normalise their weights over all input channels, so one more channel would change what RGB gives.
STANDARDISED = (StdConv2d, StdConv2dSame, ScaledStdConv2d, ScaledStdConv2dSame)
# Sums in another order, as a share of the largest output.
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}


@dataclass(frozen=True)
class Entrance:
    """A layer that the image reaches.

    Attributes:
        path: Its path in the network.
        layer: The layer.
        channels: The image's channel of each of its inputs, once it is widened.
        known: How many channels the image had before; those from here on are new.
    """

    path: str
    layer: InputLayer
    channels: list[int]
    known: int

    def order(self) -> list[int]:
        """For each input, the number of the old input that it is, or a number beyond them."""
        old = sum(channel < self.known for channel in self.channels)
        numbers = iter(range(old)), iter(range(old, len(self.channels)))
        return [next(numbers[channel >= self.known]) for channel in self.channels]

    def rgb(self) -> list[int]:
        """The numbers of the old inputs that are RGB."""
        return [i for i, channel in enumerate(c for c in self.channels if c < self.known) if channel < RGB]


def widen_input(
    network: nn.Module,
    extra_channels: int = 1,
    slice_std: float | Literal["match"] = 0.1,
    input_layer: str | Sequence[str] | None = None,
    generator: Generator | None = None,
) -> nn.Module:
    """Let a network take more channels than RGB, in place.

    The layers that the image reaches are widened: each stays the same object with its class, stride, padding and hooks,
    and its old weights stay bit for bit (libraries that build a four-channel stem directly rescale them), so an image
    with zeros in the new channels gives what the image alone gave. The weight is a new parameter that trains even where
    the old one was frozen, so widen before an optimiser is made. Widening a widened network appends more channels.

    A layer is a convolution on the image (a grouped one first becomes a dense one with zeros between the groups), a
    patch embedding, or a convolution or linear layer on the rearranged image (space-to-depth); there may be several of
    them (re-parameterised stems, two branches). The network is run on an image with one channel too many to find them,
    and once more to see that they work.

    Where the image reaches something that can't be widened (a normalisation with three means, a check of the number of
    channels, a skip connection from the image), the network keeps its three channels and gets a label stem: a
    convolution of the new channels, added to its first feature map. Its weights start at zero. A line says so.

    Args:
        network: Any module that takes an image ``(N, 3, H, W)``.
        extra_channels: How many channels to append.
        slice_std: The new weights are N(0, slice_std^2); ``"match"`` takes the standard deviation of the layer's
            own RGB weights; 0 leaves them zero. A label stem's are zero.
        input_layer: Path of the layer to widen, such as ``"encoder.conv1"``, or several; ``"stem"`` asks for a label
            stem, unless a layer is called so. None takes all that the image reaches, and a label stem if that fails.
        generator: Source of the new weights; None is torch's global one of the CPU.

    Returns:
        The same network.

    Raises:
        ModelError: There is no such layer, a layer that is named gets nothing of the new channels or can't be widened,
            or a value is out of range.
    """
    if extra_channels < 1:
        raise ModelError(f"extra_channels is {extra_channels}; it must be at least 1")
    if slice_std != "match" and (isinstance(slice_std, str) or not slice_std >= 0):
        raise ModelError(f"slice_std is {slice_std!r}; it must be 0 or more, or 'match'")
    # Parameters that inference mode makes could never be trained.
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
            say_once(f"{error}; the label enters by a stem of its own, added to the first feature map")
    return network


def input_normalization(network: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of RGB in 0..1 that a network expects its images to be normalised with.

    Args:
        network: A :class:`ladseg.Segmenter`, a timm network, or a module that holds one; any other is taken to
            expect ImageNet's.
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
    """Let a network see BGR of 0..255 less ImageNet's mean where it saw RGB, in place.

    It still takes RGB: its input layers' channels are reversed, and mean and deviation are those of CIRKD. A network
    whose checkpoint says that it was trained so is left as it is.

    Raises:
        ModelError: The input layer is none whose channels are those of an image.
    """
    mean, std = CIRKD_NORMALIZATION
    if network.input_mean == mean:
        return network
    for entrance in _find(network, [], trial_side(network), 1):
        if entrance.channels[:RGB] != list(range(RGB)) or not _takes_image(entrance.layer, RGB):
            raise ModelError(f"input: bgr: '{entrance.path}' of {network.name} takes more than an image's channels")
        with torch.no_grad():
            entrance.layer.weight.copy_(entrance.layer.weight.flip(1))
    network.input_mean, network.input_std = mean, std
    return network


def _core(network: nn.Module) -> nn.Module:
    """The module whose paths a user names: in an adapted network, the one inside."""
    return network.core if isinstance(network, Segmenter) else network


def _name(network: nn.Module) -> str:
    return type(_core(network)).__name__


def _layers(network: nn.Module) -> dict[str, InputLayer]:
    return {k: m for k, m in _core(network).named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}


def _named(network: nn.Module, paths: str | Sequence[str] | None) -> list[str] | None:
    """The paths to widen: those that are named, or none for all that are found; None asks for a label stem.

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
    """Widen the layers that are named, or all that the image reaches; leave the network as it was if that fails."""
    found = _find(network, named, side, extra_channels)
    image = None if side is None else random_image(network, side, in_channels(network))
    plain = None if image is None else _run(network, image)
    before = [(entrance.layer, dict(vars(entrance.layer)), entrance.layer.weight) for entrance in found]
    try:
        for entrance in found:
            _widen_layer(entrance, extra_channels, slice_std, generator)
        if image is not None and plain is not None:
            _check(network, found, image, plain, extra_channels, _remedy(named))
    except Exception:
        for layer, attributes, weight in before:
            vars(layer).pop("added_channels", None)
            vars(layer).update(attributes)
            layer.weight = weight
        raise


def _find(network: nn.Module, named: list[str], side: int | None, extra_channels: int) -> list[Entrance]:
    """The layers to widen.

    Raises:
        ModelError: The image reaches none, or something else too, or not each of those that are named.
    """
    layers = _layers(network)
    name, channels = _name(network), in_channels(network)
    if side is None:
        paths = named or [path for path, layer in layers.items() if _takes_image(layer, channels)][:1]
        if not paths:
            raise ModelError(
                f"no input layer found in {name}: no Conv2d has {channels} input channels, and the network can't be "
                'tried; name the layer that takes the image, such as input_layer: "encoder.conv1"'
            )
        return [Entrance(path, layers[path], list(range(channels + extra_channels)), channels) for path in paths]
    candidates = {path: layers[path] for path in named} if named else layers
    try:
        arrivals = find_arrivals(network, candidates, side, extra_channels)
    except Exception as error:  # anyone's code
        reason = f"{name} takes no image of {channels + extra_channels} channels ({first_words(error)})"
        raise ModelError(f"{reason}{_remedy(named)}") from error
    missing = [path for path in named if path not in arrivals]
    if missing or not arrivals:
        layer = f"'{missing[0]}' of {name}" if missing else f"no layer of {name}"
        raise ModelError(f"{layer} gets nothing of a channel beyond the image's {channels}{_remedy(named)}")
    found = [Entrance(path, layers[path], order, channels) for path, order in arrivals.items()]
    for entrance in found:
        # A parametrised weight (weight norm, spectral norm) is no parameter of the layer itself.
        if isinstance(entrance.layer, STANDARDISED) or entrance.layer._parameters.get("weight") is None:
            raise ModelError(
                f"'{entrance.path}' of {name} ({type(entrance.layer).__name__}) computes its weights from all its "
                f"input channels, so a new one would change what it makes of RGB{_remedy(named)}"
            )
    return found


def _remedy(named: list[str]) -> str:
    if not named:
        return ""
    return f"; name all layers that take the image (input_layer: [a, b]), or set input_layer: {STEM}"


def _takes_image(layer: InputLayer, channels: int) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.in_channels == channels


def _widen_layer(
    entrance: Entrance, extra_channels: int, slice_std: float | Literal["match"], generator: Generator | None
) -> None:
    layer = entrance.layer
    old = _dense(layer) if isinstance(layer, nn.Conv2d) else layer.weight.detach()
    std = float(old[:, entrance.rgb()].float().std()) if slice_std == "match" else float(slice_std)
    weight = _with_new_slice(old, entrance.order(), std, generator)
    layer.weight = nn.Parameter(weight)
    if isinstance(layer, nn.Conv2d):
        layer.in_channels, layer.groups = weight.shape[1], 1
    else:
        layer.in_features = weight.shape[1]
    layer.added_channels = added_channels(layer) + extra_channels  # type: ignore[assignment]


def _dense(layer: nn.Conv2d) -> Tensor:
    """Return the weights, those of a grouped convolution with zeros between the groups.

    Zeros add nothing, so the outputs stay; the image's channels can't be shared out to groups once there is one more.
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
    """Weights ``(O, I, ...)`` to ``(O, len(order), ...)``, in the same memory format.

    ``order`` gives for each input its number: below I an old one, from I on a new one.
    """
    shape = (old.shape[0], len(order) - old.shape[1], *old.shape[2:])
    # Drawn in float32 where the generator lives, so that neither the network's device nor its type changes the draw.
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
    network: nn.Module, found: list[Entrance], image: Tensor, plain: Tensor, extra_channels: int, remedy: str
) -> None:
    """See that zeros in the new channels change nothing, and that the output depends on every layer.

    Raises:
        ModelError: That is not so, or the network fails.
    """
    name = _name(network)
    zeros = image.new_zeros(1, extra_channels, *image.shape[2:])
    label = torch.randn(zeros.shape, generator=torch.Generator().manual_seed(1)).to(image)
    try:
        blank = _run(network, torch.cat([image, zeros], dim=1))
        gradients = _gradients(network, torch.cat([image, label], dim=1), [e.layer.weight for e in found])
    except Exception as error:  # anyone's code
        paths = ", ".join(entrance.path for entrance in found)
        raise ModelError(f"{name} fails with {paths} widened ({first_words(error)}){remedy}") from error
    scale = plain.abs().max().clamp(min=torch.finfo(plain.dtype).tiny)
    if blank.shape != plain.shape or not (blank - plain).abs().max() <= TOLERANCE.get(plain.dtype, 0.1) * scale:
        raise ModelError(f"{name} gives something else of an image once a channel of zeros is added{remedy}")
    for entrance, gradient in zip(found, gradients, strict=True):
        if gradient is None:
            raise ModelError(f"'{entrance.path}' of {name} has no influence on the output{remedy}")


def _gradients(network: nn.Module, image: Tensor, weights: list[Tensor]) -> tuple[Tensor | None, ...]:
    """Of a random sum of the output, with respect to weights; None for one that it does not depend on."""
    with trial_run(network), torch.enable_grad():
        output = first_output(network(image.clone()))
        factors = torch.randn(output.shape, generator=torch.Generator().manual_seed(2)).to(output)
        return torch.autograd.grad((output * factors).sum(), weights, allow_unused=True)


def _label_stem(core: nn.Module) -> LabelStem | None:
    return next((module for module in core.modules() if isinstance(module, LabelStem)), None)


def _widen_by_stem(network: nn.Module, side: int | None, extra_channels: int) -> None:
    """Give a network a label stem, or widen the one that it has.

    Raises:
        ModelError: It has no convolution that a stem could stand beside.
    """
    core = _core(network)
    stem = _label_stem(core)
    if stem is not None:
        stem.widen(extra_channels)
        return
    if side is None:
        raise ModelError(f"{_name(network)} runs on no image of the sizes tried, so a label stem has no place in it")
    order = convolutions_in_order(network, side)
    if not order:
        raise ModelError(f"{_name(network)} has no convolution, so a label stem has no place in it")
    # Three channels are an image still, of other colours.
    layer = next((layer for layer in order if layer.out_channels > RGB), order[0])
    divisor = network.size_divisor if isinstance(network, Segmenter) and core is network else 1
    stem = LabelStem(layer, extra_channels, divisor)
    stem.attach(core, layer)
    image = random_image(network, side, RGB + extra_channels)
    if _gradients(network, image, [stem.conv.weight])[0] is None:
        raise ModelError(f"the first feature map of {_name(network)} has no influence on its output")

"""A network's input: found, read, and widened by channels beyond RGB."""

from typing import Literal

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame
from torch import Generator, Tensor, nn

from ladseg.errors import ModelError
from ladseg.models.input_probe import InputLayer, first_layer_to_run, read_arrangement

RGB = 3
# They normalise their weights over all input channels, so one more channel would change what RGB gives.
STANDARDISED = (StdConv2d, StdConv2dSame, ScaledStdConv2d, ScaledStdConv2dSame)


def widen_input(
    network: nn.Module,
    extra_channels: int = 1,
    slice_std: float | Literal["match"] = 0.1,
    input_layer: str | None = None,
    generator: Generator | None = None,
) -> nn.Module:
    """Append input channels to a network's first layer, in place.

    The existing weights stay bit for bit (libraries that build a four-channel stem directly rescale them), so an
    image with zeros in the new channels gives what the image alone gave. The layer stays the same object with its
    class, stride, padding and hooks; its weight is a new parameter that trains even where the old one was frozen, so
    widen before an optimiser is made. Widening a widened network appends more channels to the same layer.

    Three kinds of input layer are known:

    - a convolution on the image, a patch embedding's included: the new weights follow the old ones;
    - a grouped convolution on the image: it first becomes a dense one with zeros between the groups;
    - a convolution or linear layer on the rearranged image (space-to-depth stems, linear patch embeddings): where each
      pixel of each channel arrives is found by running the network, whatever the order.

    Args:
        network: Any module that takes an image ``(N, 3, H, W)``.
        extra_channels: How many channels to append.
        slice_std: The new weights are N(0, slice_std^2); ``"match"`` takes the standard deviation of the layer's
            own RGB weights; 0 leaves them zero.
        input_layer: The layer's path, such as ``"encoder.conv1"``; None takes the first Conv2d, in order of
            registration, that has three input channels, or else the first layer that runs.
        generator: Source of the new weights; None is torch's global one of the CPU.

    Returns:
        The same network.

    Raises:
        ModelError: There is no such layer, its weights depend on its number of channels, or a value is out of range.
    """
    if extra_channels < 1:
        raise ModelError(f"extra_channels is {extra_channels}; it must be at least 1")
    if slice_std != "match" and (isinstance(slice_std, str) or not slice_std >= 0):
        raise ModelError(f"slice_std is {slice_std!r}; it must be 0 or more, or 'match'")
    path, layer = find_input_layer(network, input_layer)
    # A parametrised weight (weight norm, spectral norm) is no parameter of the layer itself.
    if isinstance(layer, STANDARDISED) or layer._parameters.get("weight") is None:
        raise ModelError(
            f"'{path}' of {_name(network)} ({type(layer).__name__}) computes its weights from all its input channels, "
            "so a new one would change what it makes of RGB; choose a network with a plain first convolution"
        )
    channels = RGB + _added_channels(layer)
    old = _dense(layer) if isinstance(layer, nn.Conv2d) else layer.weight.detach()
    if old.shape[1] == channels:
        rgb, order = list(range(RGB)), list(range(channels + extra_channels))
    else:
        rgb, order = _rearranged(network, path, layer, channels, extra_channels)
    std = float(old[:, rgb].float().std()) if slice_std == "match" else float(slice_std)
    _replace_weight(layer, _with_new_slice(old, order, std, generator))
    layer.added_channels = _added_channels(layer) + extra_channels  # type: ignore[assignment]
    return network


def find_input_layer(network: nn.Module, path: str | None = None) -> tuple[str, InputLayer]:
    """The layer that sees the image, with its path; see :func:`widen_input` for which that is.

    Paths are those of the module that the user knows: in an adapted network, of the module inside.

    Raises:
        ModelError: There is none, or none at ``path``.
    """
    network = getattr(network, "core", network)
    layers: dict[str, InputLayer] = {
        name: m for name, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)
    }
    if path is not None:
        if path not in layers:
            known = ", ".join(list(layers)[:5]) or "none"
            raise ModelError(
                f"input_layer '{path}' is no Conv2d or Linear layer of {_name(network)}; the first are: {known}"
            )
        return path, layers[path]
    for name, layer in layers.items():
        if _added_channels(layer) or (isinstance(layer, nn.Conv2d) and layer.in_channels == RGB):
            return name, layer
    first = first_layer_to_run(network, layers, RGB)
    if first is not None:
        return first, layers[first]
    raise ModelError(
        f"no input layer found in {_name(network)}: no Conv2d has 3 input channels, and the first layer that runs on "
        "an image of 224x224 does not get its pixels; name the layer that takes the image, such as "
        'input_layer: "encoder.conv1"'
    )


def input_normalization(network: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of RGB in 0..1 that a network expects its images to be normalised with.

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


def _dense(layer: nn.Conv2d) -> Tensor:
    """The weights; those of a grouped convolution with zeros between the groups, and the layer made dense in place.

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
    layer.groups = 1
    return dense


def _rearranged(
    network: nn.Module, path: str, layer: InputLayer, channels: int, extra_channels: int
) -> tuple[list[int], list[int]]:
    """Which of the layer's inputs are RGB, and the order of the widened layer's by number: old ones first, then new."""
    core = getattr(network, "core", network)
    before = read_arrangement(core, layer, channels)
    after = read_arrangement(core, layer, channels + extra_channels)
    if before is None or after is None or len(before) != layer.weight.shape[1]:
        raise ModelError(
            f"'{path}' of {_name(core)} takes {layer.weight.shape[1]} channels that are not the pixels of an image "
            f"with {channels}; name the layer that takes the image with input_layer"
        )
    rgb = [index for index, (channel, _) in enumerate(before) if channel < RGB]
    number = {pixel: index for index, pixel in enumerate(before)}
    for pixel in after:
        number.setdefault(pixel, len(number))
    return rgb, [number[pixel] for pixel in after]


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


def _replace_weight(layer: InputLayer, weight: Tensor) -> None:
    layer.weight = nn.Parameter(weight)
    if isinstance(layer, nn.Conv2d):
        layer.in_channels = weight.shape[1]
    else:
        layer.in_features = weight.shape[1]


def _added_channels(layer: nn.Module) -> int:
    """How many channels of the image :func:`widen_input` has appended."""
    return int(getattr(layer, "added_channels", 0))


def _name(network: nn.Module) -> str:
    return type(getattr(network, "core", network)).__name__

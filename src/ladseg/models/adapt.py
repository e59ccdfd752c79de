"""What any ``nn.Module`` needs to be a student or a teacher here: its input, read and widened."""

from typing import Literal

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame
from torch import Generator, Tensor, nn

from ladseg.errors import ModelError

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
    """Append input channels to a network's first convolution, in place.

    The existing weights stay bit for bit (libraries that build a four-channel stem directly rescale them), so an
    image with zeros in the new channels gives what the image alone gave. The layer stays the same object with its
    class, stride, padding and hooks; its weight is a new parameter, so widen before an optimiser is made. Widening
    a widened network appends more channels to the same layer.

    Args:
        network: Any module whose image enters through a Conv2d, a patch embedding's included.
        extra_channels: How many channels to append.
        slice_std: The new weights are N(0, slice_std^2); ``"match"`` takes the standard deviation of the layer's
            own RGB weights; 0 leaves them zero.
        input_layer: The convolution's path, such as ``"encoder.conv1"``; None takes the first Conv2d, in order of
            registration, that has three input channels and one group.
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
    old = layer.weight.detach()
    std = float(old[:, :RGB].float().std()) if slice_std == "match" else float(slice_std)
    widened = _with_new_slice(old, extra_channels, std, generator)
    layer.weight = nn.Parameter(widened, requires_grad=layer.weight.requires_grad)
    layer.in_channels += extra_channels
    layer.added_channels = _added_channels(layer) + extra_channels  # type: ignore[assignment]
    return network


def find_input_layer(network: nn.Module, path: str | None = None) -> tuple[str, nn.Conv2d]:
    """The convolution that sees the image, with its path; see :func:`widen_input` for which that is.

    Raises:
        ModelError: There is none, or none at ``path``.
    """
    convolutions = {name: m for name, m in network.named_modules() if isinstance(m, nn.Conv2d) and m.groups == 1}
    if path is not None:
        if path not in convolutions:
            known = ", ".join(list(convolutions)[:5]) or "none"
            raise ModelError(
                f"input_layer '{path}' is not an ungrouped Conv2d of {_name(network)}; the first are: {known}"
            )
        return path, convolutions[path]
    for name, layer in convolutions.items():
        if layer.in_channels - _added_channels(layer) == RGB:
            return name, layer
    raise ModelError(
        f"no Conv2d with 3 input channels found in {_name(network)}, so its input can't be widened; "
        "name the layer that takes the image with input_layer"
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


def _with_new_slice(old: Tensor, extra_channels: int, std: float, generator: Generator | None) -> Tensor:
    """Weights ``(O, I, kh, kw)`` to ``(O, I + extra_channels, kh, kw)``, in the same memory format."""
    shape = (old.shape[0], extra_channels, *old.shape[2:])
    # Drawn in float32 where the generator lives, so that neither the network's device nor its type changes the draw.
    new = torch.randn(shape, generator=generator, device=generator.device if generator else "cpu").mul_(std)
    joined = torch.cat([old, new.to(old)], dim=1)
    channels_last = not old.is_contiguous() and old.is_contiguous(memory_format=torch.channels_last)
    return joined.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def _added_channels(layer: nn.Module) -> int:
    """How many channels :func:`widen_input` has appended to a convolution."""
    return int(getattr(layer, "added_channels", 0))


def _name(network: nn.Module) -> str:
    return type(network).__name__

"""Let a network see more channels than it was made for."""

from typing import Literal

import torch
from torch import Generator, nn

from ladseg.errors import ModelError


def widen_input(
    network: nn.Module,
    extra_channels: int = 1,
    slice_std: float | Literal["match"] = 0.1,
    input_layer: str | None = None,
    generator: Generator | None = None,
) -> nn.Module:
    """Append input channels to a network's first convolution, in place.

    The existing weights stay bit for bit (libraries that build a four-channel stem directly rescale them), so an
    image with zeros in the new channels gives what the image alone gave.

    Args:
        network: Any module whose image enters through a Conv2d, a patch embedding's included.
        extra_channels: How many channels to append.
        slice_std: The new weights are N(0, slice_std^2); ``"match"`` takes the standard deviation of the layer's
            own weights; 0 leaves them zero.
        input_layer: The convolution's path, such as ``"encoder.conv1"``; None takes the first Conv2d, in order of
            registration, that has three input channels and one group.
        generator: CPU source of the new weights; None is torch's global one.

    Returns:
        The same network.

    Raises:
        ModelError: There is no such layer.
    """
    layer = _input_layer(network, input_layer)
    old = layer.weight.detach()
    std = float(old.float().std()) if slice_std == "match" else float(slice_std)
    shape = (old.shape[0], extra_channels, *old.shape[2:])
    new = torch.randn(shape, generator=generator).mul_(std).to(old)
    layer.weight = nn.Parameter(torch.cat([old, new], dim=1), requires_grad=layer.weight.requires_grad)
    layer.in_channels += extra_channels
    return network


def _input_layer(network: nn.Module, path: str | None) -> nn.Conv2d:
    convolutions = {name: m for name, m in network.named_modules() if isinstance(m, nn.Conv2d) and m.groups == 1}
    if path is not None:
        if path not in convolutions:
            known = ", ".join(list(convolutions)[:5])
            raise ModelError(
                f"input_layer '{path}' is not an ungrouped Conv2d of {_name(network)}; the first are: {known}"
            )
        return convolutions[path]
    for layer in convolutions.values():
        if layer.in_channels == 3:
            return layer
    raise ModelError(
        f"no Conv2d with 3 input channels found in {_name(network)}, so its input can't be widened; "
        "name the layer that takes the image with input_layer"
    )


def _name(network: nn.Module) -> str:
    return type(network).__name__

"""Find the layers that take an image's channels, by running the network on an image with additional channels."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ladseg.models.returned import named_tensors
from ladseg.models.sizes import trial_run
from ladseg.outputs import SegmentationOutput

InputLayer = nn.Conv2d | nn.Linear
RGB = 3
# Sides of trial images: a small multiple of 32, then the usual size of fixed-size networks, a multiple of 14 and 32.
SIDES = (64, 224)


def trial_side(network: nn.Module) -> int | None:
    """Return the first of ``SIDES`` that the network accepts; None if it accepts none or is on the meta device."""
    if any(parameter.is_meta for parameter in network.parameters()):
        return None
    own = getattr(getattr(network, "config", None), "image_size", None)
    for side in (*SIDES, own):
        if not isinstance(side, int):
            continue
        try:
            with trial_run(network):
                network(random_image(network, side, in_channels(network)))
            return side
        except Exception:  # the network's code may raise anything
            continue
    return None


def in_channels(network: nn.Module) -> int:
    """Return the number of image channels that a network takes: three, and those by which it was widened."""
    # Fewer than none where an image has fewer channels than three.
    return RGB + max(
        (added_channels(module) for module in network.modules() if hasattr(module, "added_channels")), default=0
    )


def added_channels(module: nn.Module) -> int:
    """Return how many image channels :func:`ladseg.widen_input` has appended to a layer."""
    return int(getattr(module, "added_channels", 0))


def random_image(network: nn.Module, side: int, channels: int) -> Tensor:
    """Return one image with the network's type and device; equal calls give equal images."""
    image = torch.randn(1, channels, side, side, generator=torch.Generator().manual_seed(0))
    parameter = next(network.parameters(), image)
    return image.to(parameter if parameter.is_floating_point() else image)


def first_output(result: Any) -> Tensor:
    """Return the logits of a result, or its first tensor."""
    if isinstance(result, SegmentationOutput):
        return result.logits
    return next(iter(dict(named_tensors(result)).values()))


def find_entry_layers(
    network: nn.Module, layers: dict[str, InputLayer], side: int, extra_channels: int
) -> dict[str, list[int]]:
    """Find the layers that get more input channels when the image has more, and the image channel of each.

    The network runs on an image whose values all differ, which identifies pixels in whatever order they arrive. A layer
    that gets too many channels is passed only its old ones, so that the run can continue.

    Args:
        network: A network that takes an image of ``in_channels(network)`` channels.
        layers: The layers that may be widened, by path.
        side: Side of the image in pixels.
        extra_channels: How many additional channels the image has.

    Returns:
        The image channel of each input channel, by the path of the layer, in the order of execution.

    Raises:
        Exception: Whatever the network raises if the image also reaches something other than these layers.
    """
    before = in_channels(network)
    count = (before + extra_channels) * side * side
    image = torch.arange(count, dtype=torch.float32).view(1, -1, side, side)
    reached: dict[str, list[int]] = {}

    def pass_old_channels(path: str, layer: InputLayer, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        x, width = inputs[0], _inputs(layer)
        dim = 1 if isinstance(layer, nn.Conv2d) else -1
        if x.shape[dim] <= width:
            return None
        channels = _channels_of_pixels(x, dim, count, side)
        if channels is None and x.shape[dim] == width + extra_channels == before + extra_channels:
            channels = list(range(before + extra_channels))  # the image with other values, but in its own order
        old = [index for index, channel in enumerate(channels or []) if channel < before]
        if channels is None or len(old) != width:
            return None  # let the layer raise its own error
        reached[path] = channels
        return (x.index_select(dim, torch.tensor(old, device=x.device)), *inputs[1:])

    with trial_run(network), _hooked(layers, pass_old_channels):
        network(image.to(random_image(network, 1, 1)))
    return reached


def convolutions_in_order(network: nn.Module, side: int) -> list[nn.Conv2d]:
    """Return the convolutions that run on an image, in the order of execution."""
    order: list[nn.Conv2d] = []
    layers: dict[str, InputLayer] = {k: m for k, m in network.named_modules() if isinstance(m, nn.Conv2d)}
    with trial_run(network), _hooked(layers, lambda path, layer, inputs: order.append(layer)):
        network(random_image(network, side, in_channels(network)))
    return order


def _inputs(layer: InputLayer) -> int:
    return layer.in_channels if isinstance(layer, nn.Conv2d) else layer.in_features


@contextmanager
def _hooked(layers: dict[str, InputLayer], look: Any) -> Iterator[None]:
    """Within this context, call ``look(path, layer, inputs)`` before each layer; it may return other inputs."""
    hooks = [
        layer.register_forward_pre_hook(lambda module, inputs, path=path: look(path, module, inputs))
        for path, layer in layers.items()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _channels_of_pixels(x: Tensor, dim: int, count: int, side: int) -> list[int] | None:
    """Return the image channel of each input at the first position; None if they are not all pixels of the image."""
    first = x[0, :, 0, 0] if dim == 1 else x.reshape(-1, x.shape[-1])[0]
    values = first.double().tolist()
    if len(set(values)) != len(values) or not all(value.is_integer() and 0 <= value < count for value in values):
        return None
    return [int(value) // (side * side) for value in values]

"""Which layers of a network an image's channels reach, found by running it on an image with a channel too many."""

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
# Multiples of 32, and of 14 and 32. The first is quick; networks of a fixed size are seldom of another than the second.
SIDES = (64, 224)


def trial_side(network: nn.Module) -> int | None:
    """The first side of a square RGB image that the network takes; None if it takes none, or has no values (meta)."""
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
        except Exception:  # anyone's code
            continue
    return None


def in_channels(network: nn.Module) -> int:
    """Channels of the image that a network takes: three, and those that it was widened by."""
    return RGB + max((added_channels(module) for module in network.modules()), default=0)


def added_channels(module: nn.Module) -> int:
    """How many channels of the image :func:`ladseg.widen_input` has appended to a layer."""
    return int(getattr(module, "added_channels", 0))


def random_image(network: nn.Module, side: int, channels: int) -> Tensor:
    """One image of the type and on the device of the network; equal calls give equal images."""
    image = torch.randn(1, channels, side, side, generator=torch.Generator().manual_seed(0))
    parameter = next(network.parameters(), image)
    return image.to(parameter if parameter.is_floating_point() else image)


def first_output(result: Any) -> Tensor:
    """The logits of a result, or its first tensor."""
    if isinstance(result, SegmentationOutput):
        return result.logits
    return next(iter(dict(named_tensors(result)).values()))


def find_arrivals(
    network: nn.Module, layers: dict[str, InputLayer], side: int, extra_channels: int
) -> dict[str, list[int]]:
    """Find the layers that get more inputs when the image has more channels, and what these inputs are.

    The network runs on an image whose every value is unlike all others, so that inputs are known for pixels in whatever
    order they come. A layer that gets too many inputs is handed those that it had before, so that the run goes on.

    Args:
        network: A network that takes an image of ``in_channels(network)`` channels.
        layers: The layers that may be widened, by path.
        side: Of the image.
        extra_channels: How many channels the image has too many.

    Returns:
        For each path, in the order of running: the image's channel of each input of the layer.

    Raises:
        Exception: What the network raises if the image reaches something else than these layers.
    """
    before = in_channels(network)
    count = (before + extra_channels) * side * side
    image = torch.arange(count, dtype=torch.float32).view(1, -1, side, side)
    arrivals: dict[str, list[int]] = {}

    def hand_on(path: str, layer: InputLayer, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        x, width = inputs[0], _inputs(layer)
        dim = 1 if isinstance(layer, nn.Conv2d) else -1
        if x.shape[dim] <= width:
            return None
        channels = _channels_of_pixels(x, dim, count, side)
        if channels is None and x.shape[dim] == width + extra_channels == before + extra_channels:
            channels = list(range(before + extra_channels))  # the image, changed but not rearranged
        old = [index for index, channel in enumerate(channels or []) if channel < before]
        if channels is None or len(old) != width:
            return None  # and the layer raises what it raises
        arrivals[path] = channels
        return (x.index_select(dim, torch.tensor(old, device=x.device)), *inputs[1:])

    with trial_run(network), _hooked(layers, hand_on):
        network(image.to(random_image(network, 1, 1)))
    return arrivals


def convolutions_in_order(network: nn.Module, side: int) -> list[nn.Conv2d]:
    """Return the convolutions that run on an image, in the order of running."""
    order: list[nn.Conv2d] = []
    layers: dict[str, InputLayer] = {k: m for k, m in network.named_modules() if isinstance(m, nn.Conv2d)}
    with trial_run(network), _hooked(layers, lambda path, layer, inputs: order.append(layer)):
        network(random_image(network, side, in_channels(network)))
    return order


def _inputs(layer: InputLayer) -> int:
    return layer.in_channels if isinstance(layer, nn.Conv2d) else layer.in_features


@contextmanager
def _hooked(layers: dict[str, InputLayer], look: Any) -> Iterator[None]:
    """Within it ``look(path, layer, inputs)`` runs before each layer, and may return other inputs."""
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
    """The image's channel of each input at the first position; None if they are not all pixels."""
    first = x[0, :, 0, 0] if dim == 1 else x.reshape(-1, x.shape[-1])[0]
    values = first.double().tolist()
    if len(set(values)) != len(values) or not all(value.is_integer() and 0 <= value < count for value in values):
        return None
    return [int(value) // (side * side) for value in values]

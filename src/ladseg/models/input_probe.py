"""What a network's first layer gets of an image, found by running it on one whose every pixel has its own value."""

from typing import Any

import torch
from torch import Tensor, nn

from ladseg.models.sizes import trial_run

InputLayer = nn.Conv2d | nn.Linear
# A multiple of 14, 16 and 32; all values up to 5 * 224^2 are exact in float32.
SIDE = 224


class _Seen(Exception):
    """Ends a run as soon as the layer has its input."""


def first_layer_to_run(network: nn.Module, layers: dict[str, InputLayer], channels: int) -> str | None:
    """The path of the layer that an image reaches first, if it gets the pixels themselves, rearranged."""
    names = {id(layer): name for name, layer in layers.items()}
    first = _run_until(network, list(layers.values()), channels)
    pixels = None if first is None else _pixels(first[1], channels)
    if first is None or pixels is None or len(pixels) != first[0].weight.shape[1]:
        return None
    return names[id(first[0])]


def read_arrangement(network: nn.Module, layer: InputLayer, channels: int) -> list[tuple[int, int]] | None:
    """For each of the layer's inputs at its first position, the image's channel and pixel; None if it's no pixel."""
    seen = _run_until(network, [layer], channels)
    return None if seen is None else _pixels(seen[1], channels)


def _run_until(network: nn.Module, layers: list[InputLayer], channels: int) -> tuple[InputLayer, Tensor] | None:
    """The first of these layers that runs, and what it gets; None if none does or the network can't take it."""
    found: list[tuple[InputLayer, Tensor]] = []

    def stop(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        found.append((layer, inputs[0].detach()))  # type: ignore[arg-type]
        raise _Seen

    hooks = [layer.register_forward_pre_hook(stop) for layer in layers]
    image = torch.arange(channels * SIDE * SIDE, dtype=torch.float32).view(1, channels, SIDE, SIDE)
    try:
        with trial_run(network):
            network(image.to(next(network.parameters())))
    except _Seen:
        pass
    except Exception:  # a network that can't take this image at all is one whose input is not found
        return None
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None


def _pixels(given: Tensor, channels: int) -> list[tuple[int, int]] | None:
    """The inputs at the first position, each as (channel, pixel)."""
    first = given[0, :, 0, 0] if given.ndim == 4 else given[0].reshape(-1, given.shape[-1])[0]
    values = first.double().tolist()
    known = all(value.is_integer() and 0 <= value < channels * SIDE * SIDE for value in values)
    if not known or len(set(values)) != len(values):
        return None
    return [(int(value) // (SIDE * SIDE), int(value) % (SIDE * SIDE)) for value in values]

"""Find out by trial which image sizes a network accepts."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ladseg.errors import ModelError, first_words

# Divisors that the image's sides may need; 14 is DINOv2's patch size.
DIVISORS = (1, 2, 4, 8, 14, 16, 32, 64)


def try_sizes(module: nn.Module) -> tuple[int, Tensor, Any]:
    """Return the smallest divisor whose multiples the network accepts, an image of such a size, and its output.

    The network's state is restored.

    Raises:
        Exception: What the network raised at the largest divisor, if it accepts no size.
    """
    errors: list[Exception] = []
    with trial_run(module):
        for divisor in DIVISORS:
            try:
                image = _zeros(module, divisor)
                return divisor, image, module(image.clone())
            except Exception as error:  # the network's code may raise anything
                errors.append(error)
    raise errors[-1]


@contextmanager
def trial_run(module: nn.Module) -> Iterator[None]:
    """Set eval mode and disable gradients; restore modes, buffers and torch's CPU generator afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    buffers = [
        (part, name, buffer, buffer._version, buffer.clone())
        for part in module.modules()
        for name, buffer in part._buffers.items()
        if buffer is not None and not buffer.is_inference()
    ]
    module.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        for part, mode in modes:
            part.training = mode
        for part, name, buffer, version, before in buffers:
            part._buffers[name] = buffer
            if buffer._version != version:
                with torch.no_grad():
                    buffer.copy_(before)


def size_divisor(backbone: nn.Module, name: str) -> int:
    """Return the number of which an image's sides must be multiples.

    A copy on the meta device is tried first, but not every network runs there.

    Raises:
        ModelError: The backbone accepts none of the sizes tried.
    """
    try:
        return try_sizes(copy.deepcopy(backbone).to("meta"))[0]
    except Exception:
        pass
    try:
        return try_sizes(backbone)[0]
    except Exception as error:
        reason = first_words(error)
        raise ModelError(f"backbone '{name}' takes images of its own size only ({reason}); choose another") from error


def _zeros(module: nn.Module, divisor: int) -> Tensor:
    """Return an image of zeros with sides near 128 that are unequal, odd multiples of the divisor."""
    height = ((128 // divisor) | 1) * divisor
    width = height + 2 * divisor * max(1, 16 // divisor)
    parameter = next(module.parameters(), torch.empty(0))
    return torch.zeros(1, 3, height, width, device=parameter.device, dtype=parameter.dtype)

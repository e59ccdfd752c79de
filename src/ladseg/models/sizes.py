"""What sizes of image a network takes, found by trying."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ladseg.errors import ModelError, first_words

# What networks need their sides to be multiples of; 14 is DINOv2's patch.
DIVISORS = (1, 2, 4, 8, 14, 16, 32, 64)


def try_sizes(module: nn.Module) -> tuple[int, Tensor, Any]:
    """The smallest divisor whose multiples the network takes, an image of such, and what it returned; no trace is left.

    Raises:
        Exception: What the network itself raised at the last size, the roundest, if it takes none.
    """
    errors: list[Exception] = []
    with trial_run(module):
        for divisor in DIVISORS:
            try:
                image = _zeros(module, divisor)
                return divisor, image, module(image.clone())
            except Exception as error:  # anyone's code
                errors.append(error)
    raise errors[-1]


@contextmanager
def trial_run(module: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; afterwards modes, buffers and torch's generator of the CPU are as they were."""
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
    """What the sides of an image must be multiples of.

    Shapes alone are tried first, on a copy without memory; not every network runs on those.

    Raises:
        ModelError: The backbone takes none of the sizes tried.
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
    """An image of zeros about 128 a side, both sides odd multiples of the divisor and unequal."""
    height = ((128 // divisor) | 1) * divisor
    width = height + 2 * divisor * max(1, 16 // divisor)
    parameter = next(module.parameters(), torch.empty(0))
    return torch.zeros(1, 3, height, width, device=parameter.device, dtype=parameter.dtype)

"""What the processes of a distributed training share: gathered tensors, and random draws."""

import torch
import torch.distributed as dist
from torch import Tensor


def process_count() -> int:
    """Return the number of processes that train together; 1 without torch.distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather(values: Tensor) -> Tensor:
    """Concatenate the values of all processes, ``(world * N, ...)``; gradients flow back to their own process."""
    if process_count() == 1:
        return values
    gathered: Tensor = _Gather.apply(values)
    return gathered


def from_first_process(values: Tensor) -> Tensor:
    """Return the first process's values, in every process."""
    if process_count() > 1:
        dist.broadcast(values, 0)
    return values


def random_for_images(*shape: int, device: torch.device) -> Tensor:
    """Draw uniform numbers for this process's images: its part of what one process would draw for all of them.

    Args:
        shape: ``(N, ...)``, N images of this process; every process has as many.
        device: Where to draw them.
    """
    if process_count() == 1:
        return torch.rand(shape, device=device)
    everyone = from_first_process(torch.rand(process_count() * shape[0], *shape[1:], device=device))
    return everyone.chunk(process_count())[dist.get_rank()]


class _Gather(torch.autograd.Function):
    """Gather with gradient; torch's own function needs all-to-all, which not every backend has."""

    @staticmethod
    def forward(ctx: object, values: Tensor) -> Tensor:
        parts = [torch.empty_like(values, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, values.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]

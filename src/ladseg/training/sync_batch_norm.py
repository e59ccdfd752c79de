"""Batch norm over the batch of all processes, on GPUs (torch's own) and CPUs (here: torch's refuses them)."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm


def convert_sync_batch_norm(module: nn.Module, device: torch.device | str) -> nn.Module:
    """Replace every batch norm in a module by one that is synchronised over the processes.

    Parameters and buffers are taken over as they are, and the keys of the state dict stay.

    Args:
        module: Changed in place, unless it is a batch norm itself.
        device: Where it will run.

    Returns:
        The module, or the batch norm that takes its place.
    """
    if torch.device(device).type != "cpu":
        # timm's, because torch's would drop the activation inside timm's batch norms.
        from timm.layers import convert_sync_batchnorm

        converted: nn.Module = convert_sync_batchnorm(module)
        return converted
    if isinstance(module, _BatchNorm):
        return SyncBatchNorm(module)
    for name, child in module.named_children():
        setattr(module, name, convert_sync_batch_norm(child, device))
    return module


class SyncBatchNorm(_BatchNorm):
    """Batch norm of inputs ``(N, C, ...)`` whose statistics in training span the batches of all processes.

    Args:
        original: The batch norm that it replaces. It keeps the dropout and activation of timm's.

    Raises:
        TypeError: The original has a forward pass of its own that is not known here.
    """

    def __init__(self, original: _BatchNorm) -> None:
        inner = dict(original.named_children())
        if type(original).forward is not _BatchNorm.forward and not {"drop", "act"} <= inner.keys():
            raise TypeError(f"can't synchronise a {type(original).__name__}: its forward pass is unknown")
        super().__init__(
            original.num_features,
            original.eps,
            original.momentum,
            original.affine,
            original.track_running_stats,
        )
        self._parameters.update(original._parameters)
        self._buffers.update(original._buffers)
        for name, child in inner.items():
            self.add_module(name, child)
        self.training = original.training

    def forward(self, input: Tensor) -> Tensor:
        spread = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        output = self._joint_norm(input) if self.training and spread else super().forward(input)
        for child in self.children():
            output = child(output)
        return output

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected an input (N, C, ...), got {input.dim()} dimensions")

    def _joint_norm(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        output, mean, variance, count = _JointNorm.apply(input, self.weight, self.bias, self.eps)
        if self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
            momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), momentum)
        return output


class _JointNorm(torch.autograd.Function):
    """Normalise by mean and biased variance over all processes (Ioffe and Szegedy 2015, algorithm 1).

    Two passes, first the mean, then the centred squares: E[x^2] - E[x]^2 loses all digits of a small
    variance around a large mean. The gradients of weight and bias stay this process's own: DDP averages
    them like any other.
    """

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x = input.float()
        sums = torch.cat([x.sum(_others(x)), x.new_tensor([x.numel() // x.shape[1]])])
        dist.all_reduce(sums)
        count = sums[-1]
        if count <= 1:
            raise ValueError(f"batch norm needs more than one value a channel in training: {input.shape}")
        mean = sums[:-1] / count
        centred = x - _as_channels(mean, x)
        variance = centred.square().sum(_others(x))
        dist.all_reduce(variance)
        variance /= count
        scale = torch.rsqrt(variance + eps)
        normal = centred.mul_(_as_channels(scale, x))
        output = normal.clone() if weight is None else normal * _as_channels(weight, x)
        output = output if bias is None else output.add_(_as_channels(bias, x))
        ctx.save_for_backward(normal, scale, weight, count)
        ctx.has_bias = bias is not None
        ctx.mark_non_differentiable(mean, variance, count)
        return output.to(input.dtype), mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        normal, scale, weight, count = ctx.saved_tensors
        grad = grad_output.float()
        grad_bias = grad.sum(_others(grad))
        grad_weight = (grad * normal).sum(_others(grad))
        sums = torch.stack([grad_bias, grad_weight])
        dist.all_reduce(sums)
        mean_grad, mean_product = sums / count
        grad_input = grad - _as_channels(mean_grad, grad) - normal * _as_channels(mean_product, grad)
        grad_input *= _as_channels(scale if weight is None else scale * weight, grad)
        return (
            grad_input.to(grad_output.dtype),
            None if weight is None else grad_weight,
            grad_bias if ctx.has_bias else None,
            None,
        )


def _others(x: Tensor) -> list[int]:
    """All dimensions but the channels'."""
    return [0, *range(2, x.dim())]


def _as_channels(values: Tensor, x: Tensor) -> Tensor:
    """Values ``(C,)`` shaped to broadcast over ``(N, C, ...)``."""
    return values.view(1, -1, *[1] * (x.dim() - 2))

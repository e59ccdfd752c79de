"""Batch norm over the images of all processes.

PyTorch's SyncBatchNorm runs on GPUs only. The one here runs anywhere, for gloo on CPUs.
"""

from typing import Any

import timm.layers
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn


def convert_sync_batch_norm(module: nn.Module, device: torch.device) -> None:
    """Make every batch norm below ``module`` a synchronised one, in place; state dicts keep their keys."""
    if device.type == "cuda":
        for name, child in module.named_children():
            setattr(module, name, timm.layers.convert_sync_batchnorm(child))
        return
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, SyncBatchNorm2d(child))
        else:
            convert_sync_batch_norm(child, device)


class SyncBatchNorm2d(nn.BatchNorm2d):
    """Equal to BatchNorm2d on the joint batch of all processes.

    Args:
        norm: The layer to take over, parameters and all. timm's layers carry dropout and an activation, too.
    """

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self.__dict__.update({k: v for k, v in norm.__dict__.items() if k not in ("_modules",)})
        self._modules.update(norm._modules)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            x = self._normalized(x)
        else:
            x = F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        for name in ("drop", "act"):
            if name in self._modules:
                x = self._modules[name](x)
        return x

    def _normalized(self, x: Tensor) -> Tensor:
        values = x.float()
        count = torch.tensor([x.numel() / x.shape[1]], device=x.device)
        sums = SumOverProcesses.apply(torch.cat([values.sum((0, 2, 3)), count]))
        total = sums[-1].detach()
        mean = sums[:-1] / total
        centred = values - mean.view(1, -1, 1, 1)
        variance = SumOverProcesses.apply(centred.square().sum((0, 2, 3))) / total
        self._track(mean.detach(), variance.detach() * total / (total - 1))
        result = centred * torch.rsqrt(variance + self.eps).view(1, -1, 1, 1)
        if self.affine:
            result = result * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        return result.to(x.dtype)

    def _track(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        weight = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, weight)
        self.running_var.lerp_(variance, weight)


class SumOverProcesses(torch.autograd.Function):
    """All-reduce whose gradient is the all-reduce of gradients: each process's input is in every process's sum."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total

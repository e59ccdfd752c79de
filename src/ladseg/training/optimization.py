"""Optimiser and learning rate."""

import torch
from torch import nn

from ladseg.recipe import Schedule


def learning_rate(schedule: Schedule, step: int) -> float:
    """Polynomial decay ``lr * (1 - step / iterations)^power``, under a linear ramp over the first ``warmup`` steps."""
    rate = schedule.lr * (1 - step / schedule.iterations) ** schedule.power
    return rate * min(1.0, (step + 1) / (schedule.warmup + 1))


def make_optimizer(objective: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    """SGD or AdamW over what is to be trained.

    SGD decays every parameter, as the recipes of the literature do; AdamW spares vectors (biases, norms), as its do.
    """
    trained = [p for p in objective.parameters() if p.requires_grad]
    if schedule.optimizer == "sgd":
        return torch.optim.SGD(
            trained, schedule.lr, momentum=schedule.momentum, weight_decay=schedule.weight_decay, foreach=True
        )
    matrices, vectors = [p for p in trained if p.ndim > 1], [p for p in trained if p.ndim <= 1]
    groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, schedule.lr, weight_decay=schedule.weight_decay, foreach=True)

"""The optimizers of the reference recipes."""

from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from ladseg.recipe import Schedule


def build_optimizer(module: nn.Module, schedule: Schedule) -> "Optimizer | JoinedOptimizer":
    """Return the schedule's optimizer over the parameters of ``module`` that require a gradient.

    SGD decays every parameter, batch norm and biases included, as the recipes that it is compared with do
    (CIRKD, mmsegmentation). AdamW spares parameters of one dimension or none (batch norm, biases), as
    recipes for transformers do. How they go over the parameters is torch's choice: on a GPU all at once, on a
    processor one after the other, each while it is in the cache.

    A part of ``module`` that is trained against the rest, such as a discriminator, says so by an attribute
    ``own_adam``, the arguments of an Adam of its own; its learning rate stays as it is.
    """
    owners = [part for part in module.modules() if hasattr(part, "own_adam")]
    owned = {id(parameter) for part in owners for parameter in part.parameters()}
    parameters = [p for p in module.parameters() if p.requires_grad and id(p) not in owned]
    main = _sgd(parameters, schedule) if schedule.optimizer == "sgd" else _adamw(parameters, schedule)
    own = [_adam(part, part.own_adam) for part in owners]  # type: ignore[arg-type]
    return JoinedOptimizer([main, *own]) if own else main


class JoinedOptimizer:
    """Several optimizers, each with its own parameters, that step together."""

    def __init__(self, parts: Sequence[Optimizer]) -> None:
        self.parts = parts

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Those of all parts."""
        return [group for part in self.parts for group in part.param_groups]

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad()

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for part, saved in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(saved)


def _sgd(parameters: list[nn.Parameter], schedule: Schedule) -> Optimizer:
    return SGD(
        parameters,
        lr=schedule.lr,
        momentum=schedule.momentum,
        weight_decay=schedule.weight_decay,
    )


def _adamw(parameters: list[nn.Parameter], schedule: Schedule) -> Optimizer:
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": schedule.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return AdamW([group for group in groups if group["params"]], lr=schedule.lr)


def _adam(part: nn.Module, options: dict[str, Any]) -> Optimizer:
    group = {"params": list(part.parameters()), "constant_lr": True}
    return Adam([group], **options)

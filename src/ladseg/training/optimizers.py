"""The optimizers of the reference recipes."""

from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from ladseg.errors import TrainingError
from ladseg.recipe import Schedule


def build_optimizer(module: nn.Module, schedule: Schedule) -> "Optimizer | JoinedOptimizer":
    """Return the schedule's optimizer over the parameters of ``module`` that require a gradient.

    Unless ``norm_decay`` is set, SGD decays every parameter, batch norm and biases included, as the reference recipes
    of CIRKD and mmsegmentation do, while AdamW excludes parameters of at most one dimension (batch norm, biases), as
    recipes for transformers do. With ``head_lr``, parameters outside the modules ``backbone`` and ``encoder`` have
    their own learning rate. torch chooses how to iterate over the parameters: on a GPU all at once, on a CPU one after
    the other, each while it is in the cache.

    A part of ``module`` that is trained against the rest, such as a discriminator, has an attribute ``own_adam``: the
    arguments of its own Adam optimizer, whose learning rate is constant.
    """
    owners = [part for part in module.modules() if hasattr(part, "own_adam")]
    owned = {id(parameter) for part in owners for parameter in part.parameters()}
    parameters = [p for p in module.parameters() if p.requires_grad and id(p) not in owned]
    groups = _groups(parameters, schedule, _backbone_parameters(module) if schedule.head_lr != 1 else set())
    if schedule.optimizer == "sgd":
        main: Optimizer = SGD(groups, lr=schedule.lr, momentum=schedule.momentum)
    else:
        main = AdamW(groups, lr=schedule.lr)
    own = [_adam(part, part.own_adam) for part in owners]  # type: ignore[arg-type]
    return JoinedOptimizer([main, *own]) if own else main


class JoinedOptimizer:
    """Several optimizers, each with its own parameters, that step together."""

    def __init__(self, parts: Sequence[Optimizer]) -> None:
        self.parts = parts

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The parameter groups of all parts."""
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


def _groups(parameters: list[nn.Parameter], schedule: Schedule, backbone: set[int]) -> list[dict[str, Any]]:
    """Group the parameters by weight decay and factor on the learning rate."""
    norm_decay = schedule.norm_decay
    if norm_decay is None:
        norm_decay = schedule.weight_decay if schedule.optimizer == "sgd" else 0.0
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in parameters:
        decay = norm_decay if parameter.ndim <= 1 else schedule.weight_decay
        factor = 1.0 if not backbone or id(parameter) in backbone else schedule.head_lr
        groups.setdefault((decay, factor), []).append(parameter)
    return [{"params": held, "weight_decay": key[0], "lr_factor": key[1]} for key, held in groups.items()]


def _backbone_parameters(module: nn.Module) -> set[int]:
    """Return the ids of the backbone's parameters.

    Raises:
        TrainingError: No module is called ``backbone`` or ``encoder``.
    """
    parts = [part for name, part in module.named_modules() if name.split(".")[-1] in ("backbone", "encoder")]
    if not parts:
        raise TrainingError("schedule.head_lr: the network has no module called backbone or encoder; leave it at 1")
    return {id(parameter) for part in parts for parameter in part.parameters()}


def _adam(part: nn.Module, options: dict[str, Any]) -> Optimizer:
    group = {"params": list(part.parameters()), "constant_lr": True}
    return Adam([group], **options)

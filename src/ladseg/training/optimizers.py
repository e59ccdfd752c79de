"""The optimizers of the reference recipes."""

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from ladseg.recipe import Schedule


def build_optimizer(module: nn.Module, schedule: Schedule) -> Optimizer:
    """The schedule's optimizer over the parameters of ``module`` that require a gradient.

    SGD decays every parameter, batch norm and biases included, as the recipes that it is compared with do
    (CIRKD, mmsegmentation). AdamW spares parameters of one dimension or none (batch norm, biases), as
    recipes for transformers do. Both use the multi-tensor implementation: one call a step instead of one a
    parameter.
    """
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if schedule.optimizer == "sgd":
        return SGD(
            parameters,
            lr=schedule.lr,
            momentum=schedule.momentum,
            weight_decay=schedule.weight_decay,
            foreach=True,
        )
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": schedule.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return AdamW([group for group in groups if group["params"]], lr=schedule.lr, foreach=True)

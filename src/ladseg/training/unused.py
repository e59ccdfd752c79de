"""Parameters that a loss does not depend on, which several processes must know of before the first step."""

import copy

import torch
from torch import Tensor, nn

from ladseg.training.step import to_device


def parameters_without_gradient(objective: nn.Module, batch: dict[str, Tensor], device: torch.device) -> list[str]:
    """Find the trainable parameters that get no gradient, by one backward pass of a copy of the objective.

    Some networks hold such: a decoder that leaves the encoder's last stages out (PSPNet of
    segmentation_models_pytorch), a head that is not run. Joined processes would wait for their gradients for ever.

    Args:
        objective: What is trained; it stays as it is.
        batch: Any batch of the training.
        device: Where it is trained.

    Returns:
        Their names.
    """
    trial = copy.deepcopy(objective).to(device).train()
    trial(to_device(batch, device))["loss"].backward()
    return [name for name, value in trial.named_parameters() if value.requires_grad and value.grad is None]

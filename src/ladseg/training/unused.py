"""Find parameters on which the loss does not depend, which distributed training must know before the first step."""

import copy

import torch
from torch import Tensor, nn

from ladseg.training.step import to_device


def parameters_without_gradient(objective: nn.Module, batch: dict[str, Tensor], device: torch.device) -> list[str]:
    """Find the trainable parameters that get no gradient, by one backward pass of a copy of the objective.

    Examples are the encoder's last stages when the decoder skips them (PSPNet of segmentation_models_pytorch), and a
    head that does not run. Distributed processes would wait for their gradients forever.

    Args:
        objective: The objective to train; it is not changed.
        batch: Any batch of the training.
        device: Where to train.

    Returns:
        The names of the parameters.
    """
    trial = copy.deepcopy(objective).to(device).train()
    trial(to_device(batch, device))["loss"].backward()
    return [name for name, value in trial.named_parameters() if value.requires_grad and value.grad is None]

"""One step of training."""

from contextlib import nullcontext

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from ladseg.errors import TrainingError
from ladseg.recipe import Schedule
from ladseg.training.optimizers import JoinedOptimizer


def train_step(
    model: nn.Module,
    batch: dict[str, Tensor],
    optimizer: Optimizer | JoinedOptimizer,
    parameters: list[nn.Parameter],
    lr: float,
    schedule: Schedule,
    accelerator: Accelerator,
) -> dict[str, Tensor]:
    """Update the weights once; return the loss terms before the update, on the device."""
    for group in optimizer.param_groups:
        if not group.get("constant_lr"):
            group["lr"] = lr * group.get("lr_factor", 1.0)
    optimizer.zero_grad()
    terms = _backward(model, batch, schedule.accumulate, accelerator)
    if schedule.clip_grad is not None:
        terms = {**terms, "grad_norm": nn.utils.clip_grad_norm_(parameters, schedule.clip_grad)}
    optimizer.step()
    return terms


def _backward(
    model: nn.Module, batch: dict[str, Tensor], accumulate: int, accelerator: Accelerator
) -> dict[str, Tensor]:
    """Sum the gradients over the parts of a batch; return the means of their loss terms."""
    if accumulate == 1:
        whole: dict[str, Tensor] = model(batch)
        accelerator.backward(whole["loss"])
        return whole
    rows = len(next(iter(batch.values())))
    if rows % accumulate:
        raise TrainingError(
            f"schedule.accumulate {accumulate} does not divide the {rows} images of a process's batch; choose another"
        )
    parts = []
    for part in range(accumulate):
        places = slice(part * rows // accumulate, (part + 1) * rows // accumulate)
        with nullcontext() if part == accumulate - 1 else accelerator.no_sync(model):
            terms: dict[str, Tensor] = model({name: value[places] for name, value in batch.items()})
            accelerator.backward(terms["loss"] / accumulate)
        parts.append(terms)
    return {name: torch.stack([terms[name].detach() for terms in parts]).mean(0) for name in parts[0]}


def seed_dropout(seed: int, device: torch.device) -> None:
    """Seed torch's global generator of the device."""
    # On a CPU, torch.manual_seed takes over a millisecond, because it stores a stack trace for every kind of GPU.
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def to_device(batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Move images to the device in channels_last, and labels with conversion from uint8 to int64 there.

    Tensors of one dimension (seeds) stay on the host, where objectives read them without waiting for the device.
    """
    moved = {}
    for name, value in batch.items():
        layout = torch.channels_last if value.ndim == 4 else torch.preserve_format
        moved[name] = value.to(device, non_blocking=True, memory_format=layout) if value.ndim > 1 else value
    if "label" in moved:
        moved["label"] = moved["label"].long()
    return moved

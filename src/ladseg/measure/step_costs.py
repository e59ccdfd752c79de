"""Measure the arithmetic, time and memory of one training step, without loading data."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from ladseg.measure.mac_counter import count_macs
from ladseg.measure.peak_memory import PeakMemory
from ladseg.measure.timing import in_turns
from ladseg.models import Segmenter
from ladseg.objectives import Network, segmenter
from ladseg.recipe import Schedule
from ladseg.results import StepTime
from ladseg.training import build_optimizer, depthwise_in_float32, resolve_precision, to_device
from ladseg.training.optimizers import JoinedOptimizer


class Trained(Protocol):
    """An objective and the schedule by which it is trained."""

    @property
    def objective(self) -> nn.Module: ...

    @property
    def schedule(self) -> Schedule: ...


def step_macs(training: Trained, num_classes: int) -> int:
    """Return the multiply-accumulates of one training step: matrix products and convolutions, forward and backward,
    with those of the distiller and of a frozen teacher.
    """
    # Counting a large batch is slow, so it is extrapolated from two and four images. Some methods compare all images
    # with each other, so that the arithmetic has a part proportional to the batch and one to its square.
    two, four = (_macs(training, count, num_classes) for count in (2, 4))
    square = (four - 2 * two) / 8
    size = training.schedule.batch_size
    return round((two / 2 - 2 * square) * size + square * size**2)


def _macs(training: Trained, count: int, num_classes: int) -> int:
    batch = _batch_for(training, count, num_classes)
    objective = training.objective.train()
    macs = count_macs(lambda: objective(batch)["loss"].backward())
    objective.zero_grad()
    return macs


@torch.no_grad()
def prediction_macs(network: Network, size: tuple[int, int]) -> int:
    """Return the multiply-accumulates of predicting one image, with the label's channel if the network has one."""
    inner = segmenter(network).eval()
    device = next(inner.parameters()).device
    return count_macs(lambda: inner(torch.zeros(1, inner.in_channels, *size, device=device)))


def step_times(trainings: Mapping[str, Trained], num_classes: int, device: torch.device) -> dict[str, StepTime]:
    """Time the steps of several trainings in turns within this process, so that a drift of the machine's speed cancels.

    Args:
        trainings: Trainings by name; each is measured with the batch size, crop and precision of its schedule.
        num_classes: Number of classes.
        device: Where to train.
    """
    steps = {name: Step(training, num_classes, device) for name, training in trainings.items()}
    seconds = in_turns(steps, device)
    return {name: StepTime(1e3 * statistics.median(seconds[name]), step_memory(step)) for name, step in steps.items()}


def autocast(precision: Literal["auto", "fp32", "bf16"], device: torch.device) -> AbstractContextManager[None]:
    """Return autocast in the precision that a schedule's value means on the device."""
    resolved = resolve_precision(precision, device)
    context: AbstractContextManager[None] = torch.autocast(device.type, torch.bfloat16, enabled=resolved == "bf16")
    return context


class Step:
    """A training step that can be repeated on one batch of random data."""

    def __init__(self, training: Trained, num_classes: int, device: torch.device) -> None:
        # A tiny learning rate keeps the losses finite on random data.
        schedule = dataclasses.replace(training.schedule, lr=1e-9)
        self.training, self.device, self.precision = training, device, schedule.precision
        self.objective = training.objective.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.optimizer = build_optimizer(self.objective, schedule)
        self.batch = to_device(_batch_for(training, schedule.batch_size, num_classes), device)

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        with depthwise_in_float32(self.objective), autocast(self.precision, self.device):
            loss = self.objective(self.batch)["loss"]
        loss.backward()
        self.optimizer.step()

    def held(self) -> int:
        """Return the bytes of weights, buffers and optimizer state."""
        states = [state for group in _parts(self.optimizer) for state in group.state.values()]
        values = [*self.objective.state_dict().values(), *(value for state in states for value in state.values())]
        return sum(value.numel() * value.element_size() for value in values if isinstance(value, Tensor))


def _parts(optimizer: Optimizer | JoinedOptimizer) -> Sequence[Optimizer]:
    return optimizer.parts if isinstance(optimizer, JoinedOptimizer) else [optimizer]


def _batch_for(training: Trained, count: int, num_classes: int) -> dict[str, Tensor]:
    """Return a random batch of images as the networks of a training take them."""
    means = [module.input_mean for module in training.objective.modules() if isinstance(module, Segmenter)]
    return sample_batch(count, training.schedule.crop, num_classes, len(means[0]) if means else 3)


def sample_batch(count: int, crop: tuple[int, int], num_classes: int, channels: int = 3) -> dict[str, Tensor]:
    """Return a batch of random images and labels; equal calls return equal batches."""
    generator = torch.Generator().manual_seed(0)
    # Labels are regions rather than noise, as methods that depend on classes would find in real data.
    coarse = torch.randint(num_classes, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return {
        "image": torch.randn(count, channels, *crop, generator=generator),
        "label": F.interpolate(coarse, size=crop, mode="nearest")[:, 0].long(),
        "seed": torch.arange(count),
    }


def step_memory(step: Step) -> int | None:
    """Return the bytes of weights, optimizer state and the step's own peak; None if the system does not provide it."""
    step.optimizer.zero_grad()
    peak = PeakMemory(step.device, trim=True)
    step()
    return None if peak.added is None else step.held() + peak.added

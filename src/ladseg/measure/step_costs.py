"""The costs of one training step: arithmetic, time and memory, without loading data."""

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
from ladseg.objectives import LabelAssisted, Network, segmenter
from ladseg.recipe import Schedule
from ladseg.results import StepTime
from ladseg.training import build_optimizer, depthwise_in_float32, resolve_precision, to_device
from ladseg.training.optimizers import JoinedOptimizer


class Trained(Protocol):
    """What a training step consists of: an objective and the schedule that it is minimised by."""

    @property
    def objective(self) -> nn.Module: ...

    @property
    def schedule(self) -> Schedule: ...


def step_macs(training: Trained, num_classes: int) -> int:
    """Return the multiply-accumulates of one training step: matrix products and convolutions, forward and backward,
    with those of the distiller and of a frozen teacher.
    """
    # Of two and four images, as a large batch is much to count: some methods compare all images with one another, so
    # arithmetic has a part in proportion to the batch and one to its square.
    two, four = (_macs(training, count, num_classes) for count in (2, 4))
    square = (four - 2 * two) / 8
    size = training.schedule.batch_size
    return round((two / 2 - 2 * square) * size + square * size**2)


def _macs(training: Trained, count: int, num_classes: int) -> int:
    batch = sample_batch(count, training.schedule.crop, num_classes)
    objective = training.objective.train()
    macs = count_macs(lambda: objective(batch)["loss"].backward())
    objective.zero_grad()
    return macs


@torch.no_grad()
def prediction_macs(network: Network, size: tuple[int, int]) -> int:
    """Return the multiply-accumulates of one image's prediction, with the label's channel where there is one."""
    inner = segmenter(network).eval()
    channels = 4 if isinstance(network, LabelAssisted) else 3
    device = next(inner.parameters()).device
    return count_macs(lambda: inner(torch.zeros(1, channels, *size, device=device)))


def step_times(trainings: Mapping[str, Trained], num_classes: int, device: torch.device) -> dict[str, StepTime]:
    """Time the steps of several trainings in turns within this process, so that a drift of the machine cancels.

    Args:
        trainings: By name; each is measured with the batch size, crop and precision of its schedule.
        num_classes: Number of classes.
        device: Where to.
    """
    steps = {name: Step(training, num_classes, device) for name, training in trainings.items()}
    seconds = in_turns(steps, device)
    return {name: StepTime(1e3 * statistics.median(seconds[name]), step_memory(step)) for name, step in steps.items()}


def autocast(precision: Literal["auto", "fp32", "bf16"], device: torch.device) -> AbstractContextManager[None]:
    """Return autocast in the precision that a training of this schedule has on the device."""
    resolved = resolve_precision(precision, device)
    context: AbstractContextManager[None] = torch.autocast(device.type, torch.bfloat16, enabled=resolved == "bf16")
    return context


class Step:
    """A training step that can be repeated on one batch of random data."""

    def __init__(self, training: Trained, num_classes: int, device: torch.device) -> None:
        # Weights that hardly move keep the losses finite on a batch that means nothing.
        schedule = dataclasses.replace(training.schedule, lr=1e-9)
        self.training, self.device, self.precision = training, device, schedule.precision
        self.objective = training.objective.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.optimizer = build_optimizer(self.objective, schedule)
        self.batch = to_device(sample_batch(schedule.batch_size, schedule.crop, num_classes), device)

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


def sample_batch(count: int, crop: tuple[int, int], num_classes: int) -> dict[str, Tensor]:
    """Return a batch of random images and labels, the same every time."""
    generator = torch.Generator().manual_seed(0)
    # Regions rather than noise, as methods that look at classes would find them.
    coarse = torch.randint(num_classes, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return {
        "image": torch.randn(count, 3, *crop, generator=generator),
        "label": F.interpolate(coarse, size=crop, mode="nearest")[:, 0].long(),
        "seed": torch.arange(count),
    }


def step_memory(step: Step) -> int | None:
    """Return the bytes of weights, optimizer state and the peak of a step beside them; None where unknown."""
    step.optimizer.zero_grad()
    peak = PeakMemory(step.device, trim=True)
    step()
    return None if peak.added is None else step.held() + peak.added

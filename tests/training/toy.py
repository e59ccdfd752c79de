"""A training so small that tests can run it whole, and in processes of their own."""

import multiprocessing
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from ladseg.recipe import Schedule
from ladseg.seeds import generator_for
from ladseg.training import FitResult, fit, make_accelerator
from ladseg.training import loop as training_loop
from ladseg.training import resume as training_resume

SCHEDULE = Schedule(
    iterations=24, batch_size=8, crop=(6, 6), lr=0.05, warmup=3, precision="fp32", eval_every=8, save_every=5
)


class Network(nn.Module):
    """Both kinds of batch norm, and dropout."""

    def __init__(self, dropout: float = 0.3, norm: bool = True) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8) if norm else nn.Identity()
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.norm_act = BatchNormAct2d(8) if norm else nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Conv2d(8, 3, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.norm(self.first(image)).relu()
        return self.classifier(self.dropout(self.norm_act(self.second(x))))


class Objective(nn.Module):
    """Labels, a frozen teacher, and a projector that is trained but not delivered."""

    frozen = ("teacher",)
    expected_terms = frozenset({"seg", "kd"})

    def __init__(self, dropout: float = 0.3, norm: bool = True) -> None:
        super().__init__()
        self.network = Network(dropout, norm)
        self.projector = nn.Conv2d(3, 3, 1)
        self.teacher = Network().requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Objective":
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        logits = self.network(batch["image"])
        seg = nn.functional.cross_entropy(logits, batch["label"])
        kd = nn.functional.mse_loss(self.projector(logits), self.teacher(batch["image"]))
        return {"loss": seg + 0.5 * kd, "seg": seg.detach(), "kd": kd.detach()}


def build(dropout: float = 0.3, norm: bool = True) -> Objective:
    """The same weights every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return Objective(dropout, norm)


def batch_of(step: int, size: int = 8) -> dict[str, Tensor]:
    generator = generator_for("toy", step)
    return {
        "image": torch.randn(size, 3, 6, 6, generator=generator),
        "label": torch.randint(0, 3, (size, 6, 6), generator=generator),
        "seed": torch.arange(size),
    }


def run(
    folder: Path,
    schedule: Schedule = SCHEDULE,
    dropout: float = 0.3,
    pause: float = 0.0,
    norm: bool = True,
    spare: bool = False,
    evaluated: Callable[[Network], object] = lambda network: None,
    score: Callable[[], float] | None = None,
    start_counts: bool = False,
) -> FitResult:
    """Train the toy in this process; under torchrun's environment, its share of every batch.

    ``spare`` adds layers that take no part in anything; ``score`` replaces the network's own.
    """
    accelerator = make_accelerator(schedule.precision, folder)
    objective = build(dropout, norm)
    if spare:
        objective.network.spare = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    share = schedule.batch_size // accelerator.num_processes
    rows = slice(accelerator.process_index * share, (accelerator.process_index + 1) * share)

    def batches(start: int) -> Iterator[dict[str, Tensor]]:
        for step in range(start, schedule.iterations):
            time.sleep(pause)
            yield {name: value[rows] for name, value in batch_of(step, schedule.batch_size).items()}

    def evaluate() -> float:
        evaluated(objective.network)
        if score is not None:
            return score()
        probe = batch_of(-1, 4)
        return float((objective.network(probe["image"]).argmax(1) == probe["label"]).float().mean())

    result = fit(
        objective,
        objective.network,
        batches,
        evaluate,
        schedule,
        folder / "toy",
        accelerator,
        seed=7,
        title="toy",
        start_counts=start_counts,
    )
    accelerator.end_training()
    return result


def run_until_killed(folder: Path, moment: str, schedule: Schedule = SCHEDULE, start_counts: bool = False) -> None:
    """Train, and be killed right after a call, such as the sixth step: ``"forward 6"``."""
    kind, count = moment.split()
    calls = 0

    def deadly(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            result = function(*args, **kwargs)
            if calls == int(count):
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return wrapper

    if kind == "interrupt":
        Objective.forward = interrupted(Objective.forward, int(count))  # type: ignore[method-assign]
    elif kind == "forward":
        Objective.forward = deadly(Objective.forward)  # type: ignore[method-assign]
    elif kind == "torch.save":  # the temporary file is written and not yet renamed
        torch.save = deadly(torch.save)
    elif kind == "save_checkpoint":  # the checkpoint is there, the weights of its step are not
        training_loop.save_checkpoint = deadly(training_loop.save_checkpoint)
    elif kind == "evaluate":
        training_loop.RunLog.pictures = deadly(training_loop.RunLog.pictures)
    elif kind == "save_weights":
        training_loop.save_weights = training_resume.save_weights = deadly(training_loop.save_weights)
    run(folder, schedule, start_counts=start_counts)


def interrupted(function: Callable[..., Any], count: int) -> Callable[..., Any]:
    """Let Ctrl-C be pressed during a call."""
    calls = 0

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            os.kill(os.getpid(), signal.SIGINT)
        return function(*args, **kwargs)

    return wrapper


def start(target: Callable[..., Any], *args: Any, environment: dict[str, str] | None = None) -> BaseProcess:
    """Run a function of this module in a process of its own, forked from one that has torch imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=_in_process, args=(target, args, environment or {}))
    process.start()
    return process


def _in_process(target: Callable[..., Any], args: tuple[Any, ...], environment: dict[str, str]) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    warnings.simplefilter("error")  # as pytest has it here
    target(*args)

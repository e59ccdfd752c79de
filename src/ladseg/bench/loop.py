"""Measure the overhead of the training loop over forward pass, backward pass and update."""

import io
import statistics
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ladseg.bench.setting import Setting
from ladseg.data import open_dataset, train_loader, write_demo_scenes
from ladseg.losses import boundary_loss
from ladseg.measure.step_costs import autocast, sample_batch
from ladseg.measure.timing import quartiles
from ladseg.objectives import Plain
from ladseg.outputs import SegmentationOutput
from ladseg.recipe import Data, Schedule
from ladseg.runs.trainings import Training, baseline_training
from ladseg.training import fit, make_accelerator, to_device

ROUNDS = 7
# Seconds of one training in one round.
SECONDS = 8.0
# Images so small that the network's cost is negligible, to show the cost of everything else in a step.
SMALL, SMALL_STEPS = (16, 16), 300
SCENES = 16

Batch = dict[str, Tensor]


def bench_loop(setting: Setting) -> dict[str, Any]:
    """Train the first network with ``fit`` and with a bare torch loop, in turns, on the same batch.

    Returns:
        ``overhead``, the seconds of ``fit`` beyond those of the bare loop relative to the latter, with ``median``,
        ``low`` and ``high`` over rounds; ``steps`` per second of both; ``host_milliseconds``, the time per step that
        ``fit`` adds to a network of negligible cost; ``loading``, the milliseconds to decode and augment a batch of
        built-in scenes in the training's process; and ``waiting``, the share of time that such a training waits for it.
    """
    training = baseline_training(setting.recipe(setting.networks[0]), setting.num_classes)
    assert isinstance(training.objective, Plain)
    batch = sample_batch(setting.batch_size, setting.size, setting.num_classes)
    count = max(3, round(SECONDS / (_bare(training.objective, batch, 2, setting.device) / 2)))
    ours, bare = _in_turns(training.objective, batch, count, setting.device)
    low, median, high = quartiles([a / b - 1 for a, b in zip(ours, bare, strict=True)])
    small = Plain(nn.Conv2d(3, setting.num_classes, 1))
    few = sample_batch(setting.batch_size, SMALL, setting.num_classes)
    host = [statistics.median(seconds) for seconds in _in_turns(small, few, SMALL_STEPS, setting.device)]
    loading, step = _loading(setting, training), statistics.median(ours) / count
    return {
        "network": setting.networks[0],
        "overhead": {"median": median, "low": low, "high": high},
        "steps": {"fit": count / statistics.median(ours), "bare": count / statistics.median(bare)},
        "host_milliseconds": 1e3 * (host[0] - host[1]) / SMALL_STEPS,
        "loading": 1e3 * loading,
        "waiting": loading / (loading + step),
    }


def _in_turns(objective: Plain, batch: Batch, steps: int, device: torch.device) -> tuple[list[float], list[float]]:
    rounds = [(_fit(objective, batch, steps), _bare(objective, batch, steps, device)) for _ in range(ROUNDS)]
    return [ours for ours, _ in rounds], [bare for _, bare in rounds]


def _fit(objective: Plain, batch: Batch, steps: int) -> float:
    """Return the seconds of some steps as counted by ``fit``, without set-up, evaluation and checkpoints."""
    height, width = batch["image"].shape[-2:]
    schedule = Schedule(iterations=steps, crop=(height, width), batch_size=len(batch["image"]), lr=1e-9)

    def batches(start: int) -> Iterator[Batch]:
        return iter([batch] * (steps - start))

    with TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        accelerator = make_accelerator(schedule.precision, folder)
        result = fit(objective, objective.network, batches, None, schedule, folder, accelerator, seed=0, title="bench")
    return result.seconds


def _bare(objective: Plain, batch: Batch, steps: int, device: torch.device) -> float:
    """Return the seconds of the same steps in plain torch, with cross-entropy (and STDC's boundary loss) and SGD."""
    network = objective.network.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-9, momentum=0.9, weight_decay=1e-4)
    begin = time.perf_counter()
    for _ in range(steps):
        moved = to_device(batch, device)
        label = moved["label"]
        optimizer.zero_grad()
        with autocast("auto", device):
            output = SegmentationOutput.of(network(moved["image"]))
        loss = _loss(output.logits, label, output.align_corners)
        for logits in output.aux:
            loss = loss + objective.aux_weight * _loss(logits, label, output.aux_align_corners)
        if output.boundary is not None:
            loss = loss + boundary_loss(output.boundary, label, align_corners=output.align_corners)
        loss.backward()
        optimizer.step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begin


def _loss(logits: Tensor, label: Tensor, align_corners: bool) -> Tensor:
    full = F.interpolate(logits.float(), size=label.shape[-2:], mode="bilinear", align_corners=align_corners)
    return F.cross_entropy(full, label, ignore_index=255)


def _loading(setting: Setting, training: Training) -> float:
    """Return the seconds to load a batch."""
    with TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        root = Path(folder) / "scenes"
        write_demo_scenes(root, train=SCENES, val=1, size=setting.size)
        scenes = open_dataset(Data(root=str(root), classes=str(root / "classes.txt")), "train")
        loader = train_loader(
            scenes,
            crop=setting.size,
            batch_size=setting.batch_size,
            seed=0,
            mean=training.reads.input_mean,
            std=training.reads.input_std,
            start_step=0,
            steps=max(4, 4 * SCENES // setting.batch_size),
        )
        begin = time.perf_counter()
        count = sum(1 for _ in loader)
    return (time.perf_counter() - begin) / count

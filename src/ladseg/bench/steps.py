"""Measure the steps of LAD's three trainings, and the parts of each step."""

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ladseg.bench.setting import Setting
from ladseg.distillers import cwd_loss
from ladseg.measure.step_costs import Step, autocast, step_macs, step_memory
from ladseg.measure.timing import in_turns, ratio
from ladseg.objectives import LabelAssisted, Plain, StudentObjective, TeacherObjective, noise_generators
from ladseg.objectives.plain import supervised_terms, weighted
from ladseg.outputs import SegmentationOutput

Work = Callable[[], object]
# Rows of the square factors, large enough that the rate depends on the device alone.
SIDE = {"cpu": 2048, "cuda": 8192}


def bench_steps(setting: Setting, network: str) -> dict[str, Any]:
    """Measure one network's training steps.

    Returns:
        ``ratios``, the times of ``teacher`` and ``student`` steps as multiples of the plain one, with ``median``,
        ``low`` and ``high`` (quartiles over rounds); ``arithmetic``, the same for multiply-accumulates;
        ``milliseconds`` of all three; ``rate``, the multiply-accumulates per second of each; ``items``, the
        milliseconds of each part of a step; and ``memory``, the bytes that each step needs.
    """
    trainings = setting.trainings(network)
    macs = {name: step_macs(training, setting.num_classes) for name, training in trainings.items()}
    steps = {name: Step(training, setting.num_classes, setting.device) for name, training in trainings.items()}
    parts = {f"{name}/{item}": work for name, step in steps.items() for item, work in _items(step).items()}
    seconds = in_turns({**steps, **parts}, setting.device)
    median = {name: 1e3 * statistics.median(values) for name, values in seconds.items()}
    helped = ("teacher", "student")
    return {
        "ratios": {name: ratio(seconds[name], seconds["plain"]) for name in helped},
        "arithmetic": {name: macs[name] / macs["plain"] for name in helped},
        "milliseconds": {name: median[name] for name in steps},
        "rate": {name: 1e3 * macs[name] / median[name] for name in steps},
        "items": {name: {key.split("/")[1]: median[key] for key in parts if key.startswith(name)} for name in steps},
        "memory": {name: step_memory(step) for name, step in steps.items()},
    }


@torch.no_grad()
def matrix_rate(setting: Setting) -> float:
    """Return the multiply-accumulates per second of a square matrix product, in this device's training precision."""
    side = SIDE.get(setting.device.type, SIDE["cpu"])
    with autocast("auto", setting.device):
        dtype = (torch.ones(1, 1, device=setting.device) @ torch.ones(1, 1, device=setting.device)).dtype
    one, other = (torch.randn(side, side, device=setting.device).to(dtype) for _ in range(2))
    seconds = in_turns({"": lambda: one @ other}, setting.device, patience=5.0)[""]
    return side**3 / statistics.median(seconds)


def _items(step: Step) -> dict[str, Work]:
    """Return the parts of a step, each to run alone on the step's tensors; losses include their gradients."""
    objective, batch = step.objective, step.batch
    label = batch["label"]
    update = {"update": step.optimizer.step}
    if isinstance(objective, TeacherObjective):
        return {**_teacher_items(step, objective, label), **update}
    network = objective.network if isinstance(objective, Plain) else objective.student
    own = _outputs(step, lambda: network(batch["image"]))
    items: dict[str, Work] = {
        "network": _backward(step, lambda: SegmentationOutput.of(network(batch["image"]))),
        "cross-entropy": lambda: _loss(supervised_terms(own, label)),
    }
    if isinstance(objective, StudentObjective):
        teacher = objective.teacher_output(batch)
        assert isinstance(objective.teacher, LabelAssisted)
        items["teacher's network"] = _forward(step, objective.teacher, label)
        items["noise"] = _noise(objective.teacher, batch, label, paths=1)
        items["distillation"] = lambda: _loss(objective.distiller(own, teacher, label))
    return items | update


def _teacher_items(step: Step, objective: TeacherObjective, label: Tensor) -> dict[str, Work]:
    teacher, batch = objective.teacher, step.batch
    paths = 2 if objective.consistency else 1
    images = torch.cat([teacher.joined(batch["image"], label)] * paths)
    outputs = _outputs(step, lambda: teacher.network(images)).split([len(label)] * paths)

    def supervise() -> None:
        for output in outputs:
            _loss(supervised_terms(output, label))

    items = {
        "network": _backward(step, lambda: SegmentationOutput.of(teacher.network(images))),
        "cross-entropy": supervise,
        "noise": _noise(teacher, batch, label, paths),
    }
    if objective.consistency:
        one, two = outputs
        items["consistency"] = lambda: cwd_loss(one.logits, two.logits).backward()
    return items


def _noise(teacher: LabelAssisted, batch: dict[str, Tensor], label: Tensor, paths: int) -> Work:
    def draw() -> None:
        for path in range(1, paths + 1):
            teacher.joined(batch["image"], label, noise_generators(batch, path))

    return draw


def _forward(step: Step, teacher: LabelAssisted, label: Tensor) -> Work:
    image = teacher.joined(step.batch["image"], label)

    @torch.no_grad()
    def run() -> None:
        with autocast(step.precision, step.device):
            teacher.network(image)

    return run


def _outputs(step: Step, run: Callable[[], object]) -> SegmentationOutput:
    """Return a network's output, detached from it."""
    with autocast(step.precision, step.device):
        output = SegmentationOutput.of(run())
    return output.map(lambda value: value.detach().requires_grad_())


def _backward(step: Step, run: Callable[[], SegmentationOutput]) -> Work:
    """Return a forward and backward pass with constant gradients of the output."""

    def both() -> None:
        step.optimizer.zero_grad()
        with autocast(step.precision, step.device):
            output = run()
        scored = [value for value in (output.logits, *output.aux, output.boundary) if value is not None]
        torch.autograd.backward(scored, [torch.ones_like(value) for value in scored])

    return both


def _loss(terms: dict[str, Tensor]) -> None:
    weighted(terms, {})["loss"].backward()

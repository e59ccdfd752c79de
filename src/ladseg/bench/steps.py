"""The steps of LAD's three trainings beside one another, and what is in them."""

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ladseg.bench.setting import Setting
from ladseg.distillers import cwd_loss
from ladseg.measure.step_costs import Step, autocast, step_macs, step_memory
from ladseg.measure.timing import in_turns, ratio
from ladseg.objectives import LabelAssisted, Plain, StudentObjective, TeacherObjective
from ladseg.objectives.noise_draws import noise_generators
from ladseg.objectives.supervision import supervised_terms, weighted
from ladseg.outputs import SegmentationOutput

Work = Callable[[], object]


def bench_steps(setting: Setting, network: str) -> dict[str, Any]:
    """One network's training steps.

    Returns:
        ``ratios``: the steps of ``teacher`` and ``student`` as multiples of the plain one, ``median``, ``low`` and
        ``high`` (quartiles over rounds); ``arithmetic``: the same of multiply-accumulates; ``milliseconds`` of all
        three; ``rate``: multiply-accumulates a second of each; ``items``: milliseconds of what each step is made of;
        ``memory``: bytes that each step needs.
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


def _items(step: Step) -> dict[str, Work]:
    """What a step is made of, each by itself on tensors as the step has them; losses with their gradients."""
    objective, batch = step.objective, step.batch
    label = batch["label"].long()
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
        teacher = objective.teach(batch["image"], label, batch)
        assert isinstance(objective.teacher, LabelAssisted)
        items["teacher's network"] = _forward(step, objective.teacher, label)
        items["noise"] = _noise(objective.teacher, batch, label, paths=1)
        items["distillation"] = lambda: _loss(objective.distiller(own, teacher, label))
    return items | update


def _teacher_items(step: Step, objective: TeacherObjective, label: Tensor) -> dict[str, Work]:
    teacher, batch = objective.teacher, step.batch
    images = torch.cat([teacher.joined(batch["image"], label)] * 2)
    one, two = _outputs(step, lambda: teacher.network(images)).split([len(label)] * 2)
    return {
        "network": _backward(step, lambda: SegmentationOutput.of(teacher.network(images))),
        "cross-entropy": lambda: _loss(supervised_terms(one, label, "_1") | supervised_terms(two, label, "_2")),
        "noise": _noise(teacher, batch, label, paths=2),
        "consistency": lambda: cwd_loss(one.logits, two.logits).backward(),
    }


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
    """What a network gives, cut off from it."""
    with autocast(step.precision, step.device):
        output = SegmentationOutput.of(run())
    return output.map(lambda value: value.detach().requires_grad_())


def _backward(step: Step, run: Callable[[], SegmentationOutput]) -> Work:
    """Forward and backward pass, from gradients that are there already."""

    def both() -> None:
        step.optimizer.zero_grad()
        with autocast(step.precision, step.device):
            output = run()
        scored = [value for value in (output.logits, *output.aux, output.boundary) if value is not None]
        torch.autograd.backward(scored, [torch.ones_like(value) for value in scored])

    return both


def _loss(terms: dict[str, Tensor]) -> None:
    weighted(terms, {})["loss"].backward()

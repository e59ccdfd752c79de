"""Light networks' plain training step in float32, in bfloat16, and in bfloat16 with depthwise convolutions spared.

    python benchmarks/depthwise_precision.py

2 images of 240x320, 19 classes, random weights, variants in turns within one process. The last column is how
ladseg trains on a processor with bfloat16.
"""

import statistics
from contextlib import nullcontext
from typing import Literal
from unittest.mock import patch

import torch
from rich.console import Console
from rich.table import Table

from ladseg.data.memory import keep_freed_memory
from ladseg.measure.step_costs import Step
from ladseg.measure.timing import in_turns
from ladseg.recipe import Recipe, Schedule, StudentSettings
from ladseg.runs.trainings import baseline_training

CLASSES, SIZE, BATCH = 19, (240, 320), 2
STUDENTS = {
    "pspnet@tf_efficientnet_lite0": StudentSettings(model="pspnet@tf_efficientnet_lite0"),
    "the same, output stride 16": StudentSettings(model="pspnet@tf_efficientnet_lite0", output_stride=16),
    "fcn@mobilenetv3_large_100": StudentSettings(model="fcn@mobilenetv3_large_100"),
    "stdc1": StudentSettings(model="stdc1"),
    "pspnet_r18": StudentSettings(model="pspnet_r18"),
}


class NotSpared(Step):
    """A step whose depthwise convolutions follow autocast."""

    def __call__(self) -> None:
        with patch("ladseg.measure.step_costs.depthwise_in_float32", lambda objective: nullcontext()):
            super().__call__()


def step_of(student: StudentSettings, precision: Literal["fp32", "bf16"], spared: bool) -> Step:
    recipe = Recipe(student=student, schedule=Schedule(crop=SIZE, batch_size=BATCH, precision=precision))
    training = baseline_training(recipe, CLASSES)
    if spared:
        return Step(training, CLASSES, torch.device("cpu"))
    return NotSpared(training, CLASSES, torch.device("cpu"))


def main() -> None:
    keep_freed_memory()
    table = Table(title=f"ms a step, {BATCH} images of {SIZE[0]}x{SIZE[1]}")
    for head in ("network", "float32", "bfloat16", "spared"):
        table.add_column(head, justify="left" if head == "network" else "right")
    for name, student in STUDENTS.items():
        steps = {
            "float32": step_of(student, "fp32", False),
            "bfloat16": step_of(student, "bf16", False),
            "spared": step_of(student, "bf16", True),
        }
        seconds = in_turns(steps, torch.device("cpu"), patience=30.0)
        table.add_row(name, *(f"{1e3 * statistics.median(values):.0f}" for values in seconds.values()))
    Console().print(table)


if __name__ == "__main__":
    main()

"""Check that the loss terms of the latest steps are complete and finite, reading them from the device rarely."""

import math

import torch
from accelerate import Accelerator
from torch import Tensor

from ladseg.errors import TrainingError


class TermWatch:
    """Collect the terms of every step on the device, and check them when they are read.

    Args:
        title: Names the training in errors.
        expected: Terms that must show up, such as all that have a weight.
    """

    def __init__(self, title: str, expected: set[str] | frozenset[str] = frozenset()) -> None:
        self.title = title
        self.expected = {"loss"} | set(expected)
        self.names: list[str] = []
        self.steps: list[int] = []
        self.rows: list[Tensor] = []

    def add(self, step: int, terms: dict[str, Tensor]) -> None:
        """Keep the scalar terms of one step, without waiting for the device.

        Raises:
            TrainingError: An expected term is not there, or other terms come than in the steps before.
        """
        missing = sorted((self.expected | set(self.names)) - terms.keys())
        if missing:
            raise TrainingError(
                f"{self.title}: the loss term '{missing[0]}' did not show up at step {step}; "
                f"the objective gave {', '.join(terms)}"
            )
        self.names = self.names or list(terms)
        self.steps.append(step)
        self.rows.append(torch.stack([terms[name].detach().float() for name in self.names]))

    def collect(self, accelerator: Accelerator, kept: str) -> dict[str, float]:
        """Return the mean of each term over the steps since the last call and over all processes.

        Args:
            accelerator: Merges the processes.
            kept: Ends the error message: what is left of the training.

        Raises:
            TrainingError: A term was not finite; the message names the first such step and its term.
        """
        table = accelerator.reduce(torch.stack(self.rows), "mean").cpu()
        if not table.isfinite().all():
            self._refuse(table.tolist(), kept)
        self.steps, self.rows = [], []
        return dict(zip(self.names, table.mean(0).tolist(), strict=True))

    def _refuse(self, table: list[list[float]], kept: str) -> None:
        step, row = next((s, r) for s, r in zip(self.steps, table, strict=True) if not all(map(math.isfinite, r)))
        bad = [name for name, value in zip(self.names, row, strict=True) if not math.isfinite(value)]
        # The sum is only as bad as one of its terms: name the culprit where there is one.
        name = next((name for name in bad if name != "loss"), "loss")
        what = (
            "the gradient norm" if name == "grad_norm" else f"the loss term '{name}'" if name != "loss" else "the loss"
        )
        raise TrainingError(
            f"{self.title}: {what} is {row[self.names.index(name)]} at step {step}; {kept}; "
            "lower schedule.lr or set schedule.warmup or schedule.clip_grad, in a new folder"
        )

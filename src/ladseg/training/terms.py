"""Check that the loss terms of all steps are complete and finite, but read them from the device rarely."""

import math

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ladseg.errors import TrainingError


def remedy_of(lr_key: str | None) -> str:
    """Return what to do about a training that diverges; ``lr_key`` is the recipe's key of its rate, if there is one."""
    lower = "" if lr_key is None else f"lower {lr_key} or set schedule.warmup or "
    return f"{lower or 'set '}schedule.clip_grad, in a new folder"


class TermWatch:
    """Collects the terms of every step on the device, and checks them when they are read.

    Args:
        title: Name of the training in error messages.
        expected: Terms that every step must have, such as all that have a weight.
        remedy: What to do if a term is not finite.
    """

    def __init__(self, title: str, expected: set[str] | frozenset[str] = frozenset(), remedy: str = "") -> None:
        self.title = title
        self.remedy = remedy
        self.expected = {"loss"} | set(expected)
        self.names: list[str] = []
        self.steps: list[int] = []
        self.rows: list[Tensor] = []

    def add(self, step: int, terms: dict[str, Tensor]) -> None:
        """Keep the scalar terms of one step, without waiting for the device.

        Raises:
            TrainingError: An expected term is missing, or the terms differ from those of earlier steps.
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
            kept: The part of the error message that names the last good checkpoint.

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
        # If the loss is not finite, name the term that caused it.
        name = next((name for name in bad if name != "loss"), "loss")
        what = (
            "the gradient norm" if name == "grad_norm" else f"the loss term '{name}'" if name != "loss" else "the loss"
        )
        raise TrainingError(
            f"{self.title}: {what} is {row[self.names.index(name)]} at step {step}; {kept}; {self.remedy}"
        )


def measured(objective: nn.Module, accelerator: Accelerator) -> dict[str, float]:
    """Return what an objective has measured in the last step beside its terms, as the mean of all processes."""
    found: dict[str, Tensor] = getattr(objective, "measured", dict)()
    return {name: float(accelerator.reduce(value.detach(), "mean")) for name, value in found.items()}

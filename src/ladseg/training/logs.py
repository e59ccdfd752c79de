"""What a training says while it goes on: a bar or lines, metrics.jsonl, log.txt, the trackers."""

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch import Tensor

from ladseg.errors import TrainingError
from ladseg.files import write_text

# Steps between log lines: loss terms are read from the device only then.
EVERY = 10
# Seconds between printed lines where there is no terminal for a bar.
QUIET = 15.0


class Log:
    """The log of one training.

    Args:
        folder: Where metrics.jsonl and log.txt go.
        title: What is trained.
        steps: How many steps it takes in all.
        accelerator: Whose trackers get the figures, and whose main process writes.
    """

    def __init__(self, folder: Path, title: str, steps: int, accelerator: Accelerator) -> None:
        self.folder = folder
        self.title = title
        self.steps = steps
        self.accelerator = accelerator
        self.main = accelerator.is_main_process
        self._pending: list[tuple[int, float, dict[str, Tensor]]] = []
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._printed = time.monotonic()
        self._since = (0, time.monotonic())
        folder.mkdir(parents=True, exist_ok=True)

    def start(self, step: int) -> None:
        """Begin at ``step``; lines of later steps, left by a run that was killed, are dropped."""
        self._since = (step, time.monotonic())
        if not self.main:
            return
        path = self.folder / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
        write_text(path, "".join(f"{line}\n" for line in kept))
        if sys.stdout.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
            )
            self._bar = Progress(*columns, refresh_per_second=4)
            self._task = self._bar.add_task(self.title, total=self.steps, completed=step, note="")
            self._bar.start()
        if step:
            self.say(f"goes on at step {step}")

    def step(self, step: int, rate: float, terms: dict[str, Tensor]) -> None:
        """Note the terms of step ``step``, counted from 1; every few steps they are read, checked and written."""
        self._pending.append((step, rate, {name: value.detach() for name, value in terms.items()}))
        if len(self._pending) >= EVERY:
            self.flush()

    def flush(self) -> None:
        """Write what is pending.

        Raises:
            TrainingError: A term was not finite; the message names it and its step.
        """
        if not self._pending:
            return
        names = list(self._pending[0][2])
        values = torch.stack(
            [torch.stack([terms[name].float() for name in names]) for _, _, terms in self._pending]
        ).tolist()
        for (step, _, _), row in zip(self._pending, values, strict=True):
            self._refuse_non_finite(step, dict(zip(names, row, strict=True)))
        step, rate, _ = self._pending[-1]
        means = {name: sum(column) / len(values) for name, column in zip(names, zip(*values, strict=True), strict=True)}
        self._pending.clear()
        before, then = self._since
        self._since = (step, time.monotonic())
        speed = (step - before) / max(self._since[1] - then, 1e-9)
        self._write({"step": step, "lr": rate, **means, "steps_per_second": speed})
        self._show(step, speed, means)

    def score(self, step: int, value: float, best: float) -> None:
        """An evaluation's mIoU, 0..1."""
        self._since = (step, time.monotonic())
        self._write({"step": step, "mean_iou": value})
        self.say(f"step {step}/{self.steps}: mIoU {100 * value:.2f} % (best {100 * best:.2f} %)")

    def say(self, line: str) -> None:
        """A line for people, on the terminal and in log.txt."""
        if not self.main:
            return
        with (self.folder / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")
        if self._bar is not None:
            self._bar.console.print(f"{self.title}: {line}", highlight=False)
        else:
            print(f"{self.title}: {line}", flush=True)

    def close(self) -> None:
        """Take the bar down."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _refuse_non_finite(self, step: int, terms: dict[str, float]) -> None:
        # The sum is not finite whenever a part is not; the part is what to look at.
        bad = sorted((n for n, v in terms.items() if not math.isfinite(v)), key=lambda name: name == "loss")
        if bad:
            raise TrainingError(
                f"{self.title}: loss term '{bad[0]}' is {terms[bad[0]]} at step {step}; the checkpoint before it is kept in "
                f"{self.folder / 'checkpoints'}. Try a lower schedule.lr, or schedule.clip_grad 1.0"
            )

    def _write(self, values: dict[str, Any]) -> None:
        if self.main:
            with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")
        named = {f"{self.title}/{key}": value for key, value in values.items() if key != "step"}
        self.accelerator.log(named, step=values["step"])

    def _show(self, step: int, speed: float, means: dict[str, float]) -> None:
        note = " ".join(f"{name} {value:.3f}" for name, value in means.items())
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=step, note=f"{speed:.2f} steps/s  {note}")
        elif self.main and time.monotonic() - self._printed > QUIET:
            self._printed = time.monotonic()
            minutes, seconds = divmod(int((self.steps - step) / max(speed, 1e-9)), 60)
            print(
                f"{self.title}: step {step}/{self.steps}, {speed:.2f} steps/s, {minutes}:{seconds:02d} left, {note}",
                flush=True,
            )

"""Log a training to metrics.jsonl, log.txt, trackers such as TensorBoard, and the screen."""

import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import numpy as np
from accelerate import Accelerator
from rich.console import Console
from rich.text import Text

from ladseg.errors import UserError, printable
from ladseg.files import make_folder, write_text
from ladseg.progress import QUIET, clock, display
from ladseg.results import from_json, to_json

# A function of the title of a training and the values of a line of metrics.jsonl.
Callback = Callable[[str, dict[str, float]], object]
# The name of the trackers' project or experiment.
PROJECT = "ladseg"


@dataclass(frozen=True)
class Stage:
    """The position of a training in its run.

    Attributes:
        number: Its number, counted from 1.
        count: Number of trainings in the run.
        later: The work of the later trainings, in steps of this one.
    """

    number: int = 1
    count: int = 1
    later: float = 0.0


THE_ONE = Stage()


class RunLog:
    """The log of one training; only the main process prints and writes.

    Args:
        folder: Where ``metrics.jsonl`` and ``log.txt`` are written.
        title: Name of the training on the screen.
        start: Number of steps already done; metrics of later steps, from a killed run, are dropped.
        iterations: Number of steps of the whole training.
        accelerator: Accelerator of the run, which holds the trackers.
        console: The screen.
        callbacks: Each is called with the title and every line of metrics, on the main process.
        stage: Its position in the run, for the screen.
        resumed: Whether lines of step ``start`` are kept, as they are where a checkpoint of that step is.
    """

    def __init__(
        self,
        folder: Path,
        title: str,
        start: int,
        iterations: int,
        accelerator: Accelerator,
        console: Console | None = None,
        callbacks: Sequence[Callback] = (),
        stage: Stage = THE_ONE,
        resumed: bool = True,
    ) -> None:
        self.resumed = resumed
        self.callbacks = callbacks
        self.folder = folder
        self.title = title
        self.start = start
        self.iterations = iterations
        self.accelerator = accelerator
        self.console = console or Console()
        self.active = accelerator.is_main_process
        self.started = self.spoken = time.perf_counter()
        self.files: list[TextIO] = []
        self.stage = stage
        self.heading = title if stage.count == 1 else f"stage {stage.number} of {stage.count}: {title}"
        self.screen = ExitStack()

    def __enter__(self) -> "RunLog":
        if self.active:
            drop_later_metrics(self.folder / "metrics.jsonl", self.start if self.resumed else -1)
            self.files = [self._open(name) for name in ("metrics.jsonl", "log.txt")]
        if self.accelerator.log_with:
            self.accelerator.project_configuration.logging_dir = str(self.folder)
            with self._tracking():
                self.accelerator.init_trackers(PROJECT, init_kwargs=tracker_options(self.folder, self.start))
        self.bar = self.screen.enter_context(display(self.console, hidden=not self.active))
        self.task = self.bar.add_task(self.heading, total=self.iterations, completed=self.start, left="", state="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.screen.close()
        with suppress(OSError, UserError):  # a full disk must not hide the error that stopped the training
            if error is not None:
                self._write(1, f"stopped: {error or type(error).__name__}")
        for file in self.files:
            with suppress(OSError):
                file.close()
        trackers, self.accelerator.trackers = self.accelerator.trackers, []
        for tracker in trackers:
            with self._tracking() if error is None else suppress(OSError):
                tracker.finish()

    def advance(self, step: int) -> None:
        """Move the progress bar to ``step`` steps done."""
        self.bar.update(self.task, completed=step, left=self._time_left(step))

    def terms(self, step: int, lr: float, terms: dict[str, float], seconds: float, images_per_second: float) -> None:
        """Log the mean terms of the latest steps.

        Args:
            step: Number of steps done.
            lr: Learning rate of the last step.
            terms: Mean of each term since the previous line.
            seconds: Training time so far.
            images_per_second: Recent training speed in images per second, over all processes.
        """
        state = "  ".join([f"{images_per_second:.1f} images/s", *(f"{n} {value:.4f}" for n, value in terms.items())])
        line = {
            "step": step,
            "lr": lr,
            **terms,
            "seconds": round(seconds, 3),
            "images_per_second": images_per_second,
        }
        self._metrics(line)
        with self._tracking():
            self.accelerator.log({f"train/{k}": v for k, v in line.items() if k != "step"}, step=step)
        self.bar.update(self.task, state=state)
        self._write(1, f"step {step}/{self.iterations}  lr {lr:.3g}  {state}")
        if not self.console.is_terminal and time.perf_counter() - self.spoken >= QUIET:
            self._print(f"step {step}/{self.iterations}  {self._time_left(step)}  {state}")

    def evaluation(self, step: int, score: float, best_score: float, best_step: int, seconds: float) -> None:
        """Log the network's score after ``step`` steps, and how many seconds the evaluation took."""
        self._metrics({"step": step, "score": score, "best_score": best_score, "evaluation_seconds": round(seconds, 3)})
        with self._tracking():
            self.accelerator.log({"val/score": score}, step=step)
        best = "the best so far" if best_step == step else f"best {100 * best_score:.2f} % at step {best_step}"
        self.say(f"step {step}/{self.iterations}  mIoU {100 * score:.2f} %, {best}")

    def pictures(self, step: int, make: Callable[[], Sequence[np.ndarray]]) -> None:
        """Send pictures to the trackers that can show them; without such trackers none are made.

        Args:
            step: Number of steps done.
            make: Returns the pictures, ``(H, W, 3)`` uint8 each.
        """
        if not self.accelerator.trackers or not self.active:
            return
        named = {f"samples/{number}": picture for number, picture in enumerate(make())}
        with self._tracking():
            for tracker in self.accelerator.trackers:
                _show(tracker, named, step)

    def say(self, text: str) -> None:
        """Print one line, and write it to log.txt."""
        self._write(1, text)
        self._print(text)

    def _open(self, name: str) -> TextIO:
        make_folder(self.folder)
        try:
            return (self.folder / name).open("a", encoding="utf-8", errors="backslashreplace")
        except OSError as fault:
            raise UserError(f"{self.folder / name}: can't be written ({fault.strerror})") from None

    def _metrics(self, values: dict[str, float]) -> None:
        self._write(0, json.dumps(to_json(values)))
        for callback in self.callbacks if self.active else ():
            callback(self.title, dict(values))

    @contextmanager
    def _tracking(self) -> Iterator[None]:
        """Within the context, let a tracker that can't write stop the training in one line."""
        try:
            yield
        except OSError as fault:
            names = ", ".join(str(name) for name in self.accelerator.log_with)
            raise UserError(
                f"{self.folder}: {names} can't write there ({fault.strerror or fault}); put that right and "
                "start the same command again to go on from the last checkpoint, or leave it out of trackers"
            ) from None

    def _write(self, file: int, line: str) -> None:
        if self.files:
            stamp = time.strftime("%Y-%m-%d %H:%M:%S  ") if file == 1 else ""
            try:
                self.files[file].write(f"{stamp}{line}\n")
                self.files[file].flush()
            except OSError as fault:
                raise UserError(
                    f"{self.files[file].name}: can't be written ({fault.strerror}); make room, then start the same "
                    "command again to go on from the last checkpoint"
                ) from None

    def _print(self, text: str) -> None:
        if self.active:
            # Text keeps brackets from being markup; soft_wrap keeps a line in a redirected log on one line.
            self.console.print(Text(printable(f"{self.heading}  {text}")), soft_wrap=True)
            self.spoken = time.perf_counter()

    def _time_left(self, step: int) -> str:
        """Estimate the time left for this training and for the run from the pace since this start."""
        pace = (time.perf_counter() - self.started) / (step - self.start)
        left = pace * (self.iterations - step)
        run = f", run {clock(left + pace * self.stage.later)}" if self.stage.later else ""
        return f"{clock(left)} left{run}"


def _show(tracker: Any, pictures: dict[str, np.ndarray], step: int) -> None:
    """Show pictures in one of accelerate's trackers, whose common class declares neither name nor methods."""
    if tracker.name == "tensorboard":
        tracker.log_images({name: picture[None] for name, picture in pictures.items()}, step, dataformats="NHWC")
    elif tracker.name == "wandb":
        tracker.log_images({name: [picture] for name, picture in pictures.items()}, step)
    elif tracker.name == "mlflow":
        from mlflow import log_image  # logs to the run that accelerate has started

        for name, picture in pictures.items():
            log_image(picture, key=name.replace("/", "-"), step=step)


def tracker_options(folder: Path, start: int) -> dict[str, dict[str, object]]:
    """Return each tracker's options: the training's name, and how to resume one that stopped after ``start`` steps."""
    name = str(folder)
    return {
        "tensorboard": {"purge_step": start + 1},
        "wandb": {"name": name, "dir": name},
        "mlflow": {"run_name": name},
    }


def drop_later_metrics(path: Path, step: int) -> None:
    """Keep only the lines of steps up to ``step``; later ones will be written again.

    Lines that are not metrics are dropped too: a killed process may leave half a line, a power cut null bytes.
    """
    if path.exists():
        kept = [line for line in _lines(path) if (_metrics_of(line) or {"step": math.inf})["step"] <= step]
        write_text(path, "".join(f"{line}\n" for line in kept))


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Return the lines of ``metrics.jsonl``; those that are no metrics, or an absent file, count as none."""
    return [line for line in map(_metrics_of, _lines(path)) if line is not None]


def validation_curve(path: Path) -> list[tuple[int, float]]:
    """Return step and score of each evaluation in ``metrics.jsonl``; empty if there is no such file."""
    return [(int(line["step"]), line["score"]) for line in read_metrics(path) if "score" in line]


def _lines(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    return text.replace("\0", "").split("\n")


def median_of(path: Path, name: str) -> float | None:
    """Return the median of a figure over the lines of ``metrics.jsonl`` that have it; None if none has."""
    values = [line[name] for line in read_metrics(path) if name in line]
    return statistics.median(values) if values else None


def _metrics_of(line: str) -> dict[str, float] | None:
    """Return the figures of a line, without those that were not finite; None if it is no line of metrics."""
    try:
        values = from_json(dict[str, float | None], json.loads(line))
        figures = {name: value for name, value in values.items() if value is not None}
        return figures if math.isfinite(figures["step"]) else None
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        return None

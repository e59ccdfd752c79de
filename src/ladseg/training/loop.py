"""The one training loop, for any objective: evaluate, save, stop, step, log, advance."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ladseg.errors import TrainingError, printable
from ladseg.recipe import Schedule
from ladseg.seeds import derive_seed
from ladseg.training.average import AveragedWeights, delivered_state
from ladseg.training.checkpoints import (
    checkpoint_paths,
    load_weights,
    refuse_broken_weights,
    save_checkpoint,
    save_weights,
)
from ladseg.training.identity import refuse_other_identity, training_identity
from ladseg.training.interruption import interruption
from ladseg.training.logs import THE_ONE, Callback, RunLog, Stage
from ladseg.training.optimizers import build_optimizer
from ladseg.training.result import FitResult, load_result, save_result
from ladseg.training.resume import last_good_checkpoint, prepared, resume, share_buffers
from ladseg.training.schedule import evaluation_is_due, is_delivered, is_over, learning_rate, log_is_due, save_is_due
from ladseg.training.step import seed_dropout, to_device, train_step
from ladseg.training.terms import TermWatch, measured, remedy_of

Batch = dict[str, Tensor]
logger = logging.getLogger(__name__)


def fit(
    objective: nn.Module,
    network: nn.Module,
    batches: Callable[[int], Iterable[Batch]],
    evaluate: Callable[[], float] | None,
    schedule: Schedule,
    folder: Path | str,
    accelerator: Accelerator,
    *,
    seed: int,
    title: str,
    depends_on: Mapping[str, object] | None = None,
    pictures: Callable[[], Sequence[np.ndarray]] = list,
    callbacks: Sequence[Callback] = (),
    stage: Stage = THE_ONE,
    lr_key: str | None = "schedule.lr",
    start_counts: bool = False,
) -> FitResult:
    """Train an objective, and leave the weights to deliver in its network and in ``weights.safetensors``.

    The schedule selects these weights: the best or the last ones, of the network or of their average.

    Called again with the same folder, the training resumes from the last checkpoint; a finished one returns its result
    at once. On one CPU the final weights are bit-identical however often the process was killed. After Ctrl-C the step
    is finished and a checkpoint written, except with several processes.

    Args:
        objective: Maps a batch to the scalar ``loss`` and its named terms. It may declare ``frozen``, the names of
            children that are not trained, and ``expected_terms``, a set of terms that every step must have. Its
            ``before_step(step, logged)``, if it has one, is called before each step, and its ``measured()`` after a
            logged one: scalars by name for the log.
        network: The part of the objective whose weights are delivered.
        batches: Returns the batches from a step on, this process's share of each; they depend on seed and step alone.
        evaluate: Returns the network's score, higher is better, the same on every process. It is called with the
            network in eval mode and without gradient. With None, the last weights are delivered.
        schedule: The training schedule.
        folder: Where this training writes metrics.jsonl, log.txt, checkpoints/, weights.safetensors and result.json.
        accelerator: The result of :func:`ladseg.training.make_accelerator`.
        seed: Seeds torch's global generator (dropout) in each step, together with the step and the process.
        title: Name of the training on the screen and in error messages.
        depends_on: Whatever else the trained weights depend on, as plain values by name.
        pictures: Draws predictions of the network, ``(H, W, 3)`` uint8 each, for trackers that show pictures; called
            like ``evaluate``, but on the main process only.
        callbacks: Functions to call on the main process with the title and the values of every line of metrics.jsonl.
        stage: The position of this training in its run, for the screen.
        lr_key: The recipe's key of the learning rate, which a message about a term or weight that is not finite names;
            None if there is no key.
        start_counts: Whether the weights before the first step are evaluated too, and may be the best.

    Returns:
        The result of the finished training.

    Raises:
        TrainingError: A term is missing or not finite, or the folder holds another training.
    """
    folder = Path(folder)
    identity = training_identity(schedule, seed, title, depends_on or {})
    finished = load_result(folder)
    if finished is not None:
        result, there = finished
        refuse_other_identity(folder, there, identity)
        network.to(accelerator.device)
        if load_weights(folder / "weights.safetensors", network):
            return result
        # Its checkpoints hold the weights, where they were kept.
        if accelerator.is_main_process:
            kept = "its last checkpoint" if checkpoint_paths(folder / "checkpoints") else "the beginning"
            weights = folder / "weights.safetensors"
            logger.warning("%s", printable(f"{weights}: missing or damaged; {title} is trained again from {kept}"))
    with prepared(objective, accelerator, lambda: _next(iter(batches(0)), title, 0)) as (model, unused):
        loop = _Loop(
            objective,
            model,
            network,
            evaluate,
            schedule,
            folder,
            accelerator,
            seed,
            title,
            identity,
            pictures,
            remedy_of(lr_key),
        )
        result = loop.run(batches, unused, callbacks, stage, start_counts)
    accelerator.wait_for_everyone()
    if not load_weights(folder / "weights.safetensors", network):
        raise TrainingError(f"{folder / 'weights.safetensors'}: can't be read; delete {folder} to train anew")
    return result


class _Loop:
    """The loop of :func:`fit`, with the same arguments; ``model`` is the objective as accelerate prepared it."""

    def __init__(
        self,
        objective: nn.Module,
        model: nn.Module,
        network: nn.Module,
        evaluate: Callable[[], float] | None,
        schedule: Schedule,
        folder: Path,
        accelerator: Accelerator,
        seed: int,
        title: str,
        identity: str,
        pictures: Callable[[], Sequence[np.ndarray]],
        remedy: str,
    ) -> None:
        self.objective = objective
        self.model = model
        self.network = network
        self.evaluate = evaluate
        self.schedule = schedule
        self.folder = folder
        self.accelerator = accelerator
        self.seed = seed
        self.title = title
        self.identity = identity
        self.pictures = pictures
        self.remedy = remedy
        self.optimizer = build_optimizer(objective, schedule)
        self.parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        self.precision = "bf16" if accelerator.mixed_precision == "bf16" else "fp32"
        self.average = None if schedule.ema is None else AveragedWeights(network, schedule.ema)
        self.progress, self.notice = resume(
            folder, objective, network, self.optimizer, schedule, self.average, self.precision, identity, accelerator
        )
        self.watch = TermWatch(title, getattr(objective, "expected_terms", frozenset()), remedy)
        self.before_step = getattr(objective, "before_step", lambda step, logged: None)

    def run(
        self,
        batches: Callable[[int], Iterable[Batch]],
        unused: Sequence[str],
        callbacks: Sequence[Callback],
        stage: Stage,
        start_counts: bool,
    ) -> FitResult:
        """Train from the last checkpoint to the end of the schedule, and write the result."""
        schedule, progress = self.schedule, self.progress
        start = progress.step
        self.model.train()
        log_of = RunLog(
            self.folder,
            self.title,
            start,
            schedule.iterations,
            self.accelerator,
            callbacks=callbacks,
            stage=stage,
            resumed=progress.best_score is not None or start > 0,
        )
        with (
            log_of as log,
            interruption(self.accelerator.num_processes > 1) as interrupt,
        ):
            log.say(self.notice)
            if unused:
                log.say(f"{len(unused)} parameters get no gradient and stay as they are: {', '.join(unused[:5])}")
            source = iter(batches(start)) if start < schedule.iterations else iter(())
            if start_counts and start == 0 and self.evaluate is not None and progress.best_score is None:
                self._evaluate(self.evaluate, log)
                self._save()
            clock, logged = time.perf_counter(), start
            while True:
                # A resumed training did what is due at its first step before the checkpoint was written.
                if progress.step > start:
                    if self.evaluate is not None and evaluation_is_due(progress.step, schedule):
                        self._evaluate(self.evaluate, log)
                    if save_is_due(progress.step, schedule) or interrupt.requested:
                        self._save()
                        clock = time.perf_counter()
                if interrupt.requested:
                    raise KeyboardInterrupt(f"Ctrl-C after step {progress.step}")
                if is_over(progress.step, progress.best_step, schedule):
                    break

                lr = learning_rate(progress.step, schedule)
                terms = self._step(_next(source, self.title, progress.step), lr)
                progress.step += 1

                self.watch.add(progress.step, terms)
                if log_is_due(progress.step, schedule):
                    means = self.watch.collect(self.accelerator, last_good_checkpoint(self.folder))
                    means |= measured(self.objective, self.accelerator)
                    now = time.perf_counter()
                    rate = (progress.step - logged) * schedule.batch_size / (now - clock)
                    progress.seconds += now - clock
                    log.terms(progress.step, lr, means, progress.seconds, rate)
                    clock, logged = now, progress.step
                log.advance(progress.step)
        return self._finish()

    def _evaluate(self, evaluate: Callable[[], float], log: RunLog) -> None:
        progress = self.progress
        begin = time.perf_counter()
        with self._evaluating():
            share_buffers(self.network, self.accelerator)
            score = float(evaluate())
            log.pictures(progress.step, self.pictures)
        progress.record(score)
        seconds = time.perf_counter() - begin
        log.evaluation(progress.step, score, progress.best_score or score, progress.best_step, seconds)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        self.network.eval()
        with torch.no_grad(), nullcontext() if self.average is None else self.average.in_network():
            yield
        self.model.train()

    def _save(self) -> None:
        progress = self.progress
        if self.evaluate is None:
            progress.record(None)
        kept = last_good_checkpoint(self.folder)
        refuse_broken_weights(self.parameters, self.title, progress.step, kept, self.remedy)
        if self.accelerator.is_main_process:
            averaged = None if self.average is None else self.average.values
            checkpoints = self.folder / "checkpoints"
            save_checkpoint(
                checkpoints, self.objective, self.optimizer, progress, self.precision, self.identity, averaged
            )
            if is_delivered(progress.step, progress.best_step, self.schedule):
                save_weights(self.folder / "weights.safetensors", delivered_state(self.network, self.average))

    def _step(self, batch: Batch, lr: float) -> dict[str, Tensor]:
        step, device = self.progress.step, self.accelerator.device
        self.before_step(step, log_is_due(step + 1, self.schedule))
        seed_dropout(derive_seed(self.seed, "step", step, self.accelerator.process_index), device)
        batch = to_device(batch, device)
        terms = train_step(self.model, batch, self.optimizer, self.parameters, lr, self.schedule, self.accelerator)
        if self.average is not None:
            self.average.update(step + 1)
        return terms

    def _finish(self) -> FitResult:
        progress = self.progress
        result = FitResult(
            progress.best_score,
            progress.best_step if self.schedule.deliver == "best" else progress.step,
            progress.last_score,
            progress.step,
            progress.seconds,
            self.precision,
        )
        if self.accelerator.is_main_process:
            save_result(self.folder, result, self.identity)
        return result


def _next(source: Any, title: str, step: int) -> Batch:
    batch: Batch | None = next(source, None)
    if batch is None:
        raise TrainingError(f"{title}: the batches ended before step {step + 1}; the loader is to give one a step")
    return batch

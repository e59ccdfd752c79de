"""The one training loop, for any objective: evaluate, save, stop, step, log, advance."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ladseg.errors import TrainingError
from ladseg.recipe import Schedule
from ladseg.seeds import derive_seed
from ladseg.training.average import AveragedWeights, delivered_state
from ladseg.training.checkpoints import load_weights, refuse_broken_weights, save_checkpoint, save_weights
from ladseg.training.identity import refuse_other_identity, training_identity
from ladseg.training.interruption import interruption
from ladseg.training.logs import Callback, RunLog
from ladseg.training.optimizers import build_optimizer
from ladseg.training.result import FitResult, load_result, save_result
from ladseg.training.resume import last_good_checkpoint, prepared, resume, share_buffers
from ladseg.training.schedule import evaluation_is_due, is_delivered, is_over, learning_rate, log_is_due, save_is_due
from ladseg.training.step import seed_dropout, to_device, train_step
from ladseg.training.terms import TermWatch

Batch = dict[str, Tensor]


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
) -> FitResult:
    """Train an objective; leave the weights to deliver in its network and in ``weights.safetensors``.

    They are those of the best evaluation or the last ones, of the network or their average, as the schedule says.

    Called again on the same folder, it goes on from the last checkpoint; a finished training returns its
    result at once. On one CPU the weights end bit-identical however often the process was killed. After Ctrl-C the step
    is finished and a checkpoint written, except where there are several processes.

    Args:
        objective: Takes a batch and returns the scalar ``loss`` to differentiate, and its named terms. May
            declare ``frozen``, the names of children that are not trained, and ``expected_terms``, a set of
            terms that must show up.
        network: The part of the objective whose weights are delivered.
        batches: The batches from a step on, this process's share of each; a function of seed and step.
        evaluate: The score of the network as it is, higher is better, the same on every process. It is
            called with the network in eval mode and without gradient. None delivers the last weights.
        schedule: How it is trained.
        folder: Where this training writes metrics.jsonl, log.txt, checkpoints/, weights.safetensors and
            result.json.
        accelerator: From :func:`ladseg.training.make_accelerator`.
        seed: Seeds torch's global generator (dropout) in each step, together with the step and the process.
        title: Names the training on the screen and in errors.
        depends_on: What the trained weights depend on beside schedule, seed and title, as plain values by name.
        pictures: Draws predictions of the network, ``(H, W, 3)`` uint8 each, for trackers that show pictures; called as
            ``evaluate`` is, on the main process.
        callbacks: Each is called on the main process with the title and the figures of every line of metrics.jsonl.

    Raises:
        TrainingError: A term that is not finite or does not show up, or a folder that holds another training.
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
    # Also where the weights of a finished training are damaged: its checkpoints hold them.
    with prepared(objective, accelerator, lambda: _next(iter(batches(0)), title, 0)) as (model, unused):
        result = _train(
            objective,
            model,
            unused,
            network,
            batches,
            evaluate,
            schedule,
            folder,
            accelerator,
            seed,
            title,
            identity,
            pictures,
            callbacks,
        )
    accelerator.wait_for_everyone()
    if not load_weights(folder / "weights.safetensors", network):
        raise TrainingError(f"{folder / 'weights.safetensors'}: can't be read; delete {folder} to train anew")
    return result


def _train(
    objective: nn.Module,
    model: nn.Module,
    unused: Sequence[str],
    network: nn.Module,
    batches: Callable[[int], Iterable[Batch]],
    evaluate: Callable[[], float] | None,
    schedule: Schedule,
    folder: Path,
    accelerator: Accelerator,
    seed: int,
    title: str,
    identity: str,
    pictures: Callable[[], Sequence[np.ndarray]],
    callbacks: Sequence[Callback],
) -> FitResult:
    optimizer = build_optimizer(objective, schedule)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    precision = "bf16" if accelerator.mixed_precision == "bf16" else "fp32"
    average = None if schedule.ema is None else AveragedWeights(network, schedule.ema)
    progress, notice = resume(
        folder, objective, network, optimizer, schedule, average, precision, identity, accelerator
    )
    start = progress.step
    watch = TermWatch(title, getattr(objective, "expected_terms", frozenset()))
    model.train()

    with (
        RunLog(folder, title, start, schedule.iterations, accelerator, callbacks=callbacks) as log,
        interruption(accelerator.num_processes > 1) as interrupt,
    ):
        log.say(notice)
        if unused:
            log.say(f"{len(unused)} parameters get no gradient and stay as they are: {', '.join(unused[:5])}")
        source = iter(batches(start)) if start < schedule.iterations else iter(())
        clock, logged = time.perf_counter(), start
        while True:
            # Evaluate. After a resume, what is due at this step was done before its checkpoint was written.
            if evaluate is not None and evaluation_is_due(progress.step, schedule) and progress.step > start:
                begin = time.perf_counter()
                with _evaluating(network, model, average):
                    share_buffers(network, accelerator)
                    score = float(evaluate())
                    log.pictures(progress.step, pictures)
                progress.record(score)
                seconds = time.perf_counter() - begin
                log.evaluation(progress.step, score, progress.best_score or score, progress.best_step, seconds)

            # Save.
            if (save_is_due(progress.step, schedule) or interrupt.requested) and progress.step > start:
                if evaluate is None:
                    progress.record(None)
                refuse_broken_weights(parameters, title, progress.step, last_good_checkpoint(folder))
                if accelerator.is_main_process:
                    averaged = None if average is None else average.values
                    save_checkpoint(
                        folder / "checkpoints", objective, optimizer, progress, precision, identity, averaged
                    )
                    if is_delivered(progress.step, progress.best_step, schedule):
                        save_weights(folder / "weights.safetensors", delivered_state(network, average))
                clock = time.perf_counter()

            # Stop.
            if interrupt.requested:
                raise KeyboardInterrupt(f"Ctrl-C after step {progress.step}")
            if is_over(progress.step, progress.best_step, schedule):
                break

            # Step.
            seed_dropout(derive_seed(seed, "step", progress.step, accelerator.process_index), accelerator.device)
            lr = learning_rate(progress.step, schedule)
            batch = to_device(_next(source, title, progress.step), accelerator.device)
            terms = train_step(model, batch, optimizer, parameters, lr, schedule, accelerator)
            if average is not None:
                average.update(progress.step + 1)

            # Log.
            done = progress.step + 1
            watch.add(done, terms)
            if log_is_due(done, schedule):
                means = watch.collect(accelerator, last_good_checkpoint(folder))
                now = time.perf_counter()
                rate = (done - logged) * schedule.batch_size / (now - clock)
                progress.seconds += now - clock
                log.terms(done, lr, means, progress.seconds, rate)
                clock, logged = now, done

            # Advance.
            progress.step = done
            log.advance(done)

    result = FitResult(
        progress.best_score,
        progress.best_step if schedule.deliver == "best" else progress.step,
        progress.last_score,
        progress.step,
        progress.seconds,
        precision,
    )
    if accelerator.is_main_process:
        save_result(folder, result, identity)
    return result


@contextmanager
def _evaluating(network: nn.Module, model: nn.Module, average: AveragedWeights | None) -> Iterator[None]:
    network.eval()
    with torch.no_grad(), nullcontext() if average is None else average.in_network():
        yield
    model.train()


def _next(source: Any, title: str, step: int) -> Batch:
    batch: Batch | None = next(source, None)
    if batch is None:
        raise TrainingError(f"{title}: the batches ended before step {step + 1}; the loader is to give one a step")
    return batch

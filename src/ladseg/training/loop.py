"""The training loop."""

import dataclasses
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from ladseg.files import write_text
from ladseg.recipe import Schedule
from ladseg.seeds import derive_seed
from ladseg.training.checkpoints import (
    load_checkpoint,
    load_trained_state,
    save_checkpoint,
    save_weights,
    trained_state,
)
from ladseg.training.logs import Log
from ladseg.training.optimization import learning_rate, make_optimizer
from ladseg.training.sync_batch_norm import convert_sync_batch_norm

Batch = dict[str, Tensor]

# A killed run repeats no more than this, however far apart its evaluations are.
SAVE_SECONDS = 120.0


@dataclass
class FitResult:
    """How a training went.

    Attributes:
        best_score: The best evaluation, 0..1; its weights are in weights.safetensors.
        best_step: After how many steps.
        last_score: The evaluation at the end.
        seconds: Spent in training steps, over all the times that the run was resumed.
    """

    best_score: float = -1.0
    best_step: int = 0
    last_score: float = -1.0
    seconds: float = 0.0


def fit(
    objective: nn.Module,
    network: nn.Module,
    batches: Callable[[int], Iterable[Batch]],
    evaluate: Callable[[], float],
    schedule: Schedule,
    folder: Path,
    accelerator: Accelerator,
    *,
    seed: int,
    title: str,
) -> FitResult:
    """Train, or go on where a killed run stopped; a finished training returns its result at once.

    Args:
        objective: Called with a batch, returns ``loss`` to differentiate and named terms to log.
        network: The part of it whose best weights are kept in ``weights.safetensors``.
        batches: Training batches from a given step on, functions of the step alone.
        evaluate: The network's score on val, 0..1; every process calls it and gets the same.
        schedule: Length, optimiser, learning rate.
        folder: Everything of this training.
        accelerator: From :func:`make_accelerator`.
        seed: Fixes dropout.
        title: Stands before each line of the log.

    Raises:
        TrainingError: A loss term is not finite; the checkpoint before it stays.
    """
    finished = folder / "result.json"
    if finished.exists():
        return FitResult(**json.loads(finished.read_text(encoding="utf-8")))
    if accelerator.num_processes > 1:
        convert_sync_batch_norm(objective, accelerator.device)
    objective.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(objective, schedule)
    start, result = _resume(objective, optimizer, folder)
    model, optimizer = accelerator.prepare(objective, optimizer)
    trained = [p for p in objective.parameters() if p.requires_grad]
    evaluate_every = schedule.eval_every or -(-schedule.iterations // 5)
    log = Log(folder, title, schedule.iterations, accelerator)
    log.start(start)
    step, stream, saved = start, iter(batches(start)), time.monotonic()
    model.train()
    try:
        while True:
            # evaluate
            last = step == schedule.iterations
            due = step > start and (last or step % evaluate_every == 0)
            if due:
                log.flush()
                model.eval()
                result.last_score = evaluate()
                model.train()
                if result.last_score > result.best_score:
                    result.best_score, result.best_step = result.last_score, step
                    if accelerator.is_main_process:
                        save_weights(folder / "weights.safetensors", network)
                log.score(step, result.last_score, result.best_score)

            # save
            asked = schedule.save_every is not None and step > start and step % schedule.save_every == 0
            if (due or asked or time.monotonic() - saved > SAVE_SECONDS) and accelerator.is_main_process:
                log.flush()
                _save(objective, optimizer, folder, step, result)
                saved = time.monotonic()

            # stop
            if last:
                break

            # step
            batch = _placed(next(stream), accelerator.device)
            began = time.monotonic()
            rate = learning_rate(schedule, step)
            for group in optimizer.param_groups:
                group["lr"] = rate
            # Dropout is a function of the step too, so that a resumed run draws what an unbroken one does.
            torch.manual_seed(derive_seed(seed, "step", step, accelerator.process_index))
            terms = model(batch)
            accelerator.backward(terms["loss"])
            if schedule.clip_grad is not None:
                accelerator.clip_grad_norm_(trained, schedule.clip_grad)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            result.seconds += time.monotonic() - began

            # log, advance
            step += 1
            log.step(step, rate, terms)
    finally:
        log.close()
    if accelerator.is_main_process:
        write_text(finished, json.dumps(dataclasses.asdict(result)) + "\n")
    accelerator.wait_for_everyone()
    return result


def _placed(batch: Batch, device: torch.device) -> Batch:
    """Maps on the device; what is one number a sample stays, so that reading it never waits for the device."""
    placed = {key: value.to(device, non_blocking=True) if value.ndim > 1 else value for key, value in batch.items()}
    placed["image"] = placed["image"].contiguous(memory_format=torch.channels_last)
    return placed


def _save(objective: nn.Module, optimizer: Optimizer, folder: Path, step: int, result: FitResult) -> None:
    content = {
        "step": step,
        "objective": trained_state(objective),
        "optimizer": optimizer.state_dict(),
        "result": dataclasses.asdict(result),
    }
    save_checkpoint(folder / "checkpoints", step, content)


def _resume(objective: nn.Module, optimizer: Optimizer, folder: Path) -> tuple[int, FitResult]:
    """Load the newest checkpoint, if any; the step to go on at."""
    checkpoint = load_checkpoint(folder / "checkpoints")
    if checkpoint is None:
        return 0, FitResult()
    load_trained_state(objective, checkpoint["objective"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    return checkpoint["step"], FitResult(**checkpoint["result"])

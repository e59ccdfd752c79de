"""Where a training starts: at its beginning, or at its last checkpoint."""

from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from ladseg.training.checkpoints import (
    Progress,
    checkpoint_paths,
    frozen_children,
    load_checkpoint,
    load_trained_state,
    remove_leftovers,
    save_weights,
)
from ladseg.training.identity import refuse_other_identity
from ladseg.training.optimizers import JoinedOptimizer
from ladseg.training.precision import spare_depthwise
from ladseg.training.sync_batch_norm import convert_sync_batch_norm
from ladseg.training.unused import parameters_without_gradient


def prepare(
    objective: nn.Module, accelerator: Accelerator, some_batch: Callable[[], dict[str, Tensor]]
) -> tuple[nn.Module, list[str]]:
    """The objective on its device, in channels_last, under autocast, joined to the other processes.

    Args:
        objective: What is trained.
        accelerator: The device and the processes.
        some_batch: Returns any batch of the training; asked for where there are several processes.

    Returns:
        The model to call, and the names of parameters that get no gradient; with one process they are not looked for.
    """
    objective.to(memory_format=torch.channels_last)
    if accelerator.mixed_precision == "bf16":
        spare_depthwise(objective)
    unused: list[str] = []
    if accelerator.num_processes > 1:
        for name, child in objective.named_children():
            if name not in frozen_children(objective):
                setattr(objective, name, convert_sync_batch_norm(child, accelerator.device))
        unused = parameters_without_gradient(objective, some_batch(), accelerator.device)
    # Looking for unused parameters in every step costs a walk over the graph, so only where there are some.
    handler = DistributedDataParallelKwargs(find_unused_parameters=True) if unused else None
    accelerator.ddp_handler = handler  # type: ignore[assignment]
    model: nn.Module = accelerator.prepare(objective)
    if isinstance(model, DistributedDataParallel):
        # Batch norms are joint and memories equal already: what DDP would send before each step is there.
        # The constructor's argument of this name warns since torch 2.15; the attribute is in every version.
        model.broadcast_buffers = False
    return model, unused


def release(model: nn.Module, accelerator: Accelerator) -> None:
    """Undo :func:`prepare`: the objective computes as before it, and may be prepared again."""
    objective = accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    # accelerate leaves what it has marked out of autocast the next time, without a word.
    for name in ("_is_accelerate_prepared", "forward"):
        vars(objective).pop(name, None)
    accelerator.free_memory()


def resume(
    folder: Path,
    objective: nn.Module,
    network: nn.Module,
    optimizer: Optimizer | JoinedOptimizer,
    precision: str,
    identity: str,
    accelerator: Accelerator,
) -> tuple[Progress, str]:
    """Load the last checkpoint, if there is one; how far it was, and a line that says so."""
    if accelerator.is_main_process:
        remove_leftovers(folder)
    paths = checkpoint_paths(folder / "checkpoints")
    if not paths:
        return Progress(), f"starts in {precision} on {accelerator.num_processes} x {accelerator.device.type}"
    content = load_checkpoint(paths[-1])
    refuse_other_identity(folder, content["identity"], identity)
    load_trained_state(objective, content["objective"])
    optimizer.load_state_dict(content["optimizer"])
    progress = Progress(**content["progress"])
    # The process may have been killed between the checkpoint and the weights of the same step.
    if progress.best_step == progress.step and accelerator.is_main_process:
        save_weights(folder / "weights.safetensors", network)
    notice = f"goes on from step {progress.step}"
    if content["precision"] != precision:
        notice += f" in {precision}; it was {content['precision']} so far, so it will not end at the same weights"
    return progress, notice


def last_good_checkpoint(folder: Path) -> str:
    """What is left of a training that stops, for its error message."""
    paths = checkpoint_paths(folder / "checkpoints")
    return f"the last good checkpoint is {paths[-1]}" if paths else "no checkpoint had been saved yet"

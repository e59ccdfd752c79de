"""Prepare an objective for training, and load the last checkpoint if there is one."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate import Accelerator, DistributedDataParallelKwargs
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from ladseg.files import remove_abandoned
from ladseg.recipe import Schedule
from ladseg.training.average import AveragedWeights, delivered_state
from ladseg.training.checkpoints import (
    Progress,
    checkpoint_path,
    checkpoint_paths,
    frozen_children,
    load_checkpoint,
    load_last_checkpoint,
    load_trained_state,
    save_weights,
    trained_state,
)
from ladseg.training.identity import refuse_other_identity
from ladseg.training.optimizers import JoinedOptimizer
from ladseg.training.precision import depthwise_in_float32
from ladseg.training.schedule import is_delivered
from ladseg.training.unused import parameters_without_gradient


@contextmanager
def prepared(
    objective: nn.Module, accelerator: Accelerator, some_batch: Callable[[], dict[str, Tensor]]
) -> Iterator[tuple[nn.Module, list[str]]]:
    """Put the objective on its device, in channels_last, under autocast, and connect it to the other processes.

    At the end, the objective's modules are restored, except for the device and the memory layout.

    Args:
        objective: The objective to train.
        accelerator: The device and the processes.
        some_batch: Returns any batch of the training; called only if there are several processes.

    Yields:
        The model to call, and the names of parameters that get no gradient, which are determined only with several
        processes.
    """
    with ExitStack() as changes:
        objective.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if accelerator.mixed_precision == "bf16":
            changes.enter_context(depthwise_in_float32(objective))
        unused: list[str] = []
        if accelerator.num_processes > 1:
            unused = parameters_without_gradient(objective, some_batch(), accelerator.device)
            if accelerator.device.type != "cpu":
                changes.enter_context(synchronised_batch_norm(objective))
        # Finding unused parameters walks the graph in every step, so it is enabled only if there are some.
        handler = DistributedDataParallelKwargs(find_unused_parameters=True) if unused else None
        accelerator.ddp_handler = handler  # type: ignore[assignment]
        model: nn.Module = accelerator.prepare(objective)
        changes.callback(_release, model, accelerator)
        if isinstance(model, DistributedDataParallel):
            # Batch norm's buffers do not affect training; share_buffers shares them before they are used. The
            # constructor's argument warns since torch 2.15; every version has the attribute.
            model.broadcast_buffers = False
        yield model, unused


def _release(model: nn.Module, accelerator: Accelerator) -> None:
    """Undo accelerate's changes, so that the objective can be prepared again."""
    objective = accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    # accelerate would silently run a module with these marks without autocast the next time.
    for name in ("_is_accelerate_prepared", "forward"):
        vars(objective).pop(name, None)
    accelerator.free_memory()


@contextmanager
def synchronised_batch_norm(objective: nn.Module) -> Iterator[None]:
    """Within the context, make trained batch norms take their statistics over the batches of all processes.

    This holds on GPUs only. torch has no such batch norm for CPUs, where each process normalises its own part of the
    batch.
    """
    # torch's conversion would drop the activation inside timm's batch norms.
    from timm.layers import convert_sync_batchnorm

    trained = [child for name, child in objective.named_children() if name not in frozen_children(objective)]
    parents = [objective, *(part for child in trained for part in child.modules())]
    found = [(part, name, layer) for part in parents for name, layer in part.named_children()]
    norms = [(part, name, layer) for part, name, layer in found if isinstance(layer, _BatchNorm)]
    for part, name, layer in norms:
        setattr(part, name, convert_sync_batchnorm(layer))
    try:
        yield
    finally:
        for part, name, layer in norms:  # parameters and buffers are the same tensors
            layer.train(getattr(part, name).training)
            setattr(part, name, layer)


def share_buffers(network: nn.Module, accelerator: Accelerator) -> None:
    """Copy the main process's buffers, such as batch norm's running statistics, to all processes.

    On CPUs each process has gathered statistics of its own part of the batches.
    """
    if accelerator.num_processes > 1:
        for buffer in network.buffers():
            dist.broadcast(buffer, src=0)


def resume(
    folder: Path,
    objective: nn.Module,
    network: nn.Module,
    optimizer: Optimizer | JoinedOptimizer,
    schedule: Schedule,
    average: AveragedWeights | None,
    precision: str,
    identity: str,
    accelerator: Accelerator,
) -> tuple[Progress, str]:
    """Load the last checkpoint that is not damaged, if there is one.

    Returns:
        The progress of the training, and a line about it for the user.
    """
    checkpoints = folder / "checkpoints"
    if accelerator.is_main_process:
        for place in (folder, checkpoints):  # no other process writes here
            remove_abandoned(place, seconds=0)
    content, damaged, fault = load_last_checkpoint(checkpoints)
    accelerator.wait_for_everyone()
    if content is None:
        return Progress(), f"starts in {precision} on {accelerator.num_processes} x {accelerator.device.type}"
    refuse_other_identity(folder, content["identity"], identity)
    load_trained_state(objective, content["objective"])
    optimizer.load_state_dict(content["optimizer"])
    if average is not None:
        average.load(content["average"])
    progress = Progress(**content["progress"])
    if accelerator.is_main_process:
        for path in damaged:
            path.unlink()
        delivered = is_delivered(progress.step, progress.best_step, schedule)
        _restore_best(folder, objective, network, average, progress, delivered, fell_back=bool(damaged))
    notice = f"goes on from step {progress.step}"
    if content["precision"] != precision:
        notice += f" in {precision}; it was {content['precision']} so far, so it will not end at the same weights"
    return progress, f"{fault}: {notice}" if fault else notice


def _restore_best(
    folder: Path,
    objective: nn.Module,
    network: nn.Module,
    average: AveragedWeights | None,
    progress: Progress,
    delivered: bool,
    fell_back: bool,
) -> None:
    """Write the best weights again if the file may hold others.

    The process may have been killed between writing a checkpoint and the weights of the same step; after a damaged
    checkpoint the file may hold the weights of a later step; and the file itself may be damaged.
    """
    weights = folder / "weights.safetensors"
    if delivered:
        save_weights(weights, delivered_state(network, average))
    elif progress.best_score is not None and (fell_back or not _is_readable(weights)):
        best = load_checkpoint(checkpoint_path(folder / "checkpoints", progress.best_step))
        if average is not None:
            save_weights(weights, best["average"])
            return
        now = {name: value.clone() for name, value in trained_state(objective).items()}
        load_trained_state(objective, best["objective"])
        save_weights(weights, network.state_dict())
        load_trained_state(objective, now)


def _is_readable(path: Path) -> bool:
    try:
        with safe_open(path, "pt"):
            return True
    except (OSError, SafetensorError):
        return False


def last_good_checkpoint(folder: Path) -> str:
    """Return the part of an error message that names the last good checkpoint of a training that stops."""
    paths = checkpoint_paths(folder / "checkpoints")
    return f"the last good checkpoint is {paths[-1]}" if paths else "no checkpoint had been saved yet"

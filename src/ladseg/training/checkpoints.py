"""Checkpoints: everything that a training needs to go on, as plain tensors, numbers and strings."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from ladseg.errors import TrainingError, first_words
from ladseg.files import write_atomically
from ladseg.training.optimizers import JoinedOptimizer


@dataclass
class Progress:
    """How far a training has come.

    Attributes:
        step: Steps done.
        seconds: Time spent in them.
        last_score: Score of the latest evaluation; None before the first, or without any.
        best_score: The highest score so far.
        best_step: Steps done when it was reached; without evaluations, of the latest save.
    """

    step: int = 0
    seconds: float = 0.0
    last_score: float | None = None
    best_score: float | None = None
    best_step: int = 0

    def record(self, score: float | None) -> None:
        """Take in the score of the weights after ``step`` steps; of equal scores the first is the best."""
        self.last_score = score
        if score is None or self.best_score is None or score > self.best_score:
            self.best_score, self.best_step = score, self.step


def save_checkpoint(
    folder: Path,
    objective: nn.Module,
    optimizer: Optimizer | JoinedOptimizer,
    progress: Progress,
    precision: str,
    identity: str,
) -> Path:
    """Write ``folder/step_XXXXXX.pt``, then delete all but the last two and the best.

    Two, so that a file that the disk has spoiled leaves one to go back to.
    """
    path = folder / f"step_{progress.step:06d}.pt"
    content = {
        "progress": dict(vars(progress)),
        "precision": precision,
        "identity": identity,
        "objective": trained_state(objective),
        "optimizer": optimizer.state_dict(),
    }
    write_atomically(path, lambda temporary: torch.save(content, temporary))
    kept = {*checkpoint_paths(folder)[-2:], folder / f"step_{progress.best_step:06d}.pt"}
    for old in checkpoint_paths(folder):
        if old not in kept:
            old.unlink()
    return path


def checkpoint_paths(folder: Path) -> list[Path]:
    """The complete checkpoints of a folder, oldest first."""
    return sorted(folder.glob("step_*.pt"), key=lambda path: int(path.stem.removeprefix("step_")))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The content of one checkpoint, on the CPU.

    Raises:
        TrainingError: The file cannot be read.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise TrainingError(
            f"{path}: not a readable checkpoint ({first_words(error)}); delete it to go on from the one before"
        ) from error
    return content


def trained_state(objective: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers of an objective, without those of its children in ``objective.frozen``.

    A frozen teacher is an input of the training like the images are: its weights have a file of their own.
    """
    return {k: v for k, v in objective.state_dict().items() if not _is_frozen(k, objective)}


def load_trained_state(objective: nn.Module, state: dict[str, Tensor]) -> None:
    """Put back what :func:`trained_state` gave."""
    frozen = {k: v for k, v in objective.state_dict().items() if _is_frozen(k, objective)}
    objective.load_state_dict(frozen | state)


def frozen_children(objective: nn.Module) -> tuple[str, ...]:
    """The names of the children that the objective declares as not trained."""
    return tuple(getattr(objective, "frozen", ()))


def _is_frozen(key: str, objective: nn.Module) -> bool:
    return key.split(".")[0] in frozen_children(objective)


def refuse_broken_weights(parameters: Iterable[nn.Parameter], title: str, step: int, kept: str) -> None:
    """Refuse to save weights that the last update has made useless.

    Raises:
        TrainingError: A weight is not finite.
    """
    # The largest magnitude, not a sum of squares: that may overflow where no weight has.
    norms = torch._foreach_norm([parameter.detach() for parameter in parameters], float("inf"))
    if not torch.stack([norm.float() for norm in norms]).isfinite().all():
        raise TrainingError(
            f"{title}: the weights are not finite after step {step}; {kept}; "
            "lower schedule.lr or set schedule.warmup or schedule.clip_grad, in a new folder"
        )


def save_weights(path: Path, network: nn.Module) -> None:
    """Write the network's weights, and nothing else, as safetensors."""
    # safetensors refuses channels_last and shared memory; these copies have neither.
    state = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in network.state_dict().items()
    }
    write_atomically(path, lambda temporary: save_file(state, temporary))


def load_weights(path: Path, network: nn.Module) -> None:
    """Put the weights that :func:`save_weights` wrote into the network."""
    network.load_state_dict(load_file(path))


def remove_leftovers(folder: Path) -> None:
    """Delete the half-written files that a killed process has left behind."""
    for path in [*folder.glob(".*.tmp.*"), *folder.glob("checkpoints/.*.tmp.*")]:
        path.unlink(missing_ok=True)

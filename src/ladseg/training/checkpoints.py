"""Checkpoints: everything that a training needs to resume, as plain tensors, numbers and strings."""

import re
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from ladseg.errors import TrainingError, first_words
from ladseg.files import write_atomically
from ladseg.results import from_json
from ladseg.training.identity import checked_identity
from ladseg.training.optimizers import JoinedOptimizer


@dataclass
class Progress:
    """The progress of a training.

    Attributes:
        step: Number of steps done.
        seconds: Seconds spent in them.
        last_score: Score of the latest evaluation; None before the first.
        best_score: The highest score so far.
        best_step: Number of steps done when it was reached or, without evaluations, at the latest save.
    """

    step: int = 0
    seconds: float = 0.0
    last_score: float | None = None
    best_score: float | None = None
    best_step: int = 0

    def record(self, score: float | None) -> None:
        """Record the score of the weights after ``step`` steps; among equal scores the first is the best."""
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
    average: dict[str, Tensor] | None = None,
) -> Path:
    """Write ``folder/step_XXXXXX.pt``, then delete all but the last two and the best.

    If the last one is damaged, the training can go back to the one before.

    Raises:
        UserError: The file can't be written.
    """
    path = checkpoint_path(folder, progress.step)
    content = {
        "progress": dict(vars(progress)),
        "precision": precision,
        "identity": identity,
        "objective": trained_state(objective),
        "optimizer": optimizer.state_dict(),
    }
    if average is not None:
        content["average"] = average
    write_atomically(path, lambda temporary: torch.save(content, temporary), _tensor_bytes(content))
    kept = {*checkpoint_paths(folder)[-2:], checkpoint_path(folder, progress.best_step)}
    for old in checkpoint_paths(folder):
        if old not in kept:
            old.unlink()
    return path


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return the path of the checkpoint after ``step`` steps."""
    return folder / f"step_{step:06d}.pt"


def checkpoint_paths(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, oldest first."""
    paths = [path for path in folder.glob("step_*.pt") if re.fullmatch(r"step_\d+", path.stem, re.ASCII)]
    return sorted(paths, key=lambda path: int(path.stem.removeprefix("step_")))


def remove_checkpoints(folder: Path) -> None:
    """Delete the checkpoints of the training in ``folder``, which has finished and left its weights."""
    for path in checkpoint_paths(folder / "checkpoints"):
        path.unlink()
    with suppress(OSError):  # something else lies in the folder, or it is gone
        (folder / "checkpoints").rmdir()


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Load one checkpoint to the CPU, after comparing its bytes with the archive's checksums.

    Raises:
        TrainingError: The file is damaged or not a checkpoint.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch.load does not compare checksums
        if damaged is not None:
            raise zipfile.BadZipFile(f"the checksum of {damaged} is wrong")
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        missing = {"progress", "precision", "identity", "objective", "optimizer"} - content.keys()
        missing = missing or {"step"} - content["progress"].keys()
        if missing:
            raise ValueError(f"it has no {min(missing)}")
        checked_identity(content["identity"])
        from_json(Progress, content["progress"])
    except Exception as error:
        raise TrainingError(f"{path}: not a readable checkpoint ({first_words(error)})") from error
    return content


def load_last_checkpoint(folder: Path) -> tuple[dict[str, Any] | None, list[Path], str]:
    """Load the latest checkpoint that is not damaged.

    Returns:
        Its content, or None if the folder holds no checkpoint; the paths of later, damaged ones; and the fault of the
        latest one, empty if it has none.

    Raises:
        TrainingError: There are checkpoints, and all are damaged.
    """
    damaged: list[Path] = []
    fault = ""
    for path in reversed(checkpoint_paths(folder)):
        try:
            return load_checkpoint(path), damaged, fault
        except TrainingError as error:
            damaged.append(path)
            fault = fault or str(error)
    if damaged:
        raise TrainingError(f"{fault}, and there is no good one before it; delete {folder.parent} to train anew")
    return None, [], ""


def trained_state(objective: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and buffers of an objective, without those of its children in ``objective.frozen``.

    A frozen teacher's weights have their own file.
    """
    return {k: v for k, v in objective.state_dict().items() if not _is_frozen(k, objective)}


def load_trained_state(objective: nn.Module, state: dict[str, Tensor]) -> None:
    """Load the state that :func:`trained_state` returned."""
    frozen = {k: v for k, v in objective.state_dict().items() if _is_frozen(k, objective)}
    objective.load_state_dict(frozen | state)


def frozen_children(objective: nn.Module) -> tuple[str, ...]:
    """Return the names of the children that the objective declares as not trained."""
    return tuple(getattr(objective, "frozen", ()))


def _is_frozen(key: str, objective: nn.Module) -> bool:
    return key.split(".")[0] in frozen_children(objective)


def refuse_broken_weights(parameters: Iterable[nn.Parameter], title: str, step: int, kept: str, remedy: str) -> None:
    """Refuse to save weights that are not finite.

    Raises:
        TrainingError: A weight is not finite.
    """
    # The maximum norm can't overflow; a sum of squares can, even though all weights are finite.
    norms = torch._foreach_norm([parameter.detach() for parameter in parameters], float("inf"))
    if not torch.stack([norm.float() for norm in norms]).isfinite().all():
        raise TrainingError(f"{title}: the weights are not finite after step {step}; {kept}; {remedy}")


def save_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """Write the weights of a network, and nothing else, as safetensors."""
    # safetensors refuses channels_last and shared memory, so it gets plain copies.
    state = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in weights.items()}
    write_atomically(path, lambda temporary: save_file(state, temporary), _tensor_bytes(state))


def load_weights(path: Path, network: nn.Module) -> bool:
    """Load the weights that :func:`save_weights` wrote; return False if the file is missing, damaged or another's."""
    try:
        state = load_file(path)
    except (OSError, SafetensorError):
        return False
    there = network.state_dict()
    if {name: value.shape for name, value in state.items()} != {name: value.shape for name, value in there.items()}:
        return False
    network.load_state_dict(state)
    return True


def _tensor_bytes(values: Any) -> int:
    """Return the bytes of all tensors in nested containers."""
    if isinstance(values, Tensor):
        return values.numel() * values.element_size()
    if isinstance(values, dict):
        return sum(map(_tensor_bytes, values.values()))
    return sum(map(_tensor_bytes, values)) if isinstance(values, list | tuple) else 0

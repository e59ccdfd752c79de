"""What a killed run goes on from: plain tensors, numbers and strings."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ladseg.errors import TrainingError
from ladseg.files import write_atomically

KEPT = 2


def save_checkpoint(folder: Path, step: int, content: dict[str, Any]) -> Path:
    """Write ``step_NNNNNN.pt`` and remove all but the last two."""
    path = folder / f"step_{step:06d}.pt"
    write_atomically(path, lambda temporary: torch.save(content, temporary))
    for old in list_checkpoints(folder)[:-KEPT]:
        old.unlink()
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """Oldest first."""
    return sorted(folder.glob("step_*.pt"))


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The newest one; None if there is none.

    Raises:
        TrainingError: It can't be read.
    """
    paths = list_checkpoints(folder)
    if not paths:
        return None
    try:
        return torch.load(paths[-1], map_location="cpu", weights_only=True)
    except Exception as error:
        raise TrainingError(
            f"{paths[-1]}: damaged checkpoint ({error}); delete it to go on from the one before"
        ) from None


def trained_state(objective: nn.Module) -> dict[str, Tensor]:
    """The objective's state without its frozen parts (attribute ``frozen``: names of sub-modules)."""
    frozen = tuple(f"{name}." for name in getattr(objective, "frozen", ()))
    return {key: value for key, value in objective.state_dict().items() if not key.startswith(frozen or "\0")}


def load_trained_state(objective: nn.Module, state: dict[str, Tensor]) -> None:
    """The reverse of :func:`trained_state`."""
    missing, unexpected = objective.load_state_dict(state, strict=False)
    own = trained_state(objective).keys()
    if unexpected or set(missing) & own:
        raise TrainingError(
            f"the checkpoint is of another network (differs at '{[*unexpected, *missing][0]}')"
        )


def save_weights(path: Path, network: nn.Module) -> None:
    """A network's state as safetensors."""
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    write_atomically(path, lambda temporary: save_file(state, temporary))

"""Load pretrained weights from a local file, or refuse the file with a count of what matches."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from ladseg.errors import ModelError
from ladseg.models.checkpoint_file import read_state, recorded_align_corners, recorded_normalization
from ladseg.models.renames import Triple, renamed, tables_of
from ladseg.models.segmenter import Segmenter

PREFIX = "backbone."
logger = logging.getLogger("ladseg")


@dataclass(frozen=True)
class Checkpoint:
    """A file's tensors.

    Attributes:
        file: Its path.
        state: The tensors under timm's or our names.
        original: The tensors under the names in the file; empty if these are the same.
        align_corners: How the network was trained to upsample its logits; None if the file does not tell.
        normalization: Mean and standard deviation, of RGB in 0..1, that it was trained with; None for the usual ones.
        translated: Whether the file has another library's names.
    """

    file: str
    state: dict[str, Tensor]
    original: dict[str, Tensor] = field(default_factory=dict)
    align_corners: bool | None = None
    normalization: tuple[Triple, Triple] | None = None
    translated: bool = False

    def renamed(self, own_names: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> "Checkpoint":
        """Return the checkpoint under the names of a network's tensors; see :meth:`Segmenter.own_names`."""
        return replace(self, state=own_names(self.state), original={})

    def of_backbone(self) -> "Checkpoint":
        """Return the tensors with the prefix ``backbone.``, without it; all tensors if none has it."""
        below = {key.removeprefix(PREFIX): value for key, value in self.state.items() if key.startswith(PREFIX)}
        if not below:
            return self
        if len(below) < len(self.state):
            say_once(f"{self.file}: only its backbone is used; its head belongs to another network")
        return Checkpoint(self.file, below)

    def below_backbone(self) -> "Checkpoint":
        """Return the tensors with the prefix ``backbone.`` before every name that lacks it."""
        return Checkpoint(self.file, {PREFIX + key.removeprefix(PREFIX): value for key, value in self.state.items()})


def read_checkpoint(file: str) -> Checkpoint:
    """Read a safetensors file, or a .pth that loads with ``weights_only=True``.

    Raises:
        ModelError: The file is missing or unreadable.
    """
    state = read_state(Path(file))
    tables = tables_of(state)
    recorded = [recorded_align_corners(Path(file)), *(table.align_corners for table in tables)]
    return Checkpoint(
        file,
        renamed(state),
        state,
        align_corners=next((value for value in recorded if value is not None), None),
        normalization=recorded_normalization(Path(file))
        or next((table.normalization for table in tables if table.normalization), None),
        translated=bool(tables),
    )


def adopt_training(network: Segmenter, checkpoint: Checkpoint, whole: bool) -> None:
    """Let a network upsample and normalise as it did when its checkpoint was trained, in place.

    Args:
        network: One of ladseg's networks, with the file's weights.
        checkpoint: The file.
        whole: Whether the head has the file's weights too; a backbone does not determine how logits are upsampled.
    """
    if checkpoint.normalization is not None:
        network.input_mean, network.input_std = checkpoint.normalization
    if not whole:
        return
    if checkpoint.align_corners is not None:
        network.upsample_with(checkpoint.align_corners)
    elif checkpoint.translated:
        value = str(network.align_corners).lower()
        say_once(
            f"{checkpoint.file}: does not record how its logits are upsampled; align_corners is {value}, and "
            "args: {align_corners: true or false} sets it"
        )


def is_whole(checkpoint: Checkpoint, module: nn.Module) -> bool:
    """Return whether the file has any tensor of this network outside its backbone."""
    return any(key in checkpoint.state for key in module.state_dict() if not key.startswith(PREFIX))


def load_whole(network: Segmenter, checkpoint: Checkpoint, num_classes: int) -> None:
    """Copy a file's tensors into a network whose core has the same names.

    Direct children of the core that the file lacks keep their weights, as long as the file has others completely; so
    does a classifier for another number of classes. A log line reports each.

    Args:
        network: The network to load, on any device but meta; finished, as it is then marked, if nothing that predicts
            is missing.
        checkpoint: The file.
        num_classes: Its number of classes.

    Raises:
        ModelError: Tensors are missing or have another shape.
    """
    module = network.core
    own = module.state_dict()
    checkpoint = under_own_names(checkpoint, own)
    state = checkpoint.state
    wanted = {key: value.shape for key, value in own.items() if not key.endswith("num_batches_tracked")}
    present = {_part(key) for key in wanted if key in state}
    absent = [part for part in dict.fromkeys(map(_part, wanted)) if part not in present]
    unlike = [key for key, shape in wanted.items() if key in state and state[key].shape != shape]
    classifiers = _of_other_class_count(state, wanted, unlike, num_classes)
    needed = {k: v for k, v in wanted.items() if k not in classifiers and (_part(k) in present or not present)}
    refuse_misfit(checkpoint, needed, f"this {type(module).__name__}")
    if classifiers:
        theirs = state[next(iter(classifiers))].shape[0]
        say_once(f"{checkpoint.file}: its classifier is for {theirs} classes, not {num_classes}; it is left out")
    if absent:
        say_once(f"{checkpoint.file}: has nothing for {', '.join(absent)}; this part starts at random")
    module.load_state_dict({k: v for k, v in state.items() if k in own and k not in classifiers}, strict=False)
    network.is_finished = not classifiers and all(map(network.is_training_only, absent))


def under_own_names(checkpoint: Checkpoint, own: Mapping[str, Tensor]) -> Checkpoint:
    """Return the tensors under the names that fit a network best.

    The candidates are timm's or our names, those in the file, and those without a prefix, since Lightning puts the name
    of an attribute before every name.
    """
    original = checkpoint.original
    first = next(iter(own), "")
    prefixes = [key[: -len(first)] for key in original if key.endswith(f".{first}")]
    below = [{k.removeprefix(p): v for k, v in original.items() if k.startswith(p)} for p in prefixes]
    best = max([checkpoint.state, original, *below], key=lambda state: sum(key in state for key in own))
    return Checkpoint(checkpoint.file, best)


def _part(key: str) -> str:
    """Return the name of the module's direct child that a tensor belongs to."""
    return key.split(".")[0]


def refuse_misfit(checkpoint: Checkpoint, wanted: dict[str, torch.Size], name: str) -> None:
    """Compare a file with the tensors that are needed of it.

    Raises:
        ModelError: Tensors are missing or have another shape; the message says how many match.
    """
    state = checkpoint.state
    missing = [key for key in wanted if key not in state]
    unlike = [key for key, shape in wanted.items() if key in state and state[key].shape != shape]
    if not missing and not unlike:
        return
    matched = len(wanted) - len(missing) - len(unlike)
    if missing:
        example = f"'{missing[0]}' is missing"
    else:
        key = unlike[0]
        example = f"'{key}' is {tuple(state[key].shape)}, not {tuple(wanted[key])}"
    raise ModelError(
        f"{checkpoint.file}: {matched} of the {len(wanted)} tensors of {name} match, {len(missing)} are missing and "
        f"{len(unlike)} have another shape ({example}); docs/models.md says which files fit"
    )


@cache
def say_once(line: str) -> None:
    """Log a line for the user once per process, however many networks a run builds."""
    logger.warning(line)


def _of_other_class_count(
    state: dict[str, Tensor], wanted: dict[str, torch.Size], unlike: list[str], num_classes: int
) -> set[str]:
    """Return the tensors that differ only in the number of classes, if all of them have the same other number."""
    apart = {
        key
        for key in unlike
        if wanted[key][0] == num_classes and state[key].ndim > 0 and state[key].shape[1:] == wanted[key][1:]
    }
    return apart if len({state[key].shape[0] for key in apart}) == 1 else set()

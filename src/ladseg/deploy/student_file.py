"""The delivered file: a safetensors file with a three-channel network and everything that its use requires."""

import copy
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from ladseg.deploy.student_header import StudentHeader, make_header, parse_header
from ladseg.errors import ModelError, first_words
from ladseg.files import remove_abandoned, write_atomically
from ladseg.models import Segmenter, build_model
from ladseg.results import STUDENT


def delivered_file(path: str | Path) -> Path:
    """Return the delivered file that a path names: the path itself, or ``student.safetensors`` in a folder.

    Raises:
        ModelError: The folder has no such file.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    if not (path / STUDENT).is_file():
        raise ModelError(f"{path}: a folder without {STUDENT}; give the folder of a finished run, or a file")
    return path / STUDENT


def save_student(path: Path, network: Segmenter, data: dict[str, Any]) -> None:
    """Write the network as it predicts, without its training-only heads and with adapters merged into the weights.

    The keys are the network's own, so a user's network loads its file with ``load_state_dict``.

    Args:
        path: The file.
        network: The network to deliver.
        data: The training data, as the attributes of :class:`TrainedOn` by name, with plain values.

    Raises:
        ModelError: ``data`` has no class names, or their or the colours' number differs from the network's classes.
        UserError: The file can't be written.
    """
    path = Path(path)
    merged = copy.deepcopy(network).merge()
    state = {name: value for name, value in tensors_of(merged).items() if not merged.is_training_only(name)}
    header = header_of(path, network, data)
    _delivered(header).core.load_state_dict(state)
    write_tensors(path, state, header.metadata())
    remove_abandoned(path.parent)


def tensors_of(network: Segmenter) -> dict[str, Tensor]:
    """Return a network's tensors in the form that safetensors takes, under the names of its ``core``."""
    # Tied weights share memory, which safetensors refuses, so they are copied.
    return {name: value.detach().cpu().contiguous().clone() for name, value in network.core.state_dict().items()}


def write_tensors(path: Path, state: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file that is complete or absent.

    Raises:
        UserError: The file can't be written.
    """
    # safetensors' save_file would create a file that only its owner may read.
    content = to_bytes(state, metadata)
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def header_of(path: Path, network: Segmenter, data: dict[str, Any]) -> StudentHeader:
    """Return the metadata for a network's file; arguments and errors are those of :func:`save_student`."""
    facts = {
        "model": network.name,
        "num_classes": network.num_classes,
        **{key: value for key, value in network.origin.items() if key != "name"},
        "mean": list(network.input_mean),
        "std": list(network.input_std),
        "align_corners": network.align_corners,
        "data": data,
    }
    return make_header(path, facts)


def load_student(path: str | Path, model: str | None = None) -> tuple[Segmenter, StudentHeader]:
    """Read a file that :func:`save_student` wrote.

    Args:
        path: The file, or a folder that holds it as ``student.safetensors``.
        model: The name ``package.module:Class`` of a network that is not ladseg's. The file names the code that builds
            its network, but code outside ladseg runs only if the caller names it too.

    Returns:
        The network in eval mode, and the file's metadata.

    Raises:
        ModelError: The file is missing, damaged or not written by ladseg, its weights don't fit or are not finite, or
            the caller did not name its network's code.
    """
    path = delivered_file(path)
    header = read_header(path)
    refuse_untrusted(path, header, model)
    state = read_weights(path)
    try:
        network = _delivered(header)
    except ModelError as error:
        raise ModelError(f"{path}: its network can't be built: {error}") from None
    take_from_header(network, header)
    wanted = network.core.state_dict()
    for name, value in state.items():
        # load_state_dict would round or cast silently.
        if name in wanted and value.is_floating_point() != wanted[name].is_floating_point():
            raise ModelError(f"{path}: '{name}' is {value.dtype}, but '{header.model}' has {wanted[name].dtype} there")
    try:
        network.core.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(f"{path}: does not fit '{header.model}': {first_words(error)}") from None
    return network.eval(), header


def take_from_header(network: Segmenter, header: StudentHeader) -> None:
    """Set a network's image normalisation and resizing of logits from its file's metadata."""
    network.upsample_with(header.align_corners)
    network.input_mean, network.input_std = header.mean, header.std


def refuse_untrusted(path: Path, header: StudentHeader, model: str | None, option: str = "--model") -> None:
    """Raise ModelError for a network in code that the caller did not name; ``option`` is the option to name it."""
    if ":" in header.model and model != header.model:
        raise ModelError(
            f"{path}: its network is '{header.model}', code that is not ladseg's; if you trust it, "
            f"add {option} {header.model}"
        )
    refuse_other_model(path, header, model, option)


def refuse_other_model(path: str | Path, header: StudentHeader, model: str | None, option: str = "--model") -> None:
    """Raise ModelError if the caller named another network than the file's, which it knows itself."""
    if model not in (None, header.model):
        raise ModelError(f"{path}: its network is '{header.model}', not '{model}'; leave {option} out")


def read_header(path: Path) -> StudentHeader:
    """Read the metadata of a delivered network's file; errors are those of :func:`load_student`."""
    return parse_header(path, read_metadata(path))


def read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a safetensors file.

    Raises:
        ModelError: The file is missing or not a safetensors file.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such weights file")
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path}: not a safetensors file ({first_words(error)}); give the student.safetensors of a run"
        ) from None


def is_trained(weights: str | None, model: str, num_classes: int) -> bool:
    """Return whether a recipe's weights are a delivered network of this model with this number of classes."""
    if weights is None:
        return False
    try:
        header = read_header(Path(weights))
    except ModelError:
        return False
    return (header.model, header.num_classes) == (model, num_classes)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a delivered file.

    Raises:
        ModelError: They can't be read, or one is not finite.
    """
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: its weights can't be read ({first_words(error)})") from None
    for name, value in state.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise ModelError(f"{path}: '{name}' holds NaN or infinity, so the network predicts nothing; train it again")
    return state


def _delivered(header: StudentHeader) -> Segmenter:
    """Build the structure of a network as it predicts."""
    with torch.random.fork_rng(devices=[]):
        return build_model(
            header.model,
            header.num_classes,
            aux=False,
            output_stride=header.output_stride,
            args=header.args,
            merged=True,
            image_channels=header.channels,
        )

"""The deliverable: one safetensors file that holds a three-channel network and all that is needed to use it."""

import copy
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from ladseg.errors import ModelError, first_words
from ladseg.files import write_atomically
from ladseg.models import Segmenter, build_model

FORMAT = "ladseg-student-1"


def save_student(path: Path, network: Segmenter, data: dict[str, Any]) -> None:
    """Write the network as it predicts: without its training-only heads, adapters merged into the weights.

    The keys are the network's own, so a user's network loads its file with ``load_state_dict``.

    Args:
        path: The file.
        network: What is delivered.
        data: What it was trained on, as plain values: ``class_names``, ``colors``, ``ignore_index``, ``label_map``, and
            ``recipe``, the data section.
    """
    merged = copy.deepcopy(network).merge()
    state = {
        # Tied weights are one tensor, and safetensors refuses the same memory twice.
        name: value.detach().cpu().contiguous().clone()
        for name, value in merged.core.state_dict().items()
        if not merged.is_training_only(name)
    }
    _delivered(network.origin, network.num_classes).core.load_state_dict(state)
    header = {
        "model": network.name,
        "num_classes": network.num_classes,
        **{key: value for key, value in network.origin.items() if key != "name"},
        "mean": list(network.input_mean),
        "std": list(network.input_std),
        "align_corners": network.align_corners,
        "data": data,
    }
    metadata = {"format": FORMAT, "ladseg": json.dumps(header)}
    write_atomically(path, lambda temporary: save_file(state, temporary, metadata))


def load_student(path: str | Path, model: str | None = None) -> tuple[Segmenter, dict[str, Any]]:
    """Read what :func:`save_student` wrote.

    Args:
        path: The file.
        model: The name ``package.module:Class`` of a network that is not ladseg's. A file says which code builds its
            network; code from elsewhere runs only if the caller names it too.

    Returns:
        The network in eval mode, and the header: ``mean``, ``std`` of 0..1 RGB, ``data`` and the rest.

    Raises:
        ModelError: No such file, not one of ours, or one of a network of other code that the caller did not name.
    """
    path = Path(path)
    header = read_header(path)
    if ":" in header["model"] and model != header["model"]:
        raise ModelError(
            f"{path}: its network is '{header['model']}', code that is not ladseg's; if you trust it, "
            f"add --model {header['model']}"
        )
    origin: dict[str, Any] = {
        "name": header["model"],
        **{key: header[key] for key in ("output_stride", "args") if key in header},
    }
    network = _delivered(origin, header["num_classes"])
    # Before files said so, every network was trained with aligned corners.
    network.align_corners = header.get("align_corners", True)
    try:
        network.core.load_state_dict(load_file(path))
    except RuntimeError as error:
        raise ModelError(f"{path}: does not fit '{header['model']}': {first_words(error)}") from None
    return network.eval(), header


def read_header(path: Path) -> dict[str, Any]:
    """What the file of a delivered network says of it; errors as for :func:`load_student`."""
    if not path.is_file():
        raise ModelError(f"{path}: no such weights file")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: not a safetensors file ({error}); give the student.safetensors of a run") from None
    if metadata.get("format") != FORMAT:
        raise ModelError(
            f"{path}: safetensors without ladseg's metadata, so its network is unknown; "
            "give the student.safetensors of a run"
        )
    header: dict[str, Any] = json.loads(metadata["ladseg"])
    return header


def is_trained(weights: str | None, model: str, num_classes: int) -> bool:
    """Whether a recipe's weights are those of a network of this model that was delivered for as many classes."""
    if weights is None:
        return False
    try:
        header = read_header(Path(weights))
    except ModelError:
        return False
    return (header["model"], header["num_classes"]) == (model, num_classes)


def _delivered(origin: dict[str, Any], num_classes: int) -> Segmenter:
    """The structure of a network as it predicts."""
    with torch.random.fork_rng(devices=[]):
        return build_model(num_classes=num_classes, aux=False, merged=True, **origin)

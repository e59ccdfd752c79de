"""The deliverable: one safetensors file that holds a three-channel network and all that is needed to use it."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from ladseg.errors import ModelError
from ladseg.files import write_atomically
from ladseg.models import Segmenter, build_model

FORMAT = "ladseg-student-1"


def save_student(path: Path, network: Segmenter, data: dict[str, Any]) -> None:
    """Write the network without its training-only heads.

    Args:
        path: The file.
        network: What is delivered.
        data: What it was trained on, as plain values: ``class_names``, ``colors``, ``ignore_index``, ``label_map``.
    """
    delivered = build_model(network.name, network.num_classes, aux=False, output_stride=network.output_stride)
    wanted = delivered.state_dict().keys()
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items() if name in wanted}
    delivered.load_state_dict(state)
    header = {
        "model": network.name,
        "num_classes": network.num_classes,
        "output_stride": network.output_stride,
        "mean": list(network.input_mean),
        "std": list(network.input_std),
        "data": data,
    }
    metadata = {"format": FORMAT, "ladseg": json.dumps(header)}
    write_atomically(path, lambda temporary: save_file(state, temporary, metadata))


def load_student(path: str | Path) -> tuple[Segmenter, dict[str, Any]]:
    """Read what :func:`save_student` wrote.

    Returns:
        The network in eval mode, and the header: ``mean``, ``std`` of 0..1 RGB, ``data`` and the rest.

    Raises:
        ModelError: No such file, or not one of ours.
    """
    path = Path(path)
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
    header = json.loads(metadata["ladseg"])
    network = build_model(header["model"], header["num_classes"], aux=False, output_stride=header["output_stride"])
    try:
        network.load_state_dict(load_file(path))
    except RuntimeError as error:
        raise ModelError(f"{path}: does not fit '{header['model']}': {' '.join(str(error).split())[:300]}") from None
    return network.eval(), header

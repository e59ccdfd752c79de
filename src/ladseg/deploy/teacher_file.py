"""The file of a trained teacher, from which further students are distilled without training it again."""

import copy
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from ladseg.deploy.student_file import (
    header_of,
    load_student,
    read_metadata,
    read_weights,
    refuse_untrusted,
    take_from_header,
    tensors_of,
    write_tensors,
)
from ladseg.deploy.student_header import FORMAT, TEACHER, StudentHeader, parse_header
from ladseg.errors import ModelError, first_words
from ladseg.models import build_model
from ladseg.objectives import LabelAssisted, Network, segmenter


@dataclass(frozen=True)
class NoiseSettings:
    """The label noise of a label-assisted teacher, as arguments of :class:`ladseg.LabelAssisted`."""

    alpha: float
    scale: float
    class_weights: Literal["random", "fixed", "none"]
    ignore: Literal["class", "zero"]
    input_layer: str | list[str] | None = None
    placebo: Literal["shuffled", "noise"] | None = None


def save_teacher(
    path: Path, teacher: Network, data: dict[str, Any], input_layer: str | list[str] | None = None
) -> None:
    """Write all weights of a teacher, training-only heads included, and the settings of its label noise.

    Args:
        path: The file.
        teacher: A trained teacher, label-assisted or classic.
        data: The training data, as for :func:`ladseg.deploy.student_file.save_student`.
        input_layer: The widened layers, if the recipe named them.
    """
    merged = copy.deepcopy(segmenter(teacher)).merge()
    noise = None
    if isinstance(teacher, LabelAssisted):
        own = teacher.noise
        noise = asdict(NoiseSettings(own.alpha, own.scale, own.class_weights, own.ignore, input_layer, teacher.placebo))
    header = header_of(path, merged, data)
    write_tensors(path, tensors_of(merged), header.metadata() | {"format": TEACHER, "noise": json.dumps(noise)})


def read_teacher_header(path: Path) -> tuple[StudentHeader, NoiseSettings | None]:
    """Return the metadata of a teacher's or a student's file, and the label noise; None for a classic network.

    Raises:
        ModelError: The file is missing, damaged or not written by ladseg.
    """
    metadata = read_metadata(path)
    header = parse_header(path, metadata, teacher=True)
    try:
        noise = json.loads(metadata.get("noise", "null"))
        return header, None if noise is None else NoiseSettings(**noise)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{path}: its label noise settings can't be read ({first_words(error)})") from None


def is_ladsegs(path: Path) -> bool:
    """Return whether a file is one that ladseg wrote of a network; a missing one counts, for its error says so.

    Raises:
        ModelError: It is named as a safetensors file and can't be read as one, by whichever library it was written.
    """
    if not path.is_file():
        return True
    try:
        return read_metadata(path).get("format") in (FORMAT, TEACHER)
    except ModelError:
        if path.suffix == ".safetensors":
            raise
        return False


def load_teacher(path: Path, model: str | None = None) -> Network:
    """Read a finished teacher: what :func:`save_teacher` wrote, or a delivered student as a classic teacher.

    Args:
        path: The file.
        model: As for :func:`ladseg.deploy.student_file.load_student`.

    Returns:
        The network in eval mode, for the classes that it was trained on.

    Raises:
        ModelError: As for :func:`ladseg.deploy.student_file.load_student`.
    """
    header, noise = read_teacher_header(path)
    if read_metadata(path).get("format") == FORMAT:
        return load_student(path, model)[0]
    refuse_untrusted(path, header, model)
    state = read_weights(path)
    try:
        with torch.random.fork_rng(devices=[]):
            network = build_model(
                header.model,
                header.num_classes,
                output_stride=header.output_stride,
                args=header.args,
                merged=True,
                image_channels=header.channels,
            )
            teacher: Network = network
            if noise is not None:
                teacher = LabelAssisted(network, header.num_classes, **asdict(noise))
        network.core.load_state_dict(state)
    except (ModelError, RuntimeError, ValueError) as error:
        raise ModelError(f"{path}: its network can't be built: {first_words(error)}") from None
    take_from_header(network, header)
    return teacher.eval()

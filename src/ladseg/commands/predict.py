"""Predict images and videos with a delivered network, and write masks and overlays."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ladseg.commands.inputs import Input, find_inputs
from ladseg.commands.overlays import mask_image, overlay
from ladseg.commands.video import VideoWriter, open_video
from ladseg.data.largest import as_large_as_memory
from ladseg.data.read import read_image
from ladseg.deploy.predictor import Student, load
from ladseg.errors import FileError
from ladseg.evaluation import WHOLE, Inference
from ladseg.files import write_atomically
from ladseg.progress import progress

MASKS, OVERLAYS, PROBABILITIES = "masks", "overlays", "probabilities"


def predict(
    weights: str,
    words: Sequence[str],
    out: Path,
    how: Inference = WHOLE,
    shares: bool = False,
    model: str | None = None,
    say: Callable[[str], None] = print,
) -> tuple[int, int]:
    """Write ``masks/NAME.png``, ``overlays/NAME.jpg`` and optionally ``probabilities/NAME.npz`` for every input.

    A video gives ``masks/NAME/000001.png`` and so on, and ``overlays/NAME.mp4``. A file that can't be read is reported
    and left out.

    Args:
        weights: The ``student.safetensors`` of a run.
        words: Files, folders and patterns; see :func:`ladseg.commands.inputs.find_inputs`.
        out: The output folder.
        how: How to predict.
        shares: Whether to write class probabilities of images too, as float16 ``probabilities`` (C, H, W) together with
            ``class_names``.
        model: The name of the network, if it is not one of ladseg's; see :func:`ladseg.load`.
        say: Receives a line for each file that is left out.

    Returns:
        The numbers of inputs that were predicted and left out.

    Raises:
        UserError: The weights can't be used, or an argument matches no file.
    """
    inputs = find_inputs(words)
    student = load(weights, model)
    left_out = 0
    for item in progress(inputs, len(inputs), "predicting", "files"):
        try:
            if item.is_video:
                _predict_video(student, item, out, how)
            else:
                _predict_image(student, item, out, how, shares)
        except FileError as error:
            say(f"left out: {error}")
            left_out += 1
    return len(inputs) - left_out, left_out


def _predict_image(student: Student, item: Input, out: Path, how: Inference, shares: bool) -> None:
    with as_large_as_memory() if how.window else nullcontext():
        image = read_image(item.path, student.value_range, student.header.channels)
    if shares:
        chances = student.probabilities(image, how)
        ids = chances.argmax(0)
        halves = chances.half().numpy()
        names = np.array(student.class_names)
        write_atomically(
            _file(out, PROBABILITIES, item, ".npz"),
            lambda temporary: np.savez_compressed(temporary, probabilities=halves, class_names=names),
        )
    else:
        ids = student.predict(image, how).to(torch.uint8)  # takes an eighth of the memory of int64
    write_atomically(_file(out, MASKS, item, ".png"), mask_image(ids, student.colors).save)
    blended = Image.fromarray(overlay(image, ids, student.colors))
    write_atomically(_file(out, OVERLAYS, item, ".jpg"), lambda temporary: blended.save(temporary, quality=90))


def _predict_video(student: Student, item: Input, out: Path, how: Inference) -> None:
    """Predict a video as a stream, one frame at a time."""
    if student.header.channels != 3:
        raise FileError(item.path, f"a video, but the network takes {student.header.channels} channels", "leave it out")

    def write(temporary: Path) -> None:
        with open_video(item.path) as (frames, rate, count), ExitStack() as stack:
            writer = None
            for number, frame in enumerate(progress(frames, count, item.path.name, "frames"), 1):
                image = torch.from_numpy(frame).permute(2, 0, 1)
                ids = student.predict(image, how)
                if writer is None:
                    writer = VideoWriter(temporary, rate, (frame.shape[0], frame.shape[1]))
                    stack.callback(writer.close)
                writer.write(overlay(image, ids, student.colors))
                mask = mask_image(ids, student.colors)
                write_atomically(_file(out, MASKS, item, "") / f"{number:06d}.png", mask.save)
            if writer is None:
                raise FileError(item.path, "a video without frames", "remove it")

    write_atomically(_file(out, OVERLAYS, item, ".mp4"), write)


def _file(out: Path, kind: str, item: Input, suffix: str) -> Path:
    return out / kind / item.name.parent / f"{item.name.name}{suffix}"

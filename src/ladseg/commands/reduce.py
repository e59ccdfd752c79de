"""Export a delivered network in int8 or float16, and measure the change in accuracy, size and speed."""

import math
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ladseg.commands.evaluate import data_for, measure, open_network
from ladseg.data import check_dataset, eval_loader, open_dataset
from ladseg.data.pairs import evenly_spread
from ladseg.deploy.export import export_student
from ladseg.deploy.exported_file import ExportedFile, open_exported
from ladseg.deploy.quantize import Int8Quantizer, search, write_fp16
from ladseg.deploy.student_file import delivered_file, read_header
from ladseg.errors import ModelError, UserError
from ladseg.files import write_atomically
from ladseg.measure.timing import in_turns
from ladseg.recipe import Data

Kind = Literal["int8", "fp16"]
# The most seconds to spend on timing.
PATIENCE = 20.0


@dataclass(frozen=True)
class Figures:
    """Accuracy, size and speed of a file.

    Attributes:
        mean_iou: mIoU on the validation images.
        bytes: Size of the file.
        seconds: Median time of one validation image in onnxruntime on one thread of this machine.
    """

    mean_iou: float
    bytes: int
    seconds: float


@dataclass(frozen=True)
class Reduced:
    """The result of :func:`export_reduced`.

    Attributes:
        path: The file.
        before: Figures of the float32 file.
        after: Figures of this file.
        layers: Number of layers with weights; 0 for fp16, which converts all layers.
        left_out: The layers that stay in floating point, with their sensitivities.
    """

    path: Path
    before: Figures
    after: Figures
    layers: int
    left_out: dict[str, float]


def export_reduced(
    weights: str | Path,
    kind: Kind,
    overrides: list[str],
    out: str | Path | None = None,
    max_loss: float = 1.0,
    images: int = 64,
    say: Callable[[str], None] = print,
    **options: Any,
) -> Reduced:
    """Write a delivered network as ONNX in int8 or float16.

    Args:
        weights: The ``student.safetensors`` of a run, or the run's folder.
        kind: ``int8`` or ``fp16``.
        overrides: ``--data.KEY VALUE`` arguments; the other keys are those of the network's training data. ``int8``
            takes ranges of activations from training images; both kinds are evaluated on the validation images.
        out: The file; None for ``student.int8.onnx`` or ``student.fp16.onnx`` beside the weights.
        max_loss: The most points of mIoU that the file may lose. To stay within it, ``int8`` leaves layers in floating
            point.
        images: The most training images to take ranges from.
        say: Receives lines about the progress.
        options: Further arguments of :func:`ladseg.deploy.export.export_student`.

    Raises:
        UserError: The weights or the data can't be used, or the file would lose more than ``max_loss``.
    """
    source = delivered_file(weights)
    path = Path(out) if out else source.with_suffix(f".{kind}.onnx")
    data = data_for(read_header(source), overrides, source)
    for warning in check_dataset(data, splits=("train", "val") if kind == "int8" else ("val",)):
        say(f"warning: {warning}")
    with tempfile.TemporaryDirectory(prefix="ladseg-") as name:
        folder = Path(name)
        full = folder / "float.onnx"
        export_student(source, "onnx", full, **options)
        opened = open_exported(full)
        shown = next(_images(opened, data, 1, "val"))
        best = _mean_iou(full, data)
        say(f"float32: {100 * best:.2f} % mIoU")
        attempts = _Attempts(folder, kind, best, max_loss, data, say)
        left_out: dict[str, float] = {}
        layers = 0
        if kind == "fp16":
            write_fp16(full, attempts.path)
            if not attempts.take():
                raise ModelError(f"fp16 loses {attempts.loss:.2f} points of mIoU; allow more with --max-loss")
        else:
            quantizer = Int8Quantizer(full, folder, partial(_images, opened, data, images))
            layers = len(quantizer.layers)
            left_out = _search(quantizer, attempts, say)
        seconds = _seconds({"before": full, "after": attempts.kept}, shown)
        before = Figures(best, full.stat().st_size, seconds["before"])
        after = Figures(attempts.mean_iou, attempts.kept.stat().st_size, seconds["after"])
        write_atomically(path, lambda temporary: shutil.copyfile(attempts.kept, temporary))
    return Reduced(path, before, after, layers, left_out)


class _Attempts:
    """Reduced files, written and measured one after the other; the last one within the allowed loss is kept.

    Args:
        folder: The folder of the files.
        kind: ``int8`` or ``fp16``.
        best: mIoU of the float32 file, in 0..1.
        max_loss: The most points of mIoU that a kept file may lose.
        data: The data set that they are measured on.
        say: Receives a line about each file.

    Attributes:
        path: Where to write the next file.
        kept: The last good file.
        mean_iou: mIoU of the kept file, in 0..1.
        loss: Points of mIoU that the latest file lost.
    """

    def __init__(
        self, folder: Path, kind: Kind, best: float, max_loss: float, data: Data, say: Callable[[str], None]
    ) -> None:
        self.path, self.kept = folder / "attempt.onnx", folder / "kept.onnx"
        self.mean_iou = self.loss = math.nan
        self._kind, self._best, self._max_loss, self._data, self._say = kind, best, max_loss, data, say

    def take(self) -> bool:
        """Measure the file at ``path``, keep it if it is good, and return whether it is good."""
        mean_iou = _mean_iou(self.path, self._data)
        self._say(f"{self._kind}: {100 * mean_iou:.2f} % mIoU")
        self.loss = 100 * (self._best - mean_iou)
        # Negated, so that NaN is refused.
        if not self.loss <= self._max_loss:
            return False
        os.replace(self.path, self.kept)
        self.mean_iou = mean_iou
        return True


def _search(quantizer: Int8Quantizer, attempts: _Attempts, say: Callable[[str], None]) -> dict[str, float]:
    """Keep the good file with the fewest layers left out, and return these layers with their sensitivities."""

    def attempt(left_out: list[str]) -> bool:
        quantizer.write(attempts.path, left_out)
        return attempts.take()

    if attempt([]):
        return {}
    say(f"measuring what each of {len(quantizer.layers)} layers costs")
    sensitivities = quantizer.sensitivities()
    return {layer: sensitivities[layer] for layer in search(list(sensitivities), attempt, say)}


def _mean_iou(file: Path, data: Data) -> float:
    return measure(str(file), open_network(str(file)), data).mean_iou


def _images(opened: ExportedFile, data: Data, count: int, split: str = "train") -> Iterator[np.ndarray]:
    """Yield images spread evenly over a split, in the form that the file takes."""
    dataset = open_dataset(data, split)
    chosen = evenly_spread(len(dataset), count)
    for batch in islice(eval_loader(dataset, mean=opened.mean, std=opened.std, indices=chosen), count):
        image = batch["image"]
        if not opened.sizes.take(image.shape[-2], image.shape[-1]):
            raise UserError(
                f"the file takes heights and widths: {opened.sizes}; images of {split} are "
                f"{image.shape[-2]}x{image.shape[-1]}; leave --size out or give theirs"
            )
        yield image.contiguous().numpy()


def _seconds(files: dict[str, Path], image: np.ndarray) -> dict[str, float]:
    batch = torch.from_numpy(image)
    runs = {key: partial(open_exported(file, threads=1).run, batch) for key, file in files.items()}
    times = in_turns(runs, torch.device("cpu"), patience=PATIENCE)
    return {key: statistics.median(seconds) for key, seconds in times.items()}

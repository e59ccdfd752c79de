"""What all parts of the laboratory agree on: settings, constants, and the folder of results."""

from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

CLASSES, IGNORE = 11, 255
BATCH = 8
WEIGHT_DECAY, WARMUP = 0.01, 20
MEAN = torch.tensor([0.5, 0.5, 0.5])
TEACHER_SEED, TEACHER_UNITS, LONG_UNITS = 10, 600, 6000
FORWARD = 1 / 3
STRONG_FORWARD = FORWARD * 78 / 106  # by multiply-accumulates; on a CPU, depthwise convolutions take thrice the time
OCR_PASS = 1.08  # with OCRNet's context part once more; by multiply-accumulates, 25 of 300 million an image
BLIND = ("self", "plain")  # teachers that see no label
CALIBRATION = 10  # steps over which a term's weight is measured
RARE = torch.tensor([2, 6, 7, 9, 10])


class Setting(NamedTuple):
    """A data set and its budget.

    Attributes:
        folder: Below HOME.
        steps: Of the plain student.
        net: ``psp`` or ``ocr`` on a small backbone from scratch; ``pyramid``: :class:`Pyramid` from ImageNet.
        crop: Height and width in pixels.
        lr: The learning rate's peak.
    """

    folder: str
    steps: int
    net: Literal["psp", "ocr", "pyramid"] = "psp"
    crop: tuple[int, int] = (80, 112)
    lr: float = 0.004


SETTINGS = {
    "s40": Setting("camvid-40", 1500),
    "s40-ocr": Setting("camvid-40", 1500, "ocr"),
    "s367": Setting("camvid-quarter", 4000),
    "s40-strong": Setting("camvid-40", 1500, "pyramid", lr=0.002),  # the @strong teachers of s40, and of s367
    "s367-strong": Setting("camvid-quarter", 4000, "pyramid", lr=0.002),
    "half": Setting("camvid-half", 2000, "pyramid", (120, 160), 0.002),
    "half-40": Setting("camvid-half-40", 1500, "pyramid", (120, 160), 0.002),
    "half-long": Setting("camvid-half", 4600, "pyramid", (120, 160), 0.002),
}
SHARED = 0.7  # the part of the plain steps that all candidates of a seed have in common

Batch = dict[str, Tensor]
Terms = dict[str, tuple[Tensor, float | None]]

_home = Path()


def use_home(folder: Path) -> None:
    """Take data from this folder, and leave results there."""
    global _home
    _home = folder
    (folder / "w").mkdir(parents=True, exist_ok=True)


def home() -> Path:
    """The folder of data and results."""
    return _home


def weights_file(name: str, setting: str, seed: int) -> Path:
    return home() / "w" / f"{setting}-{name}-{seed}.pt"

"""Count the multiply-accumulates of the networks of the paper's tables, into src/ladseg/reproduce/macs.csv.

Networks and images have shapes and no values (device ``meta``), so counting takes seconds and no memory.
"""

import csv
import sys
from pathlib import Path

import torch

import ladseg.reproduce
from ladseg.measure.mac_counter import count_macs
from ladseg.models import build_model
from ladseg.models.segmenter import Segmenter
from ladseg.reproduce.estimate import needed_macs
from ladseg.reproduce.experiments import experiments

FILE = Path(ladseg.reproduce.__path__[0]) / "macs.csv"
# Batch norm over one position, as after global pooling, needs two images.
IMAGES = 2


def count(network: str, classes: int, height: int, width: int) -> tuple[int, int]:
    """Return the multiply-accumulates of one image in a training step, and in a prediction."""
    with torch.device("meta"):
        built = build_model(network, classes)
        images = torch.empty(IMAGES, 3, height, width)
    train = count_macs(lambda: _step(built.train(), images)) // IMAGES
    with torch.no_grad():
        predict = count_macs(lambda: built.eval()(images)) // IMAGES
    return train, predict


def _step(network: Segmenter, images: torch.Tensor) -> None:
    output = network(images)
    maps = [output.logits, *output.aux, *([] if output.boundary is None else [output.boundary])]
    torch.stack([scores.sum() for scores in maps]).sum().backward()


def main() -> None:
    with FILE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["network", "classes", "height", "width", "train", "predict"])
        for key in needed_macs(list(experiments().values())):
            figures = count(*key)
            print(*key, *figures, file=sys.stderr)
            writer.writerow([*key, *figures])


if __name__ == "__main__":
    main()

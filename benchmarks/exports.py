"""Export every network of ``ladseg models`` to every format; a table of the largest difference that was measured.

    python benchmarks/exports.py [NAME ...]

Weights are drawn, not trained, batch norms given statistics; 19 classes.
"""

import logging
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from ladseg import build_model, list_models
from ladseg.deploy.export import export_student
from ladseg.deploy.student_file import save_student
from ladseg.errors import ModelError

DATA = {"class_names": [f"class {i}" for i in range(19)], "colors": [[i, i, i] for i in range(19)]}
FORMATS = ("onnx", "openvino", "torch")


def draw(name: str, path: Path) -> None:
    torch.manual_seed(0)
    network = build_model(name, 19, aux=False, merged=True).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.2)
    # OCRNet weighs positions by a softmax over its first guess, of hundreds while untrained: nothing to compare then.
    if hasattr(network, "guess"):
        network.guess.classifier.weight.data.mul_(0.02)
    save_student(path, network, DATA)


def main(names: list[str]) -> None:
    logging.disable(logging.WARNING)
    print("| network | sizes | " + " | ".join(f"{to}: difference | s" for to in FORMATS) + " |")
    print("|---" * (2 + 2 * len(FORMATS)) + "|")
    for name in names or list_models():
        with TemporaryDirectory() as folder:
            weights = Path(folder) / "student.safetensors"
            draw(name, weights)
            cells, sizes = [], set()
            for to in FORMATS:
                start = time.perf_counter()
                try:
                    exported = export_student(weights, to)
                except ModelError as error:
                    cells += [str(error), ""]
                    continue
                sizes.add(str(exported.sizes))
                worst = max(measured.difference for measured in exported.measured)
                cells += [f"{worst:.0e}", f"{time.perf_counter() - start:.0f}"]
            print(f"| `{name}` | {'; '.join(sorted(sizes))} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

"""What each method adds to a student's step, counted at Table 1's setting: arithmetic, memory and parameters.

    OMP_NUM_THREADS=1 python benchmarks/distiller_costs.py [METHOD ...]

Maps of random numbers, as DeepLabV3-R18 and DeepLabV3-R101 give them for crops of 512x1024 and 19 classes; forward and
backward of the method's own terms, networks left out. Arithmetic is for a batch of 16, found from 2 and 4 images, as
some of it grows with the square of the batch; memory is measured with 2 images.
"""

import sys

import torch
from rich.console import Console
from rich.table import Table

from ladseg import SegmentationOutput
from ladseg.distillation_methods import METHODS
from ladseg.distillers import Distiller, build_distiller
from ladseg.measure.mac_counter import count_macs
from ladseg.measure.peak_memory import added_by
from ladseg.recipe import Distill

CLASSES, SIZE, BATCH = 19, (64, 128), 16


def outputs(images: int, head: int, backbone: int, trained: bool) -> SegmentationOutput:
    def some(width: int) -> torch.Tensor:
        return torch.randn(images, width, *SIZE).requires_grad_(trained)

    return SegmentationOutput(some(CLASSES), {"head": some(head), "backbone": some(backbone)}, (some(CLASSES),))


class Step:
    """Forward and backward of a method's terms on some images."""

    def __init__(self, distiller: Distiller, images: int) -> None:
        self.distiller = distiller
        self.student, self.teacher = outputs(images, 128, 512, True), outputs(images, 256, 2048, False)
        coarse = torch.randint(CLASSES, (images, 16, 32), dtype=torch.uint8)
        self.label = coarse.repeat_interleave(32, 1).repeat_interleave(32, 2).long()

    def __call__(self) -> None:
        terms = self.distiller(self.student, self.teacher, self.label)
        sum(self.distiller.terms[name] * term for name, term in terms.items()).backward()  # type: ignore[union-attr]


def main() -> None:
    table = Table(title=f"an image of a batch of {BATCH}")
    for head in ("method", "GMACs", "MB", "parameters trained", "MB remembered"):
        table.add_column(head, justify="left" if head == "method" else "right")
    for name in sys.argv[1:] or [name for name in METHODS if name != "none"]:
        distiller = build_distiller(
            Distill(method=name), outputs(1, 128, 512, False), outputs(1, 256, 2048, False)
        ).train()
        two, four = (count_macs(Step(distiller, images)) for images in (2, 4))
        square = (four - 2 * two) / 8
        memory = added_by(Step(distiller, 2), torch.device("cpu"))
        held = sum(value.numel() * value.element_size() for value in distiller.buffers())
        table.add_row(
            name,
            f"{(two / 2 + (BATCH - 2) * square) / 1e9:.2f}",
            "" if memory is None else f"{memory / 2e6:.0f}",
            f"{sum(p.numel() for p in distiller.parameters() if p.requires_grad):,}",
            f"{held / 1e6:.0f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()

"""No distillation: the student learns from the label alone."""

from torch import Tensor

from ladseg.distillers.base import Distiller
from ladseg.outputs import SegmentationOutput


class NoDistillation(Distiller):
    """Adds no term."""

    def __init__(self) -> None:
        super().__init__({})

    def forward(self, student: SegmentationOutput, teacher: SegmentationOutput, label: Tensor) -> dict[str, Tensor]:
        return {}

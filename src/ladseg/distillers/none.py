"""No distillation: the student learns from the label alone."""

from torch import Tensor, nn

from ladseg.outputs import SegmentationOutput


class NoDistillation(nn.Module):
    """Adds no term."""

    terms: frozenset[str] = frozenset()

    def forward(self, student: SegmentationOutput, teacher: SegmentationOutput, label: Tensor) -> dict[str, Tensor]:
        return {}

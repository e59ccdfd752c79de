"""What every distiller is."""

from torch import Tensor, nn

from ladseg.outputs import SegmentationOutput


class Distiller(nn.Module):
    """How a student listens to a teacher, whoever the teacher is and however it was trained.

    Args:
        terms: Weight of each term that a forward pass gives, the one that the method is named for first. The loop
            refuses to train without one of them.

    Attributes:
        reads_aux: Whether it reads the class scores of the teacher's training-only heads, which run for it then.
    """

    reads_aux = False

    def __init__(self, terms: dict[str, float]) -> None:
        super().__init__()
        self.terms = terms

    def forward(self, student: SegmentationOutput, teacher: SegmentationOutput, label: Tensor) -> dict[str, Tensor]:
        """Named float32 scalars, unweighted; ``label`` is ``(N, H, W)`` int64."""
        raise NotImplementedError

    def first_stage(self) -> nn.Module | None:
        """A part that is trained on the frozen teacher before the student's training, and then stays as it is.

        It takes the teacher's output, and gives an output to be supervised by the label and the terms that its own
        ``terms`` names.
        """
        return None

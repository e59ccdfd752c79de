"""The base class of all distillers, their combination, and the one that adds no loss."""

from collections.abc import Sequence

from torch import Tensor, nn

from ladseg.errors import RecipeError
from ladseg.outputs import SegmentationOutput


class Distiller(nn.Module):
    """Computes the loss terms by which a student imitates a teacher, whatever the teacher is and how it was trained.

    Args:
        terms: The weight of each loss term that the forward pass returns, the method's own term first. The training
            loop stops with an error if a step lacks one of them.

    Attributes:
        reads_aux: Whether it reads the teacher's auxiliary logits, so that the teacher's training-only heads must run.
    """

    reads_aux = False

    def __init__(self, terms: dict[str, float]) -> None:
        super().__init__()
        self.terms = terms

    def forward(self, student: SegmentationOutput, teacher: SegmentationOutput, label: Tensor) -> dict[str, Tensor]:
        """Return the loss terms by name, unweighted.

        Args:
            student: The student's output.
            teacher: The teacher's output for the same images, which carries no gradient.
            label: ``(N, H, W)`` int64 at the images' size; 255 is ignored.

        Returns:
            A float32 scalar for each name in ``terms``.
        """
        raise NotImplementedError

    def first_stage(self) -> nn.Module | None:
        """Return the part that is trained on the frozen teacher first and stays frozen in the student's training.

        It maps the teacher's output to an output that the label supervises, and to the extra loss terms that its own
        ``terms`` names. Its ``train_mode`` tells whether the teacher is in train mode during this stage.
        """
        return None


class Combined(Distiller):
    """Return the loss terms of several distillers.

    Args:
        parts: The distillers.

    Raises:
        RecipeError: Two of them give a term of the same name.
    """

    def __init__(self, parts: Sequence[Distiller]) -> None:
        super().__init__({})
        self.parts = nn.ModuleList(parts)
        self.reads_aux = any(part.reads_aux for part in parts)
        for part in parts:
            twice = self.terms.keys() & part.terms.keys()
            if twice:
                raise RecipeError(f"distill: two of the methods give the term '{min(twice)}'; keep one of them")
            self.terms |= part.terms

    def forward(self, student: SegmentationOutput, teacher: SegmentationOutput, label: Tensor) -> dict[str, Tensor]:
        return {name: term for part in self.parts for name, term in part(student, teacher, label).items()}

    def first_stage(self) -> nn.Module | None:
        stages = (part.first_stage() for part in self.parts if isinstance(part, Distiller))
        return next((stage for stage in stages if stage is not None), None)


class NoDistillation(Distiller):
    """Add no loss term: the student learns from the label alone."""

    def __init__(self) -> None:
        super().__init__({})

    def forward(self, student: SegmentationOutput, teacher: SegmentationOutput, label: Tensor) -> dict[str, Tensor]:
        return {}

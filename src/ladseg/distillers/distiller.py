"""What every distiller is, several of them as one, and the one that does nothing."""

from collections.abc import Sequence

from torch import Tensor, nn

from ladseg.errors import RecipeError
from ladseg.outputs import SegmentationOutput


class Distiller(nn.Module):
    """The loss terms by which a student imitates a teacher, whichever network that is and however it was trained.

    Args:
        terms: The weight of each loss term that a forward pass gives, the one that the method is named for first. The
            training loop stops with an error if one of them is missing from a step.

    Attributes:
        reads_aux: Whether it reads the teacher's auxiliary logits; the teacher's training-only heads run for it then.
    """

    reads_aux = False

    def __init__(self, terms: dict[str, float]) -> None:
        super().__init__()
        self.terms = terms

    def forward(self, student: SegmentationOutput, teacher: SegmentationOutput, label: Tensor) -> dict[str, Tensor]:
        """Return the loss terms by name, unweighted.

        Args:
            student: The student's output.
            teacher: The teacher's output for the same images, without gradient.
            label: ``(N, H, W)`` int64 at the images' size; 255 is ignored.

        Returns:
            Float32 scalars under the names of ``terms``.
        """
        raise NotImplementedError

    def first_stage(self) -> nn.Module | None:
        """Return the part that is trained on the frozen teacher before the student's training, and is frozen then.

        It takes the teacher's output, and returns an output to be supervised by the label, with the extra loss terms
        that its own ``terms`` names. Its ``train_mode`` says whether the teacher is in train mode meanwhile.
        """
        return None


class Combined(Distiller):
    """Combined distillers at once: it gives the terms of all.

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

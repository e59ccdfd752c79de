"""Several distillers at once."""

from collections.abc import Sequence

from torch import Tensor, nn

from ladseg.distillers.base import Distiller
from ladseg.errors import RecipeError
from ladseg.outputs import SegmentationOutput


class Several(Distiller):
    """The terms of all parts.

    Args:
        parts: The distillers.

    Raises:
        RecipeError: Two of them give a term of one name.
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

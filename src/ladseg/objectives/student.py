"""Training the student from a frozen teacher, Eq. 8."""

import torch
from torch import Tensor, nn

from ladseg.distillers import Distiller
from ladseg.objectives.label_assisted import LabelAssisted
from ladseg.objectives.noise_draws import noise_generators
from ladseg.objectives.supervision import supervised_terms, weighted
from ladseg.outputs import SegmentationOutput


class StudentObjective(nn.Module):
    """``L_S = L_seg(O_S, Y) + beta * L_kd(O_S, O_T)``.

    Args:
        student: The three-channel network to make better.
        teacher: A label-assisted or a classic network. It is frozen and put in eval mode for good.
        distiller: From :mod:`ladseg.distillers`.
        weight: Beta, the factor on every term of the distiller; None takes each one's own from ``distiller.terms``.
        aux_weight: Weight of the student's training-only heads.
        teacher_input: Scale and offset ``(3,)`` that turn an image normalised for the student into one normalised for
            the teacher; None where both are the same.
    """

    # Not trained here: the loop keeps it out of checkpoints.
    frozen = ("teacher",)

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        distiller: Distiller,
        weight: float | None = None,
        aux_weight: float = 0.4,
        teacher_input: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.student = student
        self.teacher = teacher.requires_grad_(False).eval()
        self.distiller = distiller
        self.weight = weight
        self.aux_weight = aux_weight
        self.teacher_input = teacher_input
        # A distillation loss that is silently not applied is the worst kind of failure.
        self.expected_terms = {"seg"} | set(distiller.terms)

    def train(self, mode: bool = True) -> "StudentObjective":
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        student = SegmentationOutput.of(self.student(batch["image"]))
        label = batch["label"].long()
        terms = supervised_terms(student, label)
        teacher = self._teach({**batch, "label": label})
        # Distillation is computed in float32 whatever the networks run in: matrix products would be cast down again.
        with torch.autocast(label.device.type, enabled=False):
            distilled = self.distiller(student.map(Tensor.float), teacher.map(Tensor.float), label)
        weights = self.distiller.terms if self.weight is None else dict.fromkeys(distilled, self.weight)
        return weighted(terms | distilled, {"aux": self.aux_weight} | weights)

    @torch.no_grad()
    def _teach(self, batch: dict[str, Tensor]) -> SegmentationOutput:
        image = batch["image"]
        if self.teacher_input is not None:
            scale, offset = (value.to(image).view(1, 3, 1, 1) for value in self.teacher_input)
            image = image * scale + offset
        if isinstance(self.teacher, LabelAssisted):
            return self.teacher(image, batch["label"], noise_generators(batch, 1))
        return SegmentationOutput.of(self.teacher(image))

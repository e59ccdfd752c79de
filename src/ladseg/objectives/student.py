"""Training the student from a frozen teacher, Eq. 8."""

import torch
from torch import Tensor, nn

from ladseg.distillers import Distiller
from ladseg.models import Segmenter
from ladseg.objectives.label_assisted import run_network
from ladseg.objectives.supervision import supervised_terms, weighted
from ladseg.objectives.teaching import FrozenTeacherObjective


class StudentObjective(FrozenTeacherObjective):
    """``L_S = L_seg(O_S, Y) + beta * L_kd(O_S, O_T)``.

    Args:
        student: The three-channel network to make better.
        teacher: A label-assisted or a classic network.
        distiller: From :mod:`ladseg.distillers`.
        weight: Beta, the factor on every term of the distiller; None takes each one's own from ``distiller.terms``.
        aux_weight: Weight of the student's training-only heads.
        teacher_input: As for :class:`FrozenTeacherObjective`.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        distiller: Distiller,
        weight: float | None = None,
        aux_weight: float = 0.4,
        teacher_input: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__(teacher, teacher_input)
        for part in teacher.modules():
            if isinstance(part, Segmenter):
                part.aux_in_eval = distiller.reads_aux
        self.student = student
        self.distiller = distiller
        self.weight = weight
        self.aux_weight = aux_weight
        # A distillation loss that is silently not applied is the worst kind of failure.
        self.expected_terms = {"seg"} | set(distiller.terms)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        student = run_network(self.student, batch["image"])
        label = batch["label"].long()
        terms = supervised_terms(student, label)
        teacher = self.teach(batch["image"], label, batch)
        # Distillation is computed in float32 whatever the networks run in: matrix products would be cast down again.
        with torch.autocast(label.device.type, enabled=False):
            distilled = self.distiller(student.map(Tensor.float), teacher, label)
        weights = self.distiller.terms if self.weight is None else dict.fromkeys(distilled, self.weight)
        return weighted(terms | distilled, {"aux": self.aux_weight} | weights)

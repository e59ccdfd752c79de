"""Training what a distiller learns of the frozen teacher before the student's training."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from ladseg.objectives.supervision import supervised_terms, weighted
from ladseg.objectives.teaching import FrozenTeacherObjective


class FirstStageObjective(FrozenTeacherObjective):
    """The class loss of what the part makes of the teacher's output, and the part's own terms.

    Args:
        teacher: The trained teacher.
        part: A distiller's ``first_stage``: takes the teacher's output, gives an output to be supervised by the label
            and the terms that its ``terms`` names. Its ``train_mode`` says whether the teacher is in train mode
            meanwhile.
        teacher_input: As for :class:`FrozenTeacherObjective`.
    """

    def __init__(self, teacher: nn.Module, part: nn.Module, teacher_input: tuple[Tensor, Tensor] | None = None) -> None:
        super().__init__(teacher, teacher_input)
        self.part = part.requires_grad_(True)
        self.expected_terms = {"seg"} | set(part.terms)  # type: ignore[arg-type]

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        label = batch["label"].long()
        with train_mode(self.teacher) if self.part.train_mode else nullcontext():
            teacher = self.teach(batch["image"], label, batch)
        with torch.autocast(label.device.type, enabled=False):
            output, terms = self.part(teacher)
        return weighted(supervised_terms(output, label) | terms, {})


@contextmanager
def train_mode(network: nn.Module) -> Iterator[None]:
    """Put a frozen network in train mode: dropout is active, batch norm uses the batch's own statistics.

    Its running statistics stay as they are, so that it predicts afterwards what it predicted before.
    """
    norms = [module for module in network.modules() if getattr(module, "track_running_stats", False)]
    network.train()
    for norm in norms:
        norm.track_running_stats = False  # type: ignore[assignment]
    try:
        yield
    finally:
        network.eval()
        for norm in norms:
            norm.track_running_stats = True  # type: ignore[assignment]

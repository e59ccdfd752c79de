"""A student that teaches itself: the control of every distilled student that costs no teacher."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from ladseg.distillers import Distiller
from ladseg.objectives.student import StudentObjective
from ladseg.outputs import SegmentationOutput


class SnapshotObjective(StudentObjective):
    """Eq. 8 with a teacher that is the student itself as it was after ``start`` steps; the plain loss until then.

    Args:
        student: The network to make more accurate.
        distiller: From :mod:`ladseg.distillers`, without a first stage.
        start: Steps of plain training.
        arguments: The others of :class:`StudentObjective`.

    Source:
        Yang et al., "Snapshot Distillation: Teacher-Student Optimization in One Generation", CVPR 2019.
    """

    # The snapshot is found in training, so that it belongs into its checkpoints.
    frozen = ()

    def __init__(self, student: nn.Module, distiller: Distiller, start: int, **arguments: Any) -> None:
        super().__init__(student, copy.deepcopy(student), distiller, **arguments)
        self.start = start
        self.teaches = True

    @torch.no_grad()
    def before_step(self, step: int, logged: bool) -> None:
        """Take the snapshot when its step has come; else as :meth:`StudentObjective.before_step`."""
        super().before_step(step, logged)
        self.teaches = step >= self.start
        if step == self.start:
            self.teacher.load_state_dict(self.student.state_dict())

    def distilled(self, student: SegmentationOutput, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.teaches:
            return super().distilled(student, batch)
        return {name: torch.zeros((), device=batch["image"].device) for name in self.distiller.terms}

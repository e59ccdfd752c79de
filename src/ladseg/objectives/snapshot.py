"""A student that teaches itself: the control of every distilled student that costs no teacher."""

import copy
from typing import Any

import torch
from torch import nn

from ladseg.distillers import Distiller
from ladseg.objectives.student import StudentObjective


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
        super().__init__(student, copy.deepcopy(student), distiller, start=start, **arguments)

    @torch.no_grad()
    def before_step(self, step: int, logged: bool) -> None:
        """Take the snapshot when its step has come; else as :meth:`StudentObjective.before_step`."""
        super().before_step(step, logged)
        if step == self.start:
            self.teacher.load_state_dict(self.student.state_dict())

"""What a frozen teacher says to a batch."""

import torch
from torch import Tensor, nn

from ladseg.objectives.label_assisted import LabelAssisted, run_network
from ladseg.objectives.noise_draws import noise_generators
from ladseg.outputs import SegmentationOutput


class FrozenTeacherObjective(nn.Module):
    """An objective that has a teacher, which it does not train.

    Args:
        teacher: A label-assisted or a classic network. It is frozen and put in eval mode for good.
        teacher_input: Scale and offset ``(3,)`` that turn an image normalised for the student into one normalised for
            the teacher; None where both are the same.
    """

    # Not trained here: the loop keeps it out of checkpoints.
    frozen = ("teacher",)

    def __init__(self, teacher: nn.Module, teacher_input: tuple[Tensor, Tensor] | None) -> None:
        super().__init__()
        self.teacher = teacher.requires_grad_(False).eval()
        self.teacher_input = teacher_input

    def train(self, mode: bool = True) -> "FrozenTeacherObjective":
        super().train(mode)
        self.teacher.eval()
        return self

    @torch.no_grad()
    def teach(self, image: Tensor, label: Tensor, batch: dict[str, Tensor]) -> SegmentationOutput:
        """The teacher's output for images ``(N, 3, H, W)`` and labels ``(N, H, W)`` int64 of a batch, in float32."""
        if self.teacher_input is not None:
            scale, offset = (value.to(image).view(1, 3, 1, 1) for value in self.teacher_input)
            image = image * scale + offset
        if isinstance(self.teacher, LabelAssisted):
            output = self.teacher(image, label, noise_generators({**batch, "label": label}, 1))
        else:
            output = run_network(self.teacher, image)
        return output.map(Tensor.float)

"""The networks and batches that the benchmark measures."""

from dataclasses import dataclass

import torch

from ladseg.recipe import Recipe, Schedule, StudentSettings
from ladseg.runs.networks import build_teacher
from ladseg.runs.trainings import Training, baseline_training, student_training, teacher_training

DEFAULT_NETWORKS = ("pspnet_r18", "deeplabv3_r18", "stdc1", "ocrnet_w18s", "segformer_b0")


@dataclass(frozen=True)
class Setting:
    """Networks and batches.

    Attributes:
        device: The device to measure.
        networks: Names as for :func:`ladseg.build_model`; parts that need one network take the first.
        size: Height and width of the images.
        batch_size: Number of images of a training step, at least two because of batch norm.
        num_classes: Number of classes.
    """

    device: torch.device
    networks: tuple[str, ...] = DEFAULT_NETWORKS
    size: tuple[int, int] = (240, 320)
    batch_size: int = 2
    num_classes: int = 19

    def recipe(self, network: str) -> Recipe:
        """Return a recipe with this network and defaults otherwise."""
        return Recipe(
            student=StudentSettings(model=network), schedule=Schedule(crop=self.size, batch_size=self.batch_size)
        )

    def trainings(self, network: str) -> dict[str, Training]:
        """Return the three trainings of a LAD run, ``plain``, ``teacher`` and ``student``, with random weights."""
        recipe = self.recipe(network)
        teacher = teacher_training(recipe, self.num_classes, None)
        # The student's training freezes its teacher, so it gets another one.
        frozen = build_teacher(recipe, self.num_classes, None)
        return {
            "plain": baseline_training(recipe, self.num_classes),
            "teacher": teacher,
            "student": student_training(recipe, self.num_classes, None, frozen),
        }

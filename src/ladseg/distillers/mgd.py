"""Masked generative distillation.

Source: Yang et al., "Masked Generative Distillation", ECCV 2022, Eq. 4 and 5, with the settings of the authors' code
for segmentation.
"""

from torch import Tensor, nn

from ladseg.distillation_methods import default_weights
from ladseg.distillers.alignment import Projector, align_sizes, feature_map
from ladseg.distillers.cwd import CWD
from ladseg.distillers.distiller import Combined, Distiller
from ladseg.distillers.gather import random_for_images
from ladseg.outputs import SegmentationOutput


class GeneratedFeatures(Distiller):
    """Generate the teacher's feature map from the student's, with random positions masked out.

    The loss is ``sum_{c,p} (T - G(M * project(S)))^2``, a mean over images. M is 0 at a random share of positions,
    drawn for each image and step, and G is two 3x3 convolutions with a ReLU between them. G and the projector are
    trained, and dropped after training.

    Args:
        student_width: Channels of the student's map.
        teacher_width: Channels of the teacher's map.
        layer: The feature map to read: ``backbone``, its last one, or ``head``, before the classifier.
        masked: Share of masked positions, 0 to 1.
    """

    def __init__(self, student_width: int, teacher_width: int, layer: str = "backbone", masked: float = 0.75) -> None:
        super().__init__(default_weights("mgd"))
        self.projector = Projector(student_width, teacher_width)
        self.generation = nn.Sequential(
            nn.Conv2d(teacher_width, teacher_width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(teacher_width, teacher_width, 3, padding=1),
        )
        self.layer, self.masked = layer, masked

    def forward(self, student: SegmentationOutput, teacher: SegmentationOutput, label: Tensor) -> dict[str, Tensor]:
        aligned = self.projector(feature_map(student, self.layer))
        # The training loop seeds torch's global generator in every step, for dropout and for this draw.
        kept = random_for_images(len(aligned), 1, *aligned.shape[-2:], device=aligned.device) >= self.masked
        generated, target = align_sizes(self.generation(aligned * kept), feature_map(teacher, self.layer))
        return {"mgd": (generated - target).square().sum() / len(target)}


class MGD(Combined):
    """Combine :class:`GeneratedFeatures` and CWD of the logits.

    Args:
        student_width: As for :class:`GeneratedFeatures`.
        teacher_width: As for :class:`GeneratedFeatures`.
        tau: Temperature of CWD.
        layer: As for :class:`GeneratedFeatures`.
        masked: As for :class:`GeneratedFeatures`.
    """

    def __init__(
        self,
        student_width: int,
        teacher_width: int,
        tau: float = 4.0,
        layer: str = "backbone",
        masked: float = 0.75,
    ) -> None:
        super().__init__([GeneratedFeatures(student_width, teacher_width, layer, masked), CWD(tau)])

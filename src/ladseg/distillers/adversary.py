"""The adversarial term of SKD, IFVD and CWD: a discriminator tells the teacher's logits from the student's.

Source: Liu et al., "Structured Knowledge Distillation for Dense Prediction", TPAMI 2020, section 3.3, with the hinge
loss and the discriminator of CIRKD's comparison; its self-attention is that of Zhang et al., "Self-Attention GAN",
ICML 2019.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ladseg.distillation_methods import ADVERSARIAL, default_weights
from ladseg.distillers.alignment import align_logits
from ladseg.distillers.distiller import Distiller
from ladseg.outputs import SegmentationOutput

WIDTHS = (64, 128, 256, 512)
# Four halvings bring this side to 4, the kernel size of the last convolution; smaller maps are enlarged to it.
SMALLEST = 64


class Adversary(nn.Module):
    """Compute the losses of student and discriminator in one forward pass, each with gradients for its owner alone.

    Args:
        classes: Number of classes.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.discriminator = Discriminator(classes)

    def forward(self, student_logits: Tensor, teacher_logits: Tensor) -> dict[str, Tensor]:
        """Return both losses.

        Args:
            student_logits: ``(N, C, h, w)``.
            teacher_logits: ``(N, C, h', w')``; the larger map is resized to the smaller.

        Returns:
            ``adversarial``, the student's loss ``-mean D(S)``, and ``discriminator``, the discriminator's hinge loss
            ``mean max(0, 1 - D(T)) + mean max(0, 1 + D(S))``.
        """
        student, teacher = align_logits(student_logits, teacher_logits)
        self.discriminator.requires_grad_(False)
        fooled = -self.discriminator(student).mean()
        self.discriminator.requires_grad_(True)
        real, fake = self.discriminator(teacher.detach()), self.discriminator(student.detach())
        return {"adversarial": fooled, "discriminator": F.relu(1 - real).mean() + F.relu(1 + fake).mean()}


class Adversarial(Distiller):
    """Apply :class:`Adversary` to the logits.

    Args:
        classes: Number of classes.
    """

    def __init__(self, classes: int) -> None:
        super().__init__(default_weights(*ADVERSARIAL))
        self.adversary = Adversary(classes)

    def forward(self, student: SegmentationOutput, teacher: SegmentationOutput, label: Tensor) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = self.adversary(student.logits, teacher.logits)
        return terms


class Discriminator(nn.Module):
    """Map logits to real-or-fake scores.

    The layers are batch norm, four convolutions of stride 2, self-attention after the last two, and a 4x4 convolution.

    Args:
        classes: Number of classes.
    """

    # An Adam optimizer of its own, at a constant learning rate, trains it.
    own_adam = {"lr": 4e-4, "betas": (0.9, 0.99)}  # noqa: RUF012

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(classes)
        layers: list[nn.Module] = []
        for width, wider in zip((classes, *WIDTHS), WIDTHS, strict=False):
            layers += [spectral_norm(nn.Conv2d(width, wider, 4, stride=2, padding=1)), nn.LeakyReLU(0.1)]
            if wider in WIDTHS[2:]:
                layers.append(SelfAttention(wider))
        self.layers = nn.Sequential(*layers, nn.Conv2d(WIDTHS[-1], 1, 4))

    def forward(self, logits: Tensor) -> Tensor:
        """Return scores ``(N, 1, h, w)`` for logits ``(N, C, h', w')`` of any size."""
        height, width = (max(SMALLEST, side) for side in logits.shape[-2:])
        if (height, width) != tuple(logits.shape[-2:]):
            logits = F.interpolate(logits, (height, width), mode="bilinear", align_corners=False)
        scores: Tensor = self.layers(self.norm(logits))
        return scores.to(torch.promote_types(scores.dtype, torch.float32))


class SelfAttention(nn.Module):
    """Add to each position an attention-weighted mean over all positions, times a learned factor that starts at 0.

    Args:
        width: Number of channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key = nn.Conv2d(width, width // 8, 1), nn.Conv2d(width, width // 8, 1)
        self.value = nn.Conv2d(width, width, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, map_: Tensor) -> Tensor:
        query, key, value = (layer(map_).flatten(2).transpose(1, 2) for layer in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        return map_ + self.gamma * mixed.transpose(1, 2).reshape(map_.shape)

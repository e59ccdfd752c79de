"""Cross-image relational distillation.

Source: Yang et al., "Cross-Image Relational Knowledge Distillation for Semantic Segmentation", CVPR 2022, with the
settings of the authors' code.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ladseg.distillation_methods import default_weights
from ladseg.distillers.alignment import align_sizes, feature_map
from ladseg.distillers.class_means import class_means, resize_label
from ladseg.distillers.distiller import Combined, Distiller
from ladseg.distillers.gather import gather as gather_processes
from ladseg.distillers.gather import random_for_images
from ladseg.distillers.kd import KD
from ladseg.distillers.memory_bank import MemoryBank
from ladseg.distillers.similarity_kl import similarity_kl_loss
from ladseg.errors import RecipeError
from ladseg.outputs import SegmentationOutput

# The length of each class's queue in the two memory banks.
PIXELS, REGIONS = 20_000, 2_000
PIXELS_AN_IMAGE = 16
# Number of vectors that a step samples from each memory bank, over all classes.
PIXEL_CONTRAST, REGION_CONTRAST = 4096, 1024


class MiniBatchDistillation(Distiller):
    """Compare pixel-to-pixel similarities over every ordered pair of images, an image with itself included (Eq. 6, 7).

    Args:
        layer: The feature map to read: ``head``, before the classifier, or ``backbone``.
        group: Form pairs within groups of this many consecutive images; 0 means all images of the process.
        gather: Whether to pair this process's images with those of all processes. The loss is then independent of the
            number of processes, at the cost of sending every feature map to each of them.

    Raises:
        RecipeError: Both ``group`` and ``gather`` are set.
    """

    def __init__(self, layer: str = "head", group: int = 0, gather: bool = False) -> None:
        super().__init__(default_weights("cirkd_batch"))
        if group and gather:
            raise RecipeError("distill.options: group forms pairs within a process, gather across them; choose one")
        self.layer, self.group, self.gather = layer, group, gather

    def forward(self, student: SegmentationOutput, teacher: SegmentationOutput, label: Tensor) -> dict[str, Tensor]:
        maps = align_sizes(feature_map(student, self.layer), feature_map(teacher, self.layer))
        ours, theirs = (_positions(F.normalize(feature, dim=1)) for feature in maps)
        if self.gather:
            keys = gather_processes(ours), gather_processes(theirs.detach())
            return {"cirkd_batch": similarity_kl_loss(ours.flatten(0, 1), theirs.flatten(0, 1), *keys)}
        size = self.group or len(ours)
        losses = [
            len(s) / len(ours) * similarity_kl_loss(s.flatten(0, 1), t.flatten(0, 1), s, t)
            for s, t in zip(ours.split(size), theirs.split(size), strict=True)
        ]
        return {"cirkd_batch": sum(losses[1:], losses[0])}


class MemoryDistillation(Distiller):
    """Compare the similarities of pixels to memory banks of the teacher's pixels and regions (Eq. 9 to 12).

    Ignored positions have no loss. The student's map passes a trained projector, which is dropped after training.
    In training mode the teacher's vectors are enqueued first: for each image and class up to 16 random pixels of the
    class and the mean of the class. The vectors of all processes are enqueued, so that all have the same memory banks.
    One draw for all processes selects the pixels and the sampled vectors, so that two processes train like one.

    Args:
        student_width: Channels of the student's map.
        teacher_width: Channels of the teacher's.
        classes: Number of classes.
        layer: The feature map to read.
    """

    def __init__(self, student_width: int, teacher_width: int, classes: int, layer: str = "head") -> None:
        super().__init__(default_weights("cirkd_pixel", "cirkd_region"))
        self.projector = nn.Sequential(
            nn.Conv2d(student_width, teacher_width, 1, bias=False),
            nn.BatchNorm2d(teacher_width),
            nn.ReLU(inplace=True),
            nn.Conv2d(teacher_width, teacher_width, 1, bias=False),
        )
        self.pixels = MemoryBank(classes, PIXELS, teacher_width)
        self.regions = MemoryBank(classes, REGIONS, teacher_width)
        self.classes, self.layer = classes, layer

    def forward(self, student: SegmentationOutput, teacher: SegmentationOutput, label: Tensor) -> dict[str, Tensor]:
        maps = align_sizes(self.projector(feature_map(student, self.layer)), feature_map(teacher, self.layer))
        ours, theirs = (F.normalize(feature, dim=1) for feature in maps)
        small = resize_label(label, (theirs.shape[2], theirs.shape[3]), self.classes)
        if self.training:
            self._enqueue(theirs.detach(), small)
        rows = _positions(ours).flatten(0, 1), _positions(theirs).flatten(0, 1)
        memories = {
            "cirkd_pixel": self.pixels.sample(PIXEL_CONTRAST // self.classes + 1)[None].to(ours.dtype),
            "cirkd_region": self.regions.sample(REGION_CONTRAST // self.classes + 1)[None].to(ours.dtype),
        }
        counts = (small < self.classes).flatten()
        return {name: similarity_kl_loss(*rows, keys, keys, counts=counts) for name, keys in memories.items()}

    @torch.no_grad()
    def _enqueue(self, teacher: Tensor, label: Tensor) -> None:
        positions, valid = random_pixels(label, self.classes, PIXELS_AN_IMAGE)
        flat = teacher.flatten(2)  # (N, C, P)
        picked = flat.gather(2, positions.flatten(1)[:, None].expand(-1, flat.shape[1], -1)).transpose(1, 2)
        means, counts = class_means(flat, label, self.classes)
        regions = F.normalize(means[..., : self.classes], dim=1).transpose(1, 2)
        self._push(self.pixels, picked, valid.flatten(1))
        self._push(self.regions, regions, counts[:, : self.classes] > 0)

    def _push(self, bank: MemoryBank, vectors: Tensor, valid: Tensor) -> None:
        """Push the ``valid`` (N, classes * k) ones of the vectors ``(N, classes * k, C)``, k per class in turn."""
        vectors, valid = gather_processes(vectors), gather_processes(valid.to(torch.uint8)).bool()
        classes = torch.arange(self.classes, device=valid.device).repeat_interleave(valid.shape[1] // self.classes)
        bank.push(vectors[valid], classes.expand_as(valid)[valid])


class CIRKD(Combined):
    """Combine similarities within the mini-batch and to the memory banks with KD at temperature 1.

    Args:
        student_width: Channels of the student's map.
        teacher_width: Channels of the teacher's map.
        classes: Number of classes.
        layer: The feature map to read: ``head``, before the classifier, or ``backbone``.
        group: As for :class:`MiniBatchDistillation`.
        gather: As for :class:`MiniBatchDistillation`.
    """

    def __init__(
        self,
        student_width: int,
        teacher_width: int,
        classes: int,
        layer: str = "head",
        group: int = 0,
        gather: bool = False,
    ) -> None:
        memory = MemoryDistillation(student_width, teacher_width, classes, layer)
        super().__init__([MiniBatchDistillation(layer, group, gather), memory, KD()])


def random_pixels(label: Tensor, classes: int, count: int) -> tuple[Tensor, Tensor]:
    """Draw up to ``count`` random positions of each class in each image.

    Args:
        label: ``(N, P)`` from :func:`ladseg.distillers.class_means.resize_label`.
        classes: Number of classes.
        count: The most positions to draw per class and image.

    Returns:
        Positions ``(N, classes, count)`` int64, and a bool mask of that shape, False where the class has fewer.
    """
    images, places = label.shape
    shuffled = random_for_images(images, places, device=label.device).argsort(1)
    order = label.gather(1, shuffled).argsort(dim=1, stable=True)
    counts = F.one_hot(label, classes + 1).sum(1)  # (N, classes + 1)
    first = counts.cumsum(1) - counts
    # The index of the k-th shuffled position of each class in that order.
    k = torch.arange(count, device=label.device)
    place = (first[:, :classes, None] + k).clamp_max(places - 1)
    positions = shuffled.gather(1, order).gather(1, place.flatten(1)).view(images, classes, count)
    return positions, k < counts[:, :classes, None]


def _positions(feature: Tensor) -> Tensor:
    """Reshape a map ``(N, C, h, w)`` to ``(N, P, C)``."""
    return feature.flatten(2).transpose(1, 2)

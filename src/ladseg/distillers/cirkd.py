"""Cross-image relations: Yang et al., "Cross-Image Relational Knowledge Distillation for Semantic Segmentation",
CVPR 2022."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ladseg.distillation_methods import default_weights
from ladseg.distillers.alignment import align_sizes, feature_map
from ladseg.distillers.class_means import class_means, resize_label
from ladseg.distillers.distiller import Combined, Distiller
from ladseg.distillers.kd import KD
from ladseg.distillers.memory_bank import ClassMemory
from ladseg.distillers.relations import of_all_processes, relation_loss
from ladseg.outputs import SegmentationOutput

# Vectors of a class that are remembered, and pixels of a class that one image gives.
PIXELS, REGIONS = 20_000, 2_000
PIXELS_AN_IMAGE = 16
# Vectors that a step compares with, over all classes.
PIXEL_CONTRAST, REGION_CONTRAST = 4096, 1024


class BatchRelations(Distiller):
    """Pixel to pixel over every ordered pair of the batch's images, those of other processes included (Eq. 6 and 7).

    Args:
        layer: Which map; ``head`` is the one before the classifier.
    """

    def __init__(self, layer: str = "head") -> None:
        super().__init__(default_weights("cirkd_batch"))
        self.layer = layer

    def forward(self, student: SegmentationOutput, teacher: SegmentationOutput, label: Tensor) -> dict[str, Tensor]:
        maps = align_sizes(feature_map(student, self.layer), feature_map(teacher, self.layer))
        ours, theirs = (_positions(F.normalize(feature, dim=1)) for feature in maps)
        loss = relation_loss(
            ours.flatten(0, 1), theirs.flatten(0, 1), of_all_processes(ours), of_all_processes(theirs.detach())
        )
        return {"cirkd_batch": loss}


class MemoryRelations(Distiller):
    """Pixel to remembered pixel and to remembered region, of the teacher, over all classes (Eq. 9 to 12).

    Ignored positions don't count. The student's map goes through a projection that is trained, and dropped at the end.
    In training mode the teacher's vectors are remembered first: of each image and class up to 16 random pixels and the
    class's mean, of the images of all processes, so that all remember the same.

    Args:
        student_width: Channels of the student's map.
        teacher_width: Channels of the teacher's.
        classes: Number of classes.
        layer: Which map.
    """

    def __init__(self, student_width: int, teacher_width: int, classes: int, layer: str = "head") -> None:
        super().__init__(default_weights("cirkd_pixel", "cirkd_region"))
        self.projector = nn.Sequential(
            nn.Conv2d(student_width, teacher_width, 1, bias=False),
            nn.BatchNorm2d(teacher_width),
            nn.ReLU(inplace=True),
            nn.Conv2d(teacher_width, teacher_width, 1, bias=False),
        )
        self.pixels = ClassMemory(classes, PIXELS, teacher_width)
        self.regions = ClassMemory(classes, REGIONS, teacher_width)
        self.classes, self.layer = classes, layer

    def forward(self, student: SegmentationOutput, teacher: SegmentationOutput, label: Tensor) -> dict[str, Tensor]:
        maps = align_sizes(self.projector(feature_map(student, self.layer)), feature_map(teacher, self.layer))
        ours, theirs = (F.normalize(feature, dim=1) for feature in maps)
        small = resize_label(label, (theirs.shape[2], theirs.shape[3]), self.classes)
        if self.training:
            self._remember(theirs.detach(), small)
        rows = _positions(ours).flatten(0, 1), _positions(theirs).flatten(0, 1)
        memories = {
            "cirkd_pixel": self.pixels.sample(PIXEL_CONTRAST // self.classes + 1)[None].to(ours.dtype),
            "cirkd_region": self.regions.sample(REGION_CONTRAST // self.classes + 1)[None].to(ours.dtype),
        }
        counts = (small < self.classes).flatten()
        return {name: relation_loss(*rows, keys, keys, counts=counts) for name, keys in memories.items()}

    @torch.no_grad()
    def _remember(self, teacher: Tensor, label: Tensor) -> None:
        positions, valid = random_pixels(label, self.classes, PIXELS_AN_IMAGE)
        flat = teacher.flatten(2)  # (N, C, P)
        picked = flat.gather(2, positions.flatten(1)[:, None].expand(-1, flat.shape[1], -1)).transpose(1, 2)
        means, counts = class_means(flat, label, self.classes)
        regions = F.normalize(means[..., : self.classes], dim=1).transpose(1, 2)
        self._push(self.pixels, picked, valid.flatten(1))
        self._push(self.regions, regions, counts[:, : self.classes] > 0)

    def _push(self, queues: ClassMemory, vectors: Tensor, valid: Tensor) -> None:
        """Vectors ``(N, classes * k, C)``, k of each class in turn, where ``valid`` ``(N, classes * k)``."""
        vectors, valid = of_all_processes(vectors), of_all_processes(valid.to(torch.uint8)).bool()
        classes = torch.arange(self.classes, device=valid.device).repeat_interleave(valid.shape[1] // self.classes)
        queues.push(vectors[valid], classes.expand_as(valid)[valid])


class CIRKD(Combined):
    """Relations within the batch and to the memories, and KD at temperature 1.

    Args:
        student_width: Channels of the student's map.
        teacher_width: Channels of the teacher's.
        classes: Number of classes.
        layer: Which map.
    """

    def __init__(self, student_width: int, teacher_width: int, classes: int, layer: str = "head") -> None:
        super().__init__([BatchRelations(layer), MemoryRelations(student_width, teacher_width, classes, layer), KD()])


def random_pixels(label: Tensor, classes: int, count: int) -> tuple[Tensor, Tensor]:
    """Up to ``count`` random positions of each class in each image.

    Args:
        label: ``(N, P)`` from :func:`ladseg.distillers.class_means.resize_label`.
        classes: Number of classes.
        count: How many at the most.

    Returns:
        Positions ``(N, classes, count)``, and where there are that many.
    """
    images, places = label.shape
    shuffled = torch.rand(label.shape, device=label.device).argsort(1)
    order = label.gather(1, shuffled).argsort(dim=1, stable=True)
    counts = F.one_hot(label, classes + 1).sum(1)  # (N, classes + 1)
    first = counts.cumsum(1) - counts
    # Where the k-th shuffled position of each class stands in that order.
    k = torch.arange(count, device=label.device)
    place = (first[:, :classes, None] + k).clamp_max(places - 1)
    positions = shuffled.gather(1, order).gather(1, place.flatten(1)).view(images, classes, count)
    return positions, k < counts[:, :classes, None]


def _positions(feature: Tensor) -> Tensor:
    """``(N, P, C)`` of a map ``(N, C, h, w)``."""
    return feature.flatten(2).transpose(1, 2)

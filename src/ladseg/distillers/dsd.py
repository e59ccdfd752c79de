"""Double similarity distillation.

Source: Feng et al., "Double Similarity Distillation for Semantic Image Segmentation", TIP 2021.
"""

from collections.abc import Sequence
from itertools import combinations

import torch.nn.functional as F
from torch import Tensor

from ladseg.distillation_methods import default_weights
from ladseg.distillers.alignment import align_logits, align_sizes, auxiliary_pairs, feature_map
from ladseg.distillers.at import attention
from ladseg.distillers.distiller import Distiller
from ladseg.outputs import SegmentationOutput
from ladseg.resize import resize_logits


def psd_loss(students: Sequence[Tensor], teachers: Sequence[Tensor]) -> Tensor:
    """Return the pixel-wise similarity loss: it compares how attention changes from each map to each later one.

    A change is the difference of two maps of :func:`ladseg.distillers.at.attention`, scaled to Euclidean norm 1; the
    loss is the mean squared difference of the two networks' changes.

    Args:
        students: The student's maps ``(N, C, h, w)``, of any widths, in the order of the network.
        teachers: The teacher's maps; the larger of each pair is resized to the smaller.

    Returns:
        A float32 scalar.
    """
    matched = [align_sizes(s, t) for s, t in zip(students, teachers, strict=True)]
    height, width = min((maps[0].shape[-2:] for maps in matched), key=lambda size: size[0] * size[1])
    ours, theirs = ([attention(resize_logits(maps[i], (height, width))) for maps in matched] for i in (0, 1))
    pairs = list(combinations(range(len(matched)), 2))
    terms = [F.mse_loss(_change(ours[n], ours[m]), _change(theirs[n], theirs[m])) for n, m in pairs]
    return sum(terms[1:], terms[0]) / len(terms)


def csd_loss(student_logits: Tensor, teacher_logits: Tensor, tau: float = 4.0) -> Tensor:
    """Return the category-wise similarity loss: it compares how much the spatial maps of each two classes overlap.

    The spatial map of a class is the softmax over positions of its logits, averaged over 2x2 windows and divided by
    tau. The overlap of two is their inner product; the loss is the mean squared difference of the overlaps.

    Args:
        student_logits: ``(N, K, h, w)``.
        teacher_logits: ``(N, K, h', w')``; the larger map is resized to the smaller.
        tau: Temperature, above 0.

    Returns:
        A float32 scalar.
    """
    student, teacher = align_logits(student_logits, teacher_logits)
    return F.mse_loss(_overlaps(student, tau), _overlaps(teacher, tau))


def _change(before: Tensor, after: Tensor) -> Tensor:
    # The epsilon keeps the gradient finite where the two maps are equal.
    return F.normalize(after - before, dim=1, eps=1e-4)


def _overlaps(logits: Tensor, tau: float) -> Tensor:
    """Return the overlaps of the classes' spatial maps, ``(N, K, K)``."""
    maps = (F.avg_pool2d(logits, 2, ceil_mode=True).flatten(2) / tau).softmax(-1)
    return maps @ maps.transpose(1, 2)


class DSD(Distiller):
    """Apply :func:`psd_loss` to auxiliary logits, a feature map and logits, and :func:`csd_loss` to the logits.

    If one of the networks has no auxiliary head, the backbones' last maps replace the auxiliary logits.

    Args:
        layer: The feature map to read: ``head``, before the classifier, or ``backbone``.
    """

    reads_aux = True

    def __init__(self, layer: str = "head") -> None:
        super().__init__(default_weights("dsd_pixel", "dsd_category"))
        self.layer = layer

    def forward(self, student: SegmentationOutput, teacher: SegmentationOutput, label: Tensor) -> dict[str, Tensor]:
        first = next(iter(auxiliary_pairs(student, teacher)), None)
        if first is None and self.layer != "backbone":
            first = feature_map(student, "backbone"), feature_map(teacher, "backbone")
        before = [] if first is None else [first]
        pairs = [
            *before,
            (feature_map(student, self.layer), feature_map(teacher, self.layer)),
            (student.logits, teacher.logits),
        ]
        pixel = psd_loss(*zip(*pairs, strict=True))
        return {"dsd_pixel": pixel, "dsd_category": csd_loss(student.logits, teacher.logits)}

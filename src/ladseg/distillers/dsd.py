"""Double similarity: Feng et al., "Double Similarity Distillation for Semantic Image Segmentation", TIP 2021."""

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
    """Mean squared difference of how attention changes from each map of a network to each later one.

    Attention is the mean of squares over channels at each position, of length one over an image; its change is the
    difference of two, of length one again.

    Args:
        students: Maps ``(N, C, h, w)`` in the order of the network, of any widths.
        teachers: Those of the teacher; of each pair the larger map is resized to the smaller.
    """
    matched = [align_sizes(s, t) for s, t in zip(students, teachers, strict=True)]
    height, width = min((maps[0].shape[-2:] for maps in matched), key=lambda size: size[0] * size[1])
    ours, theirs = ([attention(resize_logits(maps[i], (height, width))) for maps in matched] for i in (0, 1))
    pairs = list(combinations(range(len(matched)), 2))
    terms = [F.mse_loss(_change(ours[n], ours[m]), _change(theirs[n], theirs[m])) for n, m in pairs]
    return sum(terms[1:], terms[0]) / len(terms)


def csd_loss(student_logits: Tensor, teacher_logits: Tensor, tau: float = 4.0) -> Tensor:
    """Mean squared difference of how much the places of each two classes overlap.

    The place of a class is the softmax over positions of its score, averaged 2x2, over tau; an overlap is the sum of
    the product of two.

    Args:
        student_logits: ``(N, K, h, w)``.
        teacher_logits: ``(N, K, h', w')``; the larger map is resized to the smaller.
        tau: Temperature, above 0.
    """
    student, teacher = align_logits(student_logits, teacher_logits)
    return F.mse_loss(_overlaps(student, tau), _overlaps(teacher, tau))


def _change(before: Tensor, after: Tensor) -> Tensor:
    # Where a network's two maps are one and the same there is no direction, and its gradient is to stay finite.
    return F.normalize(after - before, dim=1, eps=1e-4)


def _overlaps(logits: Tensor, tau: float) -> Tensor:
    """``(N, K, K)``."""
    places = (F.avg_pool2d(logits, 2, ceil_mode=True).flatten(2) / tau).softmax(-1)
    return places @ places.transpose(1, 2)


class DSD(Distiller):
    """:func:`psd_loss` over auxiliary logits, a feature map and logits; :func:`csd_loss` of the logits.

    Where one of the networks has no auxiliary head, the last maps of the backbones take the place of its logits.

    Args:
        layer: Which feature map; ``head`` is the one before the classifier.
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

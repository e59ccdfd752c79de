"""DIST: distillation by correlation.

Source: Huang et al., "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022, Eq. 8 to 10.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ladseg.distillation_methods import default_weights
from ladseg.distillers.alignment import align_logits, auxiliary_pairs
from ladseg.distillers.distiller import Distiller
from ladseg.outputs import SegmentationOutput

EPSILON = 1e-12


def dist_losses(student_logits: Tensor, teacher_logits: Tensor, tau: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return one minus the correlation of the two networks' class probabilities, over classes and over positions.

    Args:
        student_logits: ``(N, C, h, w)``.
        teacher_logits: ``(N, C, h', w')``; the larger map is resized to the smaller.
        tau: Temperature, above 0; both losses are multiplied by its square.

    Returns:
        The inter-class loss, the mean over positions of ``1 - r`` with Pearson's r over classes, and the intra-class
        loss, the mean over classes of ``1 - r`` with r over all positions of the batch; float32 scalars.
    """
    student, teacher = align_logits(student_logits, teacher_logits)
    student, teacher = ((logits / tau).softmax(1).transpose(0, 1).flatten(1) for logits in (student, teacher))
    inter = (1.0 - _correlation(student.T, teacher.T)).mean()
    intra = (1.0 - _correlation(student, teacher)).mean()
    return inter * tau**2, intra * tau**2


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    """Return Pearson's r of each pair of rows, and 1 where both rows are constant.

    Each row is normalised by itself. The probabilities of an unlikely class are so small that the product of two norms
    would fall below any epsilon, and the r of two equal rows would not be 1.
    """
    first, second = (rows - rows.mean(1, keepdim=True) for rows in (first, second))
    alike = (first.norm(dim=1) < EPSILON) & (second.norm(dim=1) < EPSILON)
    product = (F.normalize(first, dim=1, eps=EPSILON) * F.normalize(second, dim=1, eps=EPSILON)).sum(1)
    return torch.where(alike, torch.ones_like(product), product)


class DIST(Distiller):
    """Apply :func:`dist_losses` to the logits and to each pair of auxiliary logits.

    Only the main logits are used if the networks differ in their number of auxiliary heads.

    Args:
        tau: Temperature, above 0.
        aux_weight: Weight of the auxiliary logits relative to the main ones; 0 leaves them out.
    """

    def __init__(self, tau: float = 1.0, aux_weight: float = 0.4) -> None:
        super().__init__(default_weights("dist_inter", "dist_intra"))
        self.reads_aux = aux_weight > 0
        self.tau, self.aux_weight = tau, aux_weight

    def forward(self, student: SegmentationOutput, teacher: SegmentationOutput, label: Tensor) -> dict[str, Tensor]:
        inter, intra = dist_losses(student.logits, teacher.logits, self.tau)
        if self.aux_weight:
            for pair in auxiliary_pairs(student, teacher):
                aux_inter, aux_intra = dist_losses(*pair, self.tau)
                inter, intra = inter + self.aux_weight * aux_inter, intra + self.aux_weight * aux_intra
        return {"dist_inter": inter, "dist_intra": intra}

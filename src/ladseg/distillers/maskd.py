"""Masked distillation with receptive tokens: Huang et al., ICLR 2023."""

import torch
from torch import Tensor, nn

from ladseg.distillation_methods import default_weights
from ladseg.distillers.alignment import align_logits, auxiliary_pairs
from ladseg.distillers.distiller import Distiller
from ladseg.outputs import SegmentationOutput
from ladseg.resize import resize_logits

TOKENS = 8
# What auxiliary logits count beside the main ones.
AUX_SHARE = 0.4


class ReceptiveTokens(nn.Module):
    """The regions that matter, as the teacher's logits show them: learned in a first stage, on the frozen teacher.

    Args:
        classes: Number of classes.
        count: Number of regions.
    """

    # What :meth:`forward` gives beside the logits to be supervised.
    terms = frozenset({"mask_dice"})

    def __init__(self, classes: int, count: int = TOKENS) -> None:
        super().__init__()
        self.tokens = nn.Parameter(0.01 * torch.randn(count, classes))

    def masks(self, logits: Tensor) -> Tensor:
        """``(N, K, h, w)``, 0..1: the sigmoid of each token's product with each position's logits."""
        return torch.einsum("kc,nchw->nkhw", self.tokens, logits).sigmoid()

    def forward(self, teacher: SegmentationOutput) -> tuple[SegmentationOutput, dict[str, Tensor]]:
        """What the first stage minimises: the class loss of the sum of the masked logits, and how alike masks are."""
        masks = self.masks(teacher.logits)
        masked = teacher.logits * masks.sum(1, keepdim=True)
        return SegmentationOutput(masked), {"mask_dice": dice(masks)}


def dice(masks: Tensor) -> Tensor:
    """Mean Dice coefficient of each two of an image's masks ``(N, K, h, w)``: 1 for equal ones, 0 if none overlap."""
    flat = masks.flatten(2)
    products = flat @ flat.transpose(1, 2)
    squares = products.diagonal(dim1=1, dim2=2)
    coefficients = 2 * products / (squares[:, :, None] + squares[:, None]).clamp_min(1e-12)
    count = masks.shape[1]
    others = coefficients.sum() - coefficients.diagonal(dim1=1, dim2=2).sum()
    return others / (len(masks) * count * (count - 1))


def masked_loss(
    student_logits: Tensor, teacher_logits: Tensor, tokens: ReceptiveTokens, seen: Tensor | None = None
) -> Tensor:
    """``1/2 mean_{n,k,c} sum_p M_k(p)^2 (S_c(p) - T_c(p))^2 / sum_p M_k(p)``, with the masks of the teacher's logits.

    Args:
        student_logits: ``(N, C, h, w)``.
        teacher_logits: ``(N, C, h', w')``; the larger map is resized to the smaller.
        tokens: From the first stage.
        seen: The main logits ``(N, C, h'', w'')`` that masks are of, where ``teacher_logits`` are auxiliary ones.
    """
    student, teacher = align_logits(student_logits, teacher_logits)
    seen = teacher if seen is None else resize_logits(seen, (teacher.shape[2], teacher.shape[3]))
    masks = tokens.masks(seen).to(student.dtype).flatten(2)  # (N, K, P)
    errors = (student - teacher).square().flatten(2)  # (N, C, P)
    sums = torch.einsum("nkp,ncp->nkc", masks.square(), errors)
    return 0.5 * (sums / (masks.sum(2, keepdim=True) + 1e-5)).mean()


class MasKD(Distiller):
    """:func:`masked_loss` of the logits, after a first stage that learns the tokens.

    As in the comparisons 0.4 times the same of auxiliary logits is added, under the masks of the main ones, where both
    networks have as many auxiliary heads.

    Args:
        classes: Number of classes.
    """

    reads_aux = True

    def __init__(self, classes: int) -> None:
        super().__init__(default_weights("maskd"))
        self.tokens = ReceptiveTokens(classes).requires_grad_(False)

    def first_stage(self) -> ReceptiveTokens:
        return self.tokens

    def forward(self, student: SegmentationOutput, teacher: SegmentationOutput, label: Tensor) -> dict[str, Tensor]:
        loss = masked_loss(student.logits, teacher.logits, self.tokens)
        for ours, theirs in auxiliary_pairs(student, teacher):
            loss = loss + AUX_SHARE * masked_loss(ours, theirs, self.tokens, teacher.logits)
        return {"maskd": loss}

"""Masked distillation with receptive tokens: Huang et al., ICLR 2023."""

import torch
from torch import Tensor, nn

from ladseg.distillers.base import Distiller
from ladseg.distillers.match import match_logits
from ladseg.outputs import SegmentationOutput

TOKENS = 8


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


def masked_loss(student_logits: Tensor, teacher_logits: Tensor, tokens: ReceptiveTokens) -> Tensor:
    """``1/2 mean_{n,k,c} sum_p M_k(p)^2 (S_c(p) - T_c(p))^2 / sum_p M_k(p)``, with the masks of the teacher's logits.

    Args:
        student_logits: ``(N, C, h, w)``.
        teacher_logits: ``(N, C, h', w')``; the larger map is resized to the smaller.
        tokens: From the first stage.
    """
    student, teacher = match_logits(student_logits, teacher_logits)
    masks = tokens.masks(teacher).to(student.dtype).flatten(2)  # (N, K, P)
    errors = (student - teacher).square().flatten(2)  # (N, C, P)
    sums = torch.einsum("nkp,ncp->nkc", masks.square(), errors)
    return 0.5 * (sums / (masks.sum(2, keepdim=True) + 1e-5)).mean()


class MasKD(Distiller):
    """:func:`masked_loss` of the logits, after a first stage that learns the tokens.

    The comparisons added 0.4 times the same of the auxiliary logits; a teacher in eval mode has none, so it is left
    out.

    Args:
        classes: Number of classes.
    """

    def __init__(self, classes: int) -> None:
        super().__init__({"maskd": 1.0})
        self.tokens = ReceptiveTokens(classes).requires_grad_(False)

    def first_stage(self) -> ReceptiveTokens:
        return self.tokens

    def forward(self, student: SegmentationOutput, teacher: SegmentationOutput, label: Tensor) -> dict[str, Tensor]:
        return {"maskd": masked_loss(student.logits, teacher.logits, self.tokens)}

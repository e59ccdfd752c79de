"""Masked distillation with receptive tokens.

Source: Huang et al., "Masked Distillation with Receptive Tokens", ICLR 2023, with the settings of the authors' code.
"""

import torch
from torch import Tensor, nn

from ladseg.distillation_methods import default_weights
from ladseg.distillers.alignment import align_logits, auxiliary_pairs
from ladseg.distillers.distiller import Distiller
from ladseg.outputs import SegmentationOutput

TOKENS = 8


class ReceptiveTokens(nn.Module):
    """Learned tokens whose products with the logits are masks of regions; a first stage trains them.

    Args:
        classes: Number of classes.
        count: Number of tokens.
        train_mode: Whether the teacher is in train mode while the tokens are trained.
    """

    # The extra loss terms of :meth:`forward`, besides the class loss of the logits that it returns.
    terms = frozenset({"mask_dice"})

    def __init__(self, classes: int, count: int = TOKENS, train_mode: bool = True) -> None:
        super().__init__()
        self.tokens = nn.Parameter(0.01 * torch.randn(count, classes))
        self.train_mode = train_mode

    def masks(self, logits: Tensor) -> Tensor:
        """Return ``(N, K, h, w)`` in 0..1: the sigmoid of each token's product with each position's logits."""
        return torch.einsum("kc,nchw->nkhw", self.tokens, logits).sigmoid()

    def forward(self, teacher: SegmentationOutput) -> tuple[SegmentationOutput, dict[str, Tensor]]:
        """Return the sum of the masked logits, for the class loss, and the masks' Dice coefficient as a loss term."""
        masks = self.masks(teacher.logits)
        masked = teacher.logits * masks.sum(1, keepdim=True)
        return SegmentationOutput(masked), {"mask_dice": dice(masks)}


def dice(masks: Tensor) -> Tensor:
    """Return the mean Dice coefficient of all pairs of an image's masks: 1 if all are equal, 0 if none overlap.

    Args:
        masks: ``(N, K, h, w)`` in 0..1.
    """
    flat = masks.flatten(2)
    products = flat @ flat.transpose(1, 2)
    squares = products.diagonal(dim1=1, dim2=2)
    coefficients = 2 * products / (squares[:, :, None] + squares[:, None]).clamp_min(1e-12)
    count = masks.shape[1]
    others = coefficients.sum() - coefficients.diagonal(dim1=1, dim2=2).sum()
    return others / (len(masks) * count * (count - 1))


def masked_loss(student_logits: Tensor, teacher_logits: Tensor, tokens: ReceptiveTokens) -> Tensor:
    """Return ``1/2 mean_{n,k,c} sum_p M_k(p)^2 (S_c(p) - T_c(p))^2 / sum_p M_k(p)``.

    Args:
        student_logits: ``(N, C, h, w)``.
        teacher_logits: ``(N, C, h', w')``, which give the masks M; the larger map is resized to the smaller.
        tokens: The tokens of the first stage.
    """
    student, teacher = align_logits(student_logits, teacher_logits)
    masks = tokens.masks(teacher).to(student.dtype).flatten(2)  # (N, K, P)
    errors = (student - teacher).square().flatten(2)  # (N, C, P)
    sums = torch.einsum("nkp,ncp->nkc", masks.square(), errors)
    return 0.5 * (sums / (masks.sum(2, keepdim=True) + 1e-5)).mean()


class MasKD(Distiller):
    """Apply :func:`masked_loss` to the logits and to each pair of auxiliary logits; a first stage trains the tokens.

    The same tokens make the masks of auxiliary logits, from the teacher's auxiliary logits. Only the main logits are
    used if the networks differ in their number of auxiliary heads.

    Args:
        classes: Number of classes.
        aux_weight: Weight of the auxiliary logits relative to the main ones; 0 leaves them out.
        train_mode: Whether the teacher is in train mode during the first stage, so that dropout is active and batch
            norm uses batch statistics, as in the authors' code. Its weights and running statistics do not change.
    """

    def __init__(self, classes: int, aux_weight: float = 0.4, train_mode: bool = True) -> None:
        super().__init__(default_weights("maskd"))
        self.reads_aux = aux_weight > 0
        self.aux_weight = aux_weight
        self.tokens = ReceptiveTokens(classes, train_mode=train_mode).requires_grad_(False)

    def first_stage(self) -> ReceptiveTokens:
        return self.tokens

    def forward(self, student: SegmentationOutput, teacher: SegmentationOutput, label: Tensor) -> dict[str, Tensor]:
        loss = masked_loss(student.logits, teacher.logits, self.tokens)
        if self.aux_weight:
            for ours, theirs in auxiliary_pairs(student, teacher):
                loss = loss + self.aux_weight * masked_loss(ours, theirs, self.tokens)
        return {"maskd": loss}

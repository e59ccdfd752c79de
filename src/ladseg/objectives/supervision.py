"""The part that every objective shares: supervision of one output by the label."""

from torch import Tensor

from ladseg.losses import boundary_loss
from ladseg.losses.cross_entropy import cross_entropy
from ladseg.outputs import SegmentationOutput


def supervised_terms(output: SegmentationOutput, label: Tensor, suffix: str = "") -> dict[str, Tensor]:
    """Cross-entropy of the main head as ``seg``, of the others, summed, as ``aux``, and a boundary head's loss."""
    terms = {f"seg{suffix}": cross_entropy(output.logits, label, align_corners=output.align_corners)}
    if output.aux:
        losses = [cross_entropy(logits, label, align_corners=output.aux_align_corners) for logits in output.aux]
        terms[f"aux{suffix}"] = sum(losses[1:], losses[0])
    if output.boundary is not None:
        terms[f"boundary{suffix}"] = boundary_loss(output.boundary, label, align_corners=output.align_corners)
    return terms


def weighted(terms: dict[str, Tensor], weights: dict[str, float]) -> dict[str, Tensor]:
    """The terms, unweighted, and their weighted sum as ``loss``; a term that ``weights`` lacks counts once."""
    parts = [weights.get(name, 1.0) * value for name, value in terms.items()]
    return {"loss": sum(parts[1:], parts[0]), **{name: value.detach() for name, value in terms.items()}}

"""The objective of the control, which learns from labels alone, and the terms that all objectives share."""

from torch import Tensor, nn

from ladseg.losses import boundary_loss
from ladseg.losses.class_loss import ClassLoss
from ladseg.losses.cross_entropy import cross_entropy
from ladseg.models import Segmenter
from ladseg.objectives.label_assisted import run_network
from ladseg.outputs import SegmentationOutput

# The auxiliary weight of a network that does not define its own.
AUX_WEIGHT = 0.4


class Plain(nn.Module):
    """Train a network on its labels: ``L = L_seg(O, Y) + aux_weight * L_aux``.

    Args:
        network: Any segmentation network.
        aux_weight: Weight of the training-only heads; None takes the network's own (0.4; 1 for STDC).
        class_loss: The loss of every head; see :func:`ladseg.losses.class_loss.make_class_loss`.
    """

    def __init__(
        self, network: nn.Module, aux_weight: float | None = None, class_loss: ClassLoss = cross_entropy
    ) -> None:
        super().__init__()
        self.network = network
        self.aux_weight = aux_weight_of(network) if aux_weight is None else aux_weight
        self.class_loss = class_loss

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        output = run_network(self.network, batch["image"])
        return weighted(supervised_terms(output, batch["label"], class_loss=self.class_loss), {"aux": self.aux_weight})


def aux_weight_of(network: nn.Module) -> float:
    """Return the weight of the training-only heads' loss in the network's reference recipe."""
    return network.aux_weight if isinstance(network, Segmenter) else AUX_WEIGHT


def supervised_terms(
    output: SegmentationOutput, label: Tensor, suffix: str = "", class_loss: ClassLoss = cross_entropy
) -> dict[str, Tensor]:
    """Compute the losses of one output against the label.

    Args:
        output: The network's output.
        label: ``(N, H, W)`` int64.
        suffix: Suffix of the name of each term.
        class_loss: The loss of the main and the training-only heads.

    Returns:
        Scalars by name: ``seg``, the class loss of the main head; ``aux``, the sum of the training-only heads' class
        losses, if there are any; ``boundary``, the loss of the boundary head, if there is one.
    """
    terms = {f"seg{suffix}": class_loss(output.logits, label, align_corners=output.align_corners)}
    if output.aux:
        losses = [class_loss(logits, label, align_corners=output.aux_align_corners) for logits in output.aux]
        terms[f"aux{suffix}"] = sum(losses[1:], losses[0])
    if output.boundary is not None:
        terms[f"boundary{suffix}"] = boundary_loss(output.boundary, label, align_corners=output.align_corners)
    return terms


def weighted(terms: dict[str, Tensor], weights: dict[str, float]) -> dict[str, Tensor]:
    """Return the weighted sum of the terms as ``loss``, and the terms themselves, unweighted and detached.

    Args:
        terms: Scalars by name.
        weights: Weights by name; a missing weight is 1.
    """
    parts = [weights.get(name, 1.0) * value for name, value in terms.items()]
    return {"loss": sum(parts[1:], parts[0]), **{name: value.detach() for name, value in terms.items()}}

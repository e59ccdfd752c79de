"""The control: a network trained on its labels, without help."""

from torch import Tensor, nn

from ladseg.objectives.label_assisted import run_network
from ladseg.objectives.supervision import supervised_terms, weighted


class Plain(nn.Module):
    """``L = L_seg(O, Y) + aux_weight * L_aux``.

    Args:
        network: Any segmentation network.
        aux_weight: Weight of the training-only heads.
    """

    def __init__(self, network: nn.Module, aux_weight: float = 0.4) -> None:
        super().__init__()
        self.network = network
        self.aux_weight = aux_weight

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        output = run_network(self.network, batch["image"])
        return weighted(supervised_terms(output, batch["label"].long()), {"aux": self.aux_weight})

"""Count the parameters and multiply-accumulates of a network."""

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from ladseg.models.names import SOURCES
from ladseg.models.segmenter import Segmenter
from ladseg.models.zoo import MODELS, build_model

# A multiple of all patch sizes and strides (14 and 32).
SIDE = 448


@dataclass(frozen=True)
class ModelFacts:
    """A network's size and cost in prediction, and the parts that only training uses.

    Attributes:
        name: Its name for :func:`ladseg.build_model`.
        parameters: Number of parameters that prediction uses.
        training_parameters: Number of parameters that only training uses.
        macs: Multiply-accumulates of predicting one image: matrix products and convolutions, as
            ``torch.utils.flop_counter`` counts them, dilation included.
        stride: Input size divided by logits size.
        training_only: The parts that only training uses, in words.
        source: Whose definition of the network it is.
    """

    name: str
    parameters: int
    training_parameters: int
    macs: int
    stride: int
    training_only: str
    source: str


def describe_model(
    name: str, num_classes: int, size: tuple[int, int], args: dict[str, Any] | None = None
) -> ModelFacts:
    """Count a network's parameters and multiply-accumulates.

    Args:
        name: As for :func:`ladseg.build_model`, which also lists the errors.
        num_classes: Number of classes.
        size: Height and width of the image in pixels.
        args: Arguments of the network.
    """
    # Counting needs shapes only, so named networks stay on the meta device; a user's own network is built and run.
    device = "cpu" if ":" in name else "meta"
    with torch.device(device):
        training = build_model(name, num_classes, args=args)
        network = build_model(name, num_classes, aux=False, merged=True, args=args).eval()
        image = torch.empty(1, 3, *size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image)
    deployed = network.deployed_parameters()
    spec = MODELS.get(name)
    return ModelFacts(
        name,
        deployed,
        sum(p.numel() for p in training.parameters()) - deployed,
        counter.get_total_flops() // 2,
        _stride(network, device),
        spec.training_only if spec else "auxiliary head" if "@" in name else "",
        SOURCES.get(name) or ("timm's backbone" if "@" in name else "yours"),
    )


@torch.no_grad()
def _stride(network: Segmenter, device: str) -> int:
    """Compute the stride of the logits from an image of side ``SIDE``."""
    return SIDE // network(torch.empty(1, 3, SIDE, SIDE, device=device)).logits.shape[-1]

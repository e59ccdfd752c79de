"""Count the parameters and multiply-accumulates of a network."""

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from ladseg.models.segmenter import Segmenter
from ladseg.models.zoo import MODELS, build_model

# A multiple of 14 and of 32.
SIDE = 448


@dataclass(frozen=True)
class ModelFacts:
    """A network's size and cost as it predicts, and what training adds.

    Attributes:
        name: As :func:`ladseg.build_model` takes it.
        parameters: In use when it predicts.
        training_parameters: Of the parts that take no part in prediction.
        macs: Multiply-accumulates of one image's prediction; matrix products and convolutions, as
            ``torch.utils.flop_counter`` counts them, dilation included.
        stride: Input size over logits size.
        training_only: What takes no part in prediction, in words.
        source: Whose definition it is.
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
        name: As for :func:`ladseg.build_model`, which names the errors too.
        num_classes: Number of classes.
        size: Height and width of the image.
        args: Arguments of a network of your own.
    """
    # Shapes are all it takes; but a network of someone's own is built and tried for real.
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
        spec.source if spec else "timm's backbone" if "@" in name else "yours",
    )


@torch.no_grad()
def _stride(network: Segmenter, device: str) -> int:
    """Compute the stride of the logits, on an image whose sides patches and strides divide."""
    return SIDE // network(torch.empty(1, 3, SIDE, SIDE, device=device)).logits.shape[-1]

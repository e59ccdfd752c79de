"""Adapt a teacher to data whose classes are a subset of its own, or in another order."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ladseg.objectives.label_assisted import LabelAssisted, Network, segmenter
from ladseg.outputs import SegmentationOutput

IGNORED = 255


def reorder_classes(network: Network, classes: Sequence[int]) -> None:
    """Make a network's logits, and the labels that a label-assisted one reads, follow other data's classes, in place.

    Args:
        network: A network trained for other classes, or for the same ones in another order.
        classes: The network's class id for each class of the data. Logits of its other classes are dropped.
    """
    inner = segmenter(network)
    chosen = list(classes)

    def reorder(module: nn.Module, inputs: Any, output: SegmentationOutput) -> SegmentationOutput:
        return replace(output, logits=output.logits[:, chosen], aux=tuple(each[:, chosen] for each in output.aux))

    inner.register_forward_hook(reorder)
    inner.num_classes = len(chosen)
    if isinstance(network, LabelAssisted):
        network.noise.register_forward_pre_hook(lambda module, inputs: (_translated(inputs[0], chosen), *inputs[1:]))


def _translated(label: Tensor, classes: Sequence[int]) -> Tensor:
    """Translate a label from the data's class ids to the network's; ignored pixels stay ignored."""
    table = torch.full((256 if len(classes) <= 256 else 65536,), IGNORED, device=label.device)
    table[: len(classes)] = torch.tensor(classes, device=label.device)
    table[IGNORED] = IGNORED
    return table[label]

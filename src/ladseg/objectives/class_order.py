"""Let a network that was trained on one set of classes teach another: by class ids, in place."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ladseg.objectives.label_assisted import LabelAssisted, Network, segmenter
from ladseg.outputs import SegmentationOutput

IGNORED = 255


def reorder_classes(network: Network, classes: Sequence[int]) -> None:
    """Let a network answer in, and where it is label-assisted read, the classes of other data; in place.

    Args:
        network: It was trained for other classes, or for the same in another order.
        classes: Its class id for each class of the data. Scores of its other classes are left out.
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
    """Return a label of the data's class ids in those of the network; what is ignored stays so."""
    table = torch.full((256 if len(classes) <= 256 else 65536,), IGNORED, device=label.device)
    table[: len(classes)] = torch.tensor(classes, device=label.device)
    table[IGNORED] = IGNORED
    return table[label]

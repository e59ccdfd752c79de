"""Multiply-accumulates of the paper's networks, against its own figures and against a count layer by layer."""

from math import prod

import pytest
import torch
from torch import Tensor, nn

from ladseg.models import build_model
from ladseg.reproduce.estimate import counted_macs

# Table 1 prints these for 1024x2048, in G; a network with a fourth channel is the label-assisted teacher.
PRINTED = [
    ("deeplabv3_r101", 3, 2371.7),
    ("deeplabv3_r18", 3, 572.0),
    ("deeplabv3_r18", 4, 572.1),
    ("pspnet_r18", 3, 507.4),
    ("pspnet_r18", 4, 507.5),
]
# OCR gathers 512 channels into each class and compares 256 keys, at HRNet's stride.
OCR_STRIDE, OCR_KEYS, OCR_CHANNELS = 4, 256, 512
# Patches of 14 and one class token; blocks and channels of ViT-S and ViT-B.
PATCH, BLOCKS, VIT_CHANNELS = 14, 12, {"dinov2_s14": 384, "dinov2_b14": 768}


def count_layers(
    name: str, classes: int, size: tuple[int, int], channels: int = 3, train: bool = False, dilated: bool = True
) -> int:
    """Count outputs times weights of every convolution and linear layer, for one image.

    Args:
        name: The network.
        classes: Number of classes.
        size: Height and width.
        channels: Input channels.
        train: Whether the auxiliary heads run.
        dilated: Whether the outputs' sizes are the true ones; else those that a convolution would have without its
            dilation but with its padding, which is what CIRKD's counter takes them for.
    """
    total = 0

    def add(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Conv2d):
            positions = prod(output.shape[2:])
            if not dilated:
                sides = zip(inputs[0].shape[2:], layer.padding, layer.kernel_size, layer.stride, strict=True)
                positions = prod((side + 2 * pad - kernel) // stride + 1 for side, pad, kernel, stride in sides)
            total += positions * layer.weight.numel()
        elif isinstance(layer, nn.Linear):
            total += output.numel() // len(output) * layer.in_features

    with torch.device("meta"):
        network = build_model(name, classes, in_channels=channels).train(train)
        for layer in network.modules():
            layer.register_forward_hook(add)
        # Two images, because batch norm of one pooled value has no variance.
        network(torch.empty(2, channels, *size))
    return total


@pytest.mark.parametrize(("name", "channels", "printed"), PRINTED)
def test_the_papers_figures_are_those_of_a_counter_that_ignores_dilation(
    name: str, channels: int, printed: float
) -> None:
    """Its counter takes a dilated convolution, padded by its dilation, for one with a larger output.

    So counted, our three-channel networks have the printed figures to 0.06 G, with the auxiliary head. For the fourth
    channel the paper adds 0.1 G, where 512 x 1024 positions times 576 weights are 0.30 G.
    """
    counted = count_layers(name, 19, (1024, 2048), channels, train=True, dilated=False) / 1e9
    due = 512 * 1024 * 576 / 1e9 - 0.1 if channels == 4 else 0.0
    assert counted - due == pytest.approx(printed, abs=0.06)
    assert count_layers(name, 19, (1024, 2048), channels, train=True) / 1e9 < printed


@pytest.mark.parametrize(("key", "counted"), counted_macs().items(), ids=lambda value: "-".join(map(str, value)))
def test_counted_macs_are_those_of_the_layers(key: tuple[str, int, int, int], counted: tuple[int, int]) -> None:
    """All networks of Tables 1 to 9, exactly; what two activations are multiplied for is added by formula."""
    name, classes, height, width = key
    extra = 0
    if name.startswith("ocrnet"):
        positions = prod(-(-side // OCR_STRIDE) for side in (height, width))
        extra = positions * classes * (OCR_CHANNELS + 2 * OCR_KEYS)
    elif name in VIT_CHANNELS:
        tokens = (height // PATCH) * (width // PATCH) + 1
        extra = 2 * BLOCKS * tokens**2 * VIT_CHANNELS[name]
    assert counted[1] == count_layers(name, classes, (height, width)) + extra

"""TensorFlow's "same" padding, with expressions for sizes that torch can reason about."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch.nn.functional as F
from timm.layers import Conv2dSame
from torch import Tensor, nn


@contextmanager
def plain_sizes(network: nn.Module) -> Iterator[None]:
    """Within the context, compute the padding of timm's ``Conv2dSame`` layers by terms that cancel in torch's traces.

    timm's own code makes each map's size a nested expression of ceilings and maxima of the size before. After five
    layers ``torch.export.load`` takes minutes to simplify what is just ``(H + 31) // 32``.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, Conv2dSame) and _never_crops(layer)]
    for layer in layers:
        layer.forward = partial(_convolve, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _reach(layer: Conv2dSame) -> list[int]:
    """Return how many pixels the dilated kernel spans in height and width."""
    return [(size - 1) * dilation + 1 for size, dilation in zip(layer.kernel_size, layer.dilation, strict=True)]


def _never_crops(layer: Conv2dSame) -> bool:
    return all(reach >= stride for reach, stride in zip(_reach(layer), layer.stride, strict=True))


def _convolve(layer: Conv2dSame, x: Tensor) -> Tensor:
    """Compute ``layer(x)``: ceil(side / stride) positions per side, with an odd pixel of padding at the end."""
    amounts: list[int] = []
    for side, reach, stride in zip(x.shape[-2:], _reach(layer), layer.stride, strict=True):
        padded = ((side + stride - 1) // stride - 1) * stride + reach
        before = (padded - side) // 2
        amounts = [before, padded - side - before, *amounts]
    return F.conv2d(F.pad(x, amounts), layer.weight, layer.bias, layer.stride, 0, layer.dilation, layer.groups)

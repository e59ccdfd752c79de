"""Count multiply-accumulates."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from ladseg.resize import RowMixing


def count_macs(run: Callable[[], object]) -> int:
    """Count the multiply-accumulates of the matrix products and convolutions in ``run``, forward and backward.

    Bilinear upsampling is left out, whether torch's interpolation or the matrix products of :mod:`ladseg.resize`, whose
    number depends on the size of its chunks.
    """
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution_backward: _backward}) as counter:
        run()
    upsampling = sum(counter.get_flop_counts().get(RowMixing.__name__, {}).values())
    return int((counter.get_total_flops() - upsampling) // 2)


def _backward(
    grad_output: Sequence[int],
    image: Sequence[int],
    weight: Sequence[int],
    bias: object,
    stride: object,
    padding: object,
    dilation: object,
    transposed: bool,
    output_padding: object,
    groups: int,
    wanted: Sequence[bool],
    **_: Any,
) -> int:
    """Return the floating-point operations of a convolution's backward pass.

    torch's own formula (2.15) treats the weight gradient of a grouped convolution like that of an ungrouped one, which
    is a hundred times too much for a depthwise layer of a hundred channels.
    """
    positions = image if transposed else grad_output
    forward = 2 * prod(positions) * prod(weight[1:])
    return forward * sum(wanted[:2])

"""Multiply-accumulates of whatever runs."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


def count_macs(run: Callable[[], object]) -> int:
    """Those of the matrix products and convolutions, forward and backward, that ``run`` does."""
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution_backward: _backward}) as counter:
        run()
    return int(counter.get_total_flops() // 2)


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
    """Floating point operations of a convolution's backward pass.

    Torch's own formula (2.15) takes the weight's gradient of a grouped convolution for a full one's:
    a hundred times too much for a depthwise layer of a hundred channels.
    """
    positions = image if transposed else grad_output
    forward = 2 * prod(positions) * prod(weight[1:])
    return forward * sum(wanted[:2])

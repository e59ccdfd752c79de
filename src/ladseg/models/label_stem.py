"""A separate stem for the label, for networks whose own input can't take more than three channels."""

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame, ScaledStdConv2dSame, StdConv2dSame
from torch import Tensor, nn

SAME_PADDING = (Conv2dSame, StdConv2dSame, ScaledStdConv2dSame)


class LabelStem(nn.Module):
    """A convolution of the channels beyond RGB, whose output is added to the first feature map of a network.

    It has the kernel, stride and padding of the convolution that makes the map. If that convolution takes the image,
    the sum equals that of one convolution with more input channels. The weights start at zero, so that the network's
    output is unchanged until they are trained.

    Args:
        layer: The convolution that makes the map.
        channels: Number of channels beyond RGB.
        divisor: The network pads its image at the right and the bottom to multiples of this.

    Attributes:
        added_channels: Number of image channels that it takes.
    """

    def __init__(self, layer: nn.Conv2d, channels: int, divisor: int) -> None:
        super().__init__()
        shape: Any = {key: getattr(layer, key) for key in ("kernel_size", "stride", "padding", "dilation")}
        self.conv = (
            Conv2dSame(channels, layer.out_channels, bias=False, **shape)
            if isinstance(layer, SAME_PADDING)
            else nn.Conv2d(channels, layer.out_channels, bias=False, padding_mode=layer.padding_mode, **shape)
        )
        self.conv.to(next(layer.parameters()))
        nn.init.zeros_(self.conv.weight)
        self.added_channels = channels
        self.divisor = divisor
        self.label: Tensor | None = None

    def attach(self, network: nn.Module, layer: nn.Conv2d) -> None:
        """Hook the network to split its input, and the layer to add this stem's output to its own."""
        # The stem is a child of the layer because some networks run all their own children in sequence.
        layer.add_module("label_stem", self)
        network.register_forward_pre_hook(self._split)
        network.register_forward_hook(self._forget, always_call=True)
        layer.register_forward_hook(self._add)

    def widen(self, extra_channels: int) -> None:
        """Take more channels; their weights start at zero."""
        weight = self.conv.weight.detach()
        zeros = weight.new_zeros(weight.shape[0], extra_channels, *weight.shape[2:])
        self.conv.weight = nn.Parameter(torch.cat([weight, zeros], dim=1))
        self.conv.in_channels += extra_channels
        self.added_channels += extra_channels

    def _split(self, network: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        image = inputs[0]
        rgb, label = image.tensor_split([image.shape[1] - self.added_channels], dim=1)
        height, width = label.shape[-2:]
        self.label = F.pad(label, (0, -width % self.divisor, 0, -height % self.divisor))
        # Kernels for strided memory round differently, so the network gets a contiguous copy as before.
        return (rgb.clone(), *inputs[1:])

    def _add(self, layer: nn.Module, inputs: tuple[Any, ...], features: Tensor) -> Tensor:
        if self.label is None:
            return features
        # The sizes differ only in a network that shrinks its image before the first convolution.
        size = inputs[0].shape[-2:]
        label = self.label if self.label.shape[-2:] == size else F.adaptive_avg_pool2d(self.label, size)
        added: Tensor = self.conv(label)
        return features + added

    def _forget(self, network: nn.Module, inputs: Any, output: Any) -> None:
        self.label = None

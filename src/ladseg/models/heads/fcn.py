"""Fully convolutional heads: Long et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015."""

import torch
from torch import Tensor, nn

from ladseg.models.heads.base import Head, conv_bn_relu


class ConcatConvs(nn.Module):
    """Two 3x3 convolutions, then one over their output concatenated with the input."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(conv_bn_relu(channels, width, 3), conv_bn_relu(width, width, 3))
        self.fuse = conv_bn_relu(channels + width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fuse(torch.cat([x, self.convs(x)], dim=1))


class FCNHead(Head):
    """mmsegmentation's FCN head, of width 128 on 512 channels and 512 on 2048."""

    def __init__(self, channels: int, width: int, num_classes: int, whole_channels: bool = False) -> None:
        super().__init__(ConcatConvs(channels, width), width, num_classes, whole_channels=whole_channels)


class AuxHead(Head):
    """The training-only head on the second-last feature map: a 3x3 convolution to a quarter of the channels."""

    def __init__(self, channels: int, num_classes: int, whole_channels: bool = False) -> None:
        width = max(channels // 4, 1)
        super().__init__(conv_bn_relu(channels, width, 3), width, num_classes, whole_channels=whole_channels)

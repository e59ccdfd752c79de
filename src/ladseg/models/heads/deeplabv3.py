"""Atrous spatial pyramid pooling: Chen et al., "Rethinking Atrous Convolution", 2017."""

import torch
from torch import Tensor, nn

from ladseg.models.heads.base import Head, conv_bn_relu, pooled_context

DILATIONS = (12, 24, 36)


class ASPP(nn.Module):
    """One point, three dilated and one image-level view of the map, side by side, then mixed."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.point = conv_bn_relu(channels, width, 1)
        self.dilated = nn.ModuleList(conv_bn_relu(channels, width, 3, dilation) for dilation in DILATIONS)
        self.image = conv_bn_relu(channels, width, 1)
        self.project = nn.Sequential(conv_bn_relu(width * (2 + len(DILATIONS)), width, 1), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        views = [self.point(x), *(conv(x) for conv in self.dilated), pooled_context(self.image, x, 1)]
        return self.project(torch.cat(views, dim=1))


class DeepLabV3Head(Head):
    """ASPP and a 3x3 convolution, ``width`` channels throughout."""

    def __init__(self, channels: int, width: int, num_classes: int) -> None:
        super().__init__(nn.Sequential(ASPP(channels, width), conv_bn_relu(width, width, 3)), width, num_classes)

"""DeepLabV3's heads, with atrous spatial pyramid pooling (ASPP).

Source: Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017.
"""

import torch
from torch import Tensor, nn

from ladseg.models.heads.base import Head, conv_bn_relu, pooled_context

DILATIONS = (12, 24, 36)


class ASPP(nn.Module):
    """CIRKD's ASPP: a 1x1, three dilated 3x3 and an image-average branch, mixed by a 1x1 convolution."""

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
    """The head of CIRKD and torchvision: ASPP and a 3x3 convolution, with ``width`` channels throughout."""

    def __init__(self, channels: int, width: int, num_classes: int) -> None:
        super().__init__(nn.Sequential(ASPP(channels, width), conv_bn_relu(width, width, 3)), width, num_classes)


class ASPPViews(nn.Module):
    """The branches of :class:`ASPP`, concatenated with the image average first, as in mmsegmentation's files."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.image = conv_bn_relu(channels, width, 1)
        self.views = nn.ModuleList(
            [conv_bn_relu(channels, width, 1), *(conv_bn_relu(channels, width, 3, d) for d in DILATIONS)]
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([pooled_context(self.image, x, 1), *(view(x) for view in self.views)], dim=1)


class ASPPHead(Head):
    """The head of mmsegmentation's DeepLabV3: the branches, mixed by a 3x3 convolution before the classifier."""

    def __init__(self, channels: int, width: int, num_classes: int) -> None:
        mix = conv_bn_relu((2 + len(DILATIONS)) * width, width, 3)
        super().__init__(nn.Sequential(ASPPViews(channels, width), mix), width, num_classes, whole_channels=True)

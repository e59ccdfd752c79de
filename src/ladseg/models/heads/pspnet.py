"""PSPNet's head, with pyramid pooling (Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017)."""

import torch
from torch import Tensor, nn

from ladseg.models.heads.base import Head, conv_bn_relu, pooled_context

BINS = (1, 2, 3, 6)


class PyramidPooling(nn.Module):
    """Concatenates a map with its averages over 1, 2, 3 and 6 bins per side, each with a quarter of the channels.

    Attributes:
        align_corners: How the averages are upsampled; :meth:`ladseg.Segmenter.upsample_with` sets it.
    """

    align_corners = True

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(conv_bn_relu(channels, channels // len(BINS), 1) for _ in BINS)

    def forward(self, x: Tensor) -> Tensor:
        pooled = [
            pooled_context(branch, x, bins, self.align_corners)
            for branch, bins in zip(self.branches, BINS, strict=True)
        ]
        return torch.cat([x, *pooled], dim=1)


class PSPNetHead(Head):
    """Pyramid pooling and a 3x3 convolution to ``width`` channels."""

    def __init__(self, channels: int, width: int, num_classes: int, whole_channels: bool = False) -> None:
        joined = channels + len(BINS) * (channels // len(BINS))
        features = nn.Sequential(PyramidPooling(channels), conv_bn_relu(joined, width, 3))
        super().__init__(features, width, num_classes, whole_channels=whole_channels)

"""STDC, in the authors' definition and in mmsegmentation's, whose classifiers differ.

Source: Fan et al., "Rethinking BiSeNet for Real-time Semantic Segmentation", CVPR 2021.
"""

import re
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ladseg.models.heads import Head
from ladseg.models.heads.base import conv_bn_relu, init_as_mmsegmentation, refuse_single_value
from ladseg.models.segmenter import Segmenter
from ladseg.outputs import SegmentationOutput

STEM = (32, 64)
WIDTHS = (256, 512, 1024)
CONTEXT = 128
FUSED = 256
BLOCKS = {"stdc1": (2, 2, 2), "stdc2": (4, 5, 3)}


class ConcatBlock(nn.Module):
    """Concatenates the maps of four successive convolutions with 1/2, 1/4, 1/8 and 1/8 of the channels.

    With stride 2 the first map is downsampled twice: by a depthwise convolution before the second convolution, and by
    average pooling for the result.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        widths = (outputs // 2, outputs // 4, outputs // 8, outputs // 8)
        self.point = conv_bn_relu(inputs, widths[0], 1)
        self.down: nn.Module = nn.Identity()
        self.pool: nn.Module = nn.Identity()
        if stride == 2:
            half = widths[0]
            self.down = nn.Sequential(
                nn.Conv2d(half, half, 3, stride=2, padding=1, groups=half, bias=False), nn.BatchNorm2d(half)
            )
            self.pool = nn.AvgPool2d(3, stride=2, padding=1)
        self.convs = nn.ModuleList(conv_bn_relu(a, b, 3) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        first = self.point(x)
        maps, last = [self.pool(first)], self.down(first)
        for conv in self.convs:
            last = conv(last)
            maps.append(last)
        return torch.cat(maps, dim=1)


class STDCBackbone(nn.Module):
    """Maps an image to feature maps at strides 8, 16 and 32.

    Args:
        blocks: Number of blocks in each of the three stages; the first block of a stage has stride 2.
    """

    def __init__(self, blocks: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv_bn_relu(3, STEM[0], 3, stride=2), conv_bn_relu(*STEM, 3, stride=2)]
        self.ends = [len(layers) + sum(blocks[: i + 1]) - 1 for i in range(len(blocks))]
        inputs = STEM[-1]
        for width, count in zip(WIDTHS, blocks, strict=True):
            layers += [ConcatBlock(inputs, width, 2), *(ConcatBlock(width, width, 1) for _ in range(count - 1))]
            inputs = width
        # The numbering includes the stem, as in the authors' checkpoints.
        self.features = nn.ModuleList(layers)

    def forward(self, image: Tensor) -> list[Tensor]:
        x, maps = image, []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.ends:
                maps.append(x)
        return maps


class AttentionRefinement(nn.Module):
    """A 3x3 convolution whose channels are scaled by a gate computed from their averages."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = conv_bn_relu(inputs, outputs, 3)
        self.gate = nn.Sequential(nn.Conv2d(outputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x * self.gate(average(x))


class FeatureFusion(nn.Module):
    """Concatenates and mixes detail and context, and scales the channels by a gate, with a shortcut around it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.mix = conv_bn_relu(inputs, outputs, 1)
        self.gate = nn.Sequential(
            nn.Conv2d(outputs, outputs // 4, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs // 4, outputs, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, detail: Tensor, context: Tensor) -> Tensor:
        x = self.mix(torch.cat([detail, context], dim=1))
        return x + x * self.gate(average(x))


class STDCHead(Head):
    """A 3x3 convolution and a 1x1 classifier.

    The authors' classifier has neither bias nor dropout; mmsegmentation's has a bias, and channel dropout before it.
    """

    def __init__(self, inputs: int, width: int, num_classes: int, mmsegmentation: bool = False) -> None:
        features, dropout = conv_bn_relu(inputs, width, 3), 0.1 if mmsegmentation else 0.0
        super().__init__(features, width, num_classes, dropout, bias=mmsegmentation, whole_channels=True)


class STDC(Segmenter):
    """STDC: backbone, context path and fusion at stride 8, with three training-only heads.

    Two of these classify the context at strides 16 and 32. The third predicts boundaries from the backbone's stride-8
    map, for :func:`ladseg.losses.boundary_loss`, so that this cheap map learns detail.

    Args:
        variant: ``stdc1`` or ``stdc2``.
        num_classes: Number of classes C.
        aux: Whether to add the training-only heads.
        input_mean: As for :class:`Segmenter`.
        input_std: As for :class:`Segmenter`.
        mmsegmentation: Whether to build mmsegmentation's definition: every classifier has a bias and dropout, the
            boundary head has two channels (no boundary, boundary), and the context heads' logits are upsampled without
            aligned corners.
    """

    aux_weight = 1.0
    training_only = ("context_heads", "boundary_head")

    def __init__(
        self,
        variant: str,
        num_classes: int,
        aux: bool,
        input_mean: tuple[float, ...],
        input_std: tuple[float, ...],
        mmsegmentation: bool = False,
    ) -> None:
        super().__init__(num_classes, input_mean, input_std)
        self.backbone = STDCBackbone(BLOCKS[variant])
        self.refine16 = AttentionRefinement(WIDTHS[1], CONTEXT)
        self.refine32 = AttentionRefinement(WIDTHS[2], CONTEXT)
        self.global_context = conv_bn_relu(WIDTHS[2], CONTEXT, 1)
        self.smooth16 = conv_bn_relu(CONTEXT, CONTEXT, 3)
        self.smooth32 = conv_bn_relu(CONTEXT, CONTEXT, 3)
        self.fuse = FeatureFusion(WIDTHS[0] + CONTEXT, FUSED)
        self.head = STDCHead(FUSED, FUSED, num_classes, mmsegmentation)
        context = [STDCHead(CONTEXT, 64, num_classes, mmsegmentation) for _ in range(2)]
        self.context_heads = nn.ModuleList(context) if aux else None
        self.boundary_head = STDCHead(WIDTHS[0], 64, 2 if mmsegmentation else 1, mmsegmentation) if aux else None
        if mmsegmentation:
            self.aux_align_corners = False
            init_as_mmsegmentation(self)
            return
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def own_names(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Renumber mmsegmentation's blocks, which are counted by stage, consecutively as in the authors' files."""
        starts = [0, 1, len(STEM), *(end + 1 for end in self.backbone.ends[:-1])]

        def flat(match: re.Match[str]) -> str:
            stage = int(match["stage"])
            block, rest = ("0", match["rest"]) if stage < len(STEM) else match["rest"].split(".", 1)
            return f"backbone.features.{starts[stage] + int(block)}.{rest}"

        return {re.sub(r"^backbone\.stages\.(?P<stage>\d)\.(?P<rest>.*)$", flat, k): v for k, v in state.items()}

    def segment(self, image: Tensor) -> SegmentationOutput:
        maps = self.backbone(image)
        context8, context16 = self._context(maps)
        features, logits = self.head(self.fuse(maps[0], context8))
        named = {"backbone": maps[-1], "head": features}
        if not self.gives_aux or self.context_heads is None or self.boundary_head is None:
            return SegmentationOutput(logits, named)
        aux = tuple(head(x)[1] for head, x in zip(self.context_heads, (context8, context16), strict=True))
        boundary = self.boundary_head(maps[0])[1] if self.training else None
        return SegmentationOutput(logits, named, aux, boundary)

    def _context(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the context, gathered from the whole image and from strides 32 and 16, at strides 8 and 16."""
        map8, map16, map32 = maps
        refuse_single_value(self.global_context, map32)
        context32 = self.refine32(map32) + resized(self.global_context(average(map32)), map32)
        context16 = self.smooth32(resized(context32, map16))
        return self.smooth16(resized(self.refine16(map16) + context16, map8)), context16


def average(x: Tensor) -> Tensor:
    """Average ``(N, D, h, w)`` over positions to ``(N, D, 1, 1)``."""
    return F.adaptive_avg_pool2d(x, 1)


def resized(x: Tensor, like: Tensor) -> Tensor:
    """Resize a map to the height and width of another by nearest neighbour."""
    return F.interpolate(x, size=like.shape[-2:], mode="nearest")

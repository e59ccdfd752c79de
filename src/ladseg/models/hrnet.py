"""HRNet as in mmsegmentation and HRNet-OCR: timm's network with bilinear fusion of its maps.

Source: Wang et al., "Deep High-Resolution Representation Learning for Visual Recognition", TPAMI 2020. timm's own
fusion upsamples by nearest neighbour, so the same parameters give another network.
"""

from typing import Any

import torch
import torch.nn.functional as F
from timm.models.hrnet import HighResolutionModule
from torch import Tensor, nn


class BilinearFusion(nn.Module):
    """Runs branches of several strides, and gives each the sum of all branches' maps at its stride.

    Args:
        module: timm's module, whose layers are reused under their names, except its nearest-neighbour upsampling.
    """

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.branches = module.branches
        self.fuse_act = module.fuse_act
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(layer[:-1] if source > target else layer for source, layer in enumerate(layers))
            for target, layers in enumerate(module.fuse_layers)
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        return [self.fuse_act(self._sum(target, maps)) for target in range(len(maps))]

    def _sum(self, target: int, maps: list[Tensor]) -> Tensor:
        """Add the maps of all branches at the stride of the branch ``target``."""
        layers: Any = self.fuse_layers[target]
        parts = [layer(x) for layer, x in zip(layers, maps, strict=True)]
        for source in range(target + 1, len(maps)):
            parts[source] = _enlarged(parts[source], 2 ** (source - target), maps[target])
        total: Tensor = sum(parts[1:], parts[0])
        return total


def fuse_bilinearly(backbone: nn.Module) -> nn.Module:
    """Replace the fusion in timm's HRNet, in place; parameters and their names stay."""
    for parent in list(backbone.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, HighResolutionModule):
                setattr(parent, name, BilinearFusion(child))
    return backbone


def _enlarged(x: Tensor, factor: int, like: Tensor) -> Tensor:
    """Upsample by the factor, then resize to the map ``like``, which is smaller if the factor does not divide it."""
    height, width = x.shape[-2:]
    x = F.interpolate(x, size=(factor * height, factor * width), mode="bilinear", align_corners=False)
    # An exported graph must serve all sizes, so it always resizes.
    if torch.compiler.is_compiling() or x.shape[-2:] != like.shape[-2:]:
        x = F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)
    return x

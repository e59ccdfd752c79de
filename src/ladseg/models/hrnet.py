"""HRNet as mmsegmentation and HRNet-OCR have it: timm's, with bilinear fusion of its maps.

Wang et al., "Deep High-Resolution Representation Learning for Visual Recognition", TPAMI 2020. timm's own fuses by
nearest neighbours: the same parameters, another network.
"""

from typing import Any

import torch
import torch.nn.functional as F
from timm.models.hrnet import HighResolutionModule
from torch import Tensor, nn


class BilinearFusion(nn.Module):
    """Branches of several strides, each of which then gets the sum of all maps brought to its stride.

    Args:
        module: timm's, whose layers are taken over under their names, its upsampling by nearest neighbours apart.
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
    """Replace the fusion in a HRNet of timm, in place; parameters and their names stay."""
    for parent in list(backbone.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, HighResolutionModule):
                setattr(parent, name, BilinearFusion(child))
    return backbone


def _enlarged(x: Tensor, factor: int, like: Tensor) -> Tensor:
    """Upsample by the factor, then to the size of another map, which is smaller where the factor does not divide it."""
    height, width = x.shape[-2:]
    x = F.interpolate(x, size=(factor * height, factor * width), mode="bilinear", align_corners=False)
    # An exported graph is for all sizes, so it may not ask whether there is anything left to do.
    if torch.compiler.is_compiling() or x.shape[-2:] != like.shape[-2:]:
        x = F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)
    return x

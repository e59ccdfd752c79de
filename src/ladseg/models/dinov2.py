"""DINOv2 with LoRA: the paper's large student (section 4, "large foundational models").

Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision", 2023; Hu et al., "LoRA: Low-Rank Adaptation
of Large Language Models", 2021. The paper names neither head nor rank: the head is DINOv2's own linear one on the
maps of its last four blocks, each through the transformer's final LayerNorm; the rank is what peft's examples for
vision transformers take.
"""

from typing import Any

import torch
import torch.nn.functional as F
from timm.models._features import FeatureGetterNet
from torch import Tensor, nn

from ladseg.errors import ModelError
from ladseg.models.heads import Head
from ladseg.models.segmenter import Segmenter
from ladseg.outputs import SegmentationOutput

PATCH = 14
LAST_BLOCKS = 4
RANK = 16
# Fused queries, keys and values, and the projection after attention, in timm's names.
ADAPTED_LAYERS = r".*\.attn\.(qkv|proj)"


class NormedMaps(FeatureGetterNet):
    """Maps of blocks of a transformer of timm, each through its final LayerNorm."""

    def __init__(self, model: nn.Module, **options: Any) -> None:
        super().__init__(model, norm=True, **options)


class LinearHead(Head):
    """Batch norm and a 1x1 classifier."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__(nn.BatchNorm2d(channels), channels, num_classes)


class DINOv2(Segmenter):
    """A frozen vision transformer whose attention is adapted, with a linear head; stride 14.

    Sides that 14 does not divide are scaled up to the next that it does: padding would leave a map that shows more than
    the image by up to a patch.

    Args:
        backbone: Image to the maps of the last blocks, as :class:`NormedMaps` gives them.
        channels: Their channels.
        num_classes: Number of classes C.
        input_mean: See :class:`Segmenter`.
        input_std: See there.
    """

    align_corners = False

    def __init__(
        self,
        backbone: nn.Module,
        channels: list[int],
        num_classes: int,
        input_mean: tuple[float, ...],
        input_std: tuple[float, ...],
    ) -> None:
        super().__init__(num_classes, input_mean, input_std)
        self.backbone = backbone.requires_grad_(False)
        self.head = LinearHead(sum(channels), num_classes)

    def prepare(self) -> "DINOv2":
        """Add the adapters, the only part of the backbone that trains; they change nothing until they are trained.

        Raises:
            ModelError: peft is not installed.
        """
        peft = _peft()
        config = peft.LoraConfig(r=RANK, lora_alpha=RANK, target_modules=ADAPTED_LAYERS)
        peft.inject_adapter_in_model(config, self.backbone)
        return self

    def merge(self) -> "DINOv2":
        """Add each adapter's product to the weights that it adapts, and take it out; in place.

        Raises:
            ModelError: There are adapters and peft is not installed.
        """
        if not any("lora_" in name for name, _ in self.named_parameters()):
            return self
        tuner_layer = _peft().tuners.tuners_utils.BaseTunerLayer
        for parent in list(self.modules()):
            for name, layer in list(parent.named_children()):
                if isinstance(layer, tuner_layer):
                    layer.merge()
                    setattr(parent, name, layer.get_base_layer())
        return self

    def is_training_only(self, parameter: str) -> bool:
        return "lora_" in parameter or super().is_training_only(parameter)

    def segment(self, image: Tensor) -> SegmentationOutput:
        # Where 14 divides the sides this gives the image itself, to the bit; a branch would bind an exported network
        # to one of the two cases.
        height, width = ((side + PATCH - 1) // PATCH * PATCH for side in image.shape[-2:])
        image = F.interpolate(image, size=(height, width), mode="bilinear", align_corners=self.align_corners)
        maps = torch.cat(self.backbone(image), dim=1)
        features, logits = self.head(maps)
        return SegmentationOutput(logits, {"backbone": maps, "head": features})


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ModelError("DINOv2 is trained with LoRA from peft: pip install 'ladseg[lora]'") from error
    return peft

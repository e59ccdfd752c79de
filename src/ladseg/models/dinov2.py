"""DINOv2 with LoRA: the paper's large student (section 4, "large foundational models").

Source: Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision", 2023; Hu et al., "LoRA: Low-Rank
Adaptation of Large Language Models", 2021. The LAD paper names neither head nor rank. The head is DINOv2's linear one
on the maps of the last four blocks, each after the transformer's final LayerNorm; the rank is that of peft's examples
for vision transformers.
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
# timm's names of the fused query-key-value layer and of the projection after attention.
ADAPTED_LAYERS = r".*\.attn\.(qkv|proj)"


class NormedMaps(FeatureGetterNet):
    """The maps of a timm transformer's blocks, each after the transformer's final LayerNorm."""

    def __init__(self, model: nn.Module, **options: Any) -> None:
        super().__init__(model, norm=True, **options)


class LinearHead(Head):
    """Batch norm and a 1x1 classifier."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__(nn.BatchNorm2d(channels), channels, num_classes)


class DINOv2(Segmenter):
    """A frozen vision transformer with LoRA adapters in its attention layers, and a linear head; stride 14.

    An image is scaled up to sides that are multiples of 14. Padding instead would add up to a patch of map that shows
    no image.

    Args:
        backbone: Maps an image to the maps of the last blocks, like :class:`NormedMaps`.
        channels: Channels of these maps.
        num_classes: Number of classes C.
        input_mean: As for :class:`Segmenter`.
        input_std: As for :class:`Segmenter`.
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
        """Add the adapters, the only trained part of the backbone; they start as the identity.

        Raises:
            ModelError: peft is not installed.
        """
        peft = _peft()
        config = peft.LoraConfig(r=RANK, lora_alpha=RANK, target_modules=ADAPTED_LAYERS)
        peft.inject_adapter_in_model(config, self.backbone)
        return self

    def merge(self) -> "DINOv2":
        """Add each adapter's product to the weights that it adapts, and remove the adapter, in place.

        Raises:
            ModelError: There are adapters, but peft is not installed.
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
        # If 14 divides the sides, this returns the image bit for bit. A branch would fix an exported network to one of
        # the two cases.
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

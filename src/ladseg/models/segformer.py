"""SegFormer, in the implementation of transformers (Apache-2.0), whose key names its weights have.

Source: Xie et al., "SegFormer: Simple and Efficient Design for Semantic Segmentation", NeurIPS 2021. The authors'
pretrained files are for non-commercial use.
"""

from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor

from ladseg.errors import ModelError
from ladseg.models.adapt import Adapted
from ladseg.models.renames import SEGFORMER
from ladseg.models.taps import Tap
from ladseg.outputs import SegmentationOutput

VARIANTS: dict[str, dict[str, Any]] = {
    "segformer_b0": {"hidden_sizes": [32, 64, 160, 256], "depths": [2, 2, 2, 2], "decoder_hidden_size": 256},
    "segformer_b2": {"hidden_sizes": [64, 128, 320, 512], "depths": [3, 4, 6, 3], "decoder_hidden_size": 768},
}


class SegFormer(Adapted):
    """SegFormer of transformers, with its last map and the one before the classifier as features; stride 4.

    Args:
        variant: ``segformer_b0`` or ``segformer_b2``.
        num_classes: Number of classes C.

    Raises:
        ModelError: transformers is not installed.
    """

    align_corners = False

    def __init__(self, variant: str, num_classes: int) -> None:
        try:
            import transformers
        except ImportError as error:
            raise ModelError(
                f"'{variant}' is transformers' implementation: pip install 'ladseg[transformers]'"
            ) from error
        settings: dict[str, Any] = {**VARIANTS[variant], "num_labels": num_classes, "output_hidden_states": True}
        module = transformers.SegformerForSemanticSegmentation(transformers.SegformerConfig(**settings))
        super().__init__(module, num_classes, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, size_divisor=1)
        self._head_tap = Tap(module, "decode_head.activation")

    def own_names(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        renamed = any(".stages." in key for key in self.module.state_dict())
        return SEGFORMER.apply(state) if renamed else state

    def segment(self, image: Tensor) -> SegmentationOutput:
        result = self.module(image)
        return SegmentationOutput(result.logits, {"backbone": result.hidden_states[-1], "head": self._head_tap.take()})

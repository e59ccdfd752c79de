"""OCRNet on HRNet: high-resolution maps of four strides, joined, and two heads.

HRNet: Wang et al., "Deep High-Resolution Representation Learning for Visual Recognition", TPAMI 2020.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ladseg.models.heads.ocr import OCRHead, PointHead
from ladseg.models.segmenter import Segmenter
from ladseg.outputs import SegmentationOutput

# timm's HRNet adds maps of neighbouring strides by whole factors up to 32.
SIZE_DIVISOR = 32


class OCRNet(Segmenter):
    """The joined maps at stride 4 through a first guess and the head that refines it; both train, both predict.

    Args:
        backbone: Image to maps at strides 2, 4, 8, 16, 32, as timm's HRNet gives them; the first is not used.
        channels: Their channels.
        num_classes: Number of classes C.
        aux: Whether the first guess is supervised too.
        input_mean: See :class:`Segmenter`.
        input_std: See there.
    """

    def __init__(
        self,
        backbone: nn.Module,
        channels: list[int],
        num_classes: int,
        aux: bool,
        input_mean: tuple[float, ...],
        input_std: tuple[float, ...],
    ) -> None:
        super().__init__(num_classes, input_mean, input_std, SIZE_DIVISOR)
        joined = sum(channels[1:])
        self.backbone = backbone
        self.guess = PointHead(joined, num_classes)
        self.head = OCRHead(joined, num_classes)
        self.aux = aux

    def segment(self, image: Tensor) -> SegmentationOutput:
        _, first, *rest = self.backbone(image)
        size = first.shape[-2:]
        upsampled = [F.interpolate(x, size=size, mode="bilinear", align_corners=False) for x in rest]
        joined = torch.cat([first, *upsampled], dim=1)
        _, guess = self.guess(joined)
        features, logits = self.head(joined, guess)
        aux = (guess,) if self.gives_aux and self.aux else ()
        return SegmentationOutput(logits, {"backbone": joined, "head": features}, aux)

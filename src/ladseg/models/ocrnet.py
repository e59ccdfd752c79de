"""mmsegmentation's OCRNet on HRNet: the maps of four strides, concatenated at high resolution, and two heads."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ladseg.models.heads.base import init_as_mmsegmentation
from ladseg.models.heads.ocr import OCRHead, PointHead
from ladseg.models.hrnet import fuse_bilinearly
from ladseg.models.segmenter import Segmenter
from ladseg.outputs import SegmentationOutput


class OCRNet(Segmenter):
    """Concatenates the maps at stride 4; one head makes a coarse prediction on them and the OCR head refines it.

    Args:
        backbone: timm's HRNet, which maps an image to maps at strides 2, 4, 8, 16 and 32; the first is not used. Its
            fusion is made bilinear in place.
        channels: Channels of the maps.
        num_classes: Number of classes C.
        aux: Whether the coarse prediction has a loss too.
        input_mean: As for :class:`Segmenter`.
        input_std: As for :class:`Segmenter`.
    """

    align_corners = False

    def __init__(
        self,
        backbone: nn.Module,
        channels: list[int],
        num_classes: int,
        aux: bool,
        input_mean: tuple[float, ...],
        input_std: tuple[float, ...],
    ) -> None:
        super().__init__(num_classes, input_mean, input_std)
        joined = sum(channels[1:])
        self.backbone = fuse_bilinearly(backbone)
        self.guess = PointHead(joined, num_classes)
        self.head = OCRHead(joined, num_classes)
        self.aux = aux
        init_as_mmsegmentation(self.guess)
        init_as_mmsegmentation(self.head)

    def segment(self, image: Tensor) -> SegmentationOutput:
        _, first, *rest = self.backbone(image)
        size = first.shape[-2:]
        upsampled = [F.interpolate(x, size=size, mode="bilinear", align_corners=False) for x in rest]
        joined = torch.cat([first, *upsampled], dim=1)
        _, guess = self.guess(joined)
        features, logits = self.head(joined, guess)
        aux = (guess,) if self.gives_aux and self.aux else ()
        return SegmentationOutput(logits, {"backbone": joined, "head": features}, aux)

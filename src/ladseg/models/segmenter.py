"""The one shape of our networks: backbone, head, and a head that only trains."""

from torch import Tensor, nn

from ladseg.models.adapt import find_input_layer
from ladseg.models.heads import Head
from ladseg.outputs import SegmentationOutput


class Segmenter(nn.Module):
    """A backbone's last feature map through a head.

    Args:
        name: What :func:`ladseg.build_model` builds this network from.
        backbone: Image to a list of feature maps, last one deepest.
        head: On the last map.
        aux_head: On the second-last map, in training only; None for none.
        num_classes: Number of classes C.
        output_stride: As asked of :func:`ladseg.build_model`; None is the model's own.
        input_mean: Mean of the RGB channels, of images in 0..1, that the backbone expects to be subtracted.
        input_std: Standard deviation that it expects to be divided by.
    """

    def __init__(
        self,
        name: str,
        backbone: nn.Module,
        head: Head,
        aux_head: Head | None,
        num_classes: int,
        output_stride: int | None,
        input_mean: tuple[float, ...],
        input_std: tuple[float, ...],
    ) -> None:
        super().__init__()
        self.name = name
        self.num_classes = num_classes
        self.output_stride = output_stride
        self.input_mean = tuple(input_mean)
        self.input_std = tuple(input_std)
        self.backbone = backbone
        self.head = head
        self.aux_head = aux_head

    @property
    def in_channels(self) -> int:
        """Channels of the image it takes: 3, and those that it was widened by."""
        return find_input_layer(self.backbone)[1].in_channels

    def forward(self, image: Tensor) -> SegmentationOutput:
        """``(N, in_channels, H, W)``, normalised, to logits at the network's stride."""
        maps = self.backbone(image)
        features, logits = self.head(maps[-1])
        aux = (self.aux_head(maps[-2])[1],) if self.training and self.aux_head is not None else ()
        return SegmentationOutput(logits, {"backbone": maps[-1], "head": features}, aux)

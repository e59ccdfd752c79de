"""The base class and common layers of all heads."""

import torch.nn.functional as F
from torch import Tensor, nn

from ladseg.errors import ModelError

SINGLE_VALUE = (
    "global pooling with batch norm can't train on one image a process; use a batch_size of 2 or more for each process "
    "and each part of schedule.accumulate"
)


class Head(nn.Module):
    """A feature module, dropout and a 1x1 classifier; subclasses set ``features``.

    Args:
        features: Maps the backbone's feature map to ``(N, width, h, w)``.
        width: Channels of that map.
        num_classes: Number of classes C.
        dropout: Dropout probability before the classifier.
        bias: Whether the classifier has a bias.
        whole_channels: Whether dropout drops whole channels, as in mmsegmentation, or single values.
    """

    def __init__(
        self,
        features: nn.Module,
        width: int,
        num_classes: int,
        dropout: float = 0.1,
        bias: bool = True,
        whole_channels: bool = False,
    ) -> None:
        super().__init__()
        self.features = features
        self.dropout = nn.Dropout2d(dropout) if whole_channels else nn.Dropout(dropout)
        self.classifier = nn.Conv2d(width, num_classes, 1, bias=bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``(N, D, h, w)`` to the map before dropout ``(N, width, h, w)`` and logits ``(N, C, h, w)``."""
        features = self.features(x)
        return features, self.classifier(self.dropout(features))


def conv_bn_relu(inputs: int, outputs: int, kernel: int, dilation: int = 1, stride: int = 1) -> nn.Sequential:
    """Return a convolution that keeps the size, or divides it by its stride, with batch norm and ReLU."""
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, dilation=dilation, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def init_as_mmsegmentation(module: nn.Module) -> None:
    """Initialise heads as mmsegmentation does, in place: Kaiming by fan-out, classifiers normal with deviation 0.01."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
    for name, part in module.named_modules():
        if name.split(".")[-1] == "classifier" and isinstance(part, nn.Conv2d):
            nn.init.normal_(part.weight, std=0.01)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def pooled_context(branch: nn.Module, x: Tensor, bins: int, align_corners: bool = True) -> Tensor:
    """Average-pool to ``bins`` x ``bins``, apply the branch, upsample back to the size of ``x``.

    Raises:
        ModelError: There is one image in training, so that batch norm would see a single value.
    """
    if bins == 1:
        refuse_single_value(branch, x)
    pooled = F.adaptive_avg_pool2d(x, bins)
    return F.interpolate(branch(pooled), size=x.shape[-2:], mode="bilinear", align_corners=align_corners)


def refuse_single_value(branch: nn.Module, x: Tensor) -> None:
    """Refuse to train a branch with batch norm on the average of a single image.

    Raises:
        ModelError: The batch is a single image.
    """
    # A batch norm synchronised over processes may get one image in each.
    if branch.training and len(x) == 1 and any(isinstance(m, nn.BatchNorm2d) for m in branch.modules()):
        raise ModelError(SINGLE_VALUE)

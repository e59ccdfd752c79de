"""OCR's heads as in mmsegmentation, without dropout.

Source: Yuan et al., "Object-Contextual Representations for Semantic Segmentation", ECCV 2020.
"""

import torch
from torch import Tensor, nn

from ladseg.models.heads.base import Head, conv_bn_relu, refuse_single_value


class PointHead(Head):
    """The head of the coarse prediction: a 1x1 convolution of the same width and a 1x1 classifier."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__(conv_bn_relu(channels, channels, 1), channels, num_classes, dropout=0.0)


class ObjectAttention(nn.Module):
    """Attention of each position (the query) over the class representations (keys and values)."""

    def __init__(self, channels: int, keys: int) -> None:
        super().__init__()
        self.query = nn.Sequential(conv_bn_relu(channels, keys, 1), conv_bn_relu(keys, keys, 1))
        self.key = nn.Sequential(conv_bn_relu(channels, keys, 1), conv_bn_relu(keys, keys, 1))
        self.value = conv_bn_relu(channels, keys, 1)
        self.out = conv_bn_relu(keys, channels, 1)

    def forward(self, x: Tensor, objects: Tensor) -> Tensor:
        """Map features ``(N, D, h, w)`` and one vector per class, ``(N, D, C, 1)``, to ``(N, D, h, w)``."""
        query = self.query(x).flatten(2).transpose(1, 2)
        key, value = self.key(objects).flatten(2), self.value(objects).flatten(2).transpose(1, 2)
        attention = (query @ key * key.shape[1] ** -0.5).softmax(dim=-1)
        mixed = (attention @ value).transpose(1, 2).reshape(x.shape[0], -1, *x.shape[-2:])
        return self.out(mixed)


class OCRHead(nn.Module):
    """Classifies features together with their attention over class representations from a coarse prediction.

    Args:
        channels: Channels of the input map.
        num_classes: Number of classes C.
        width: Channels inside the head.
        keys: Channels of queries, keys and values.
    """

    def __init__(self, channels: int, num_classes: int, width: int = 512, keys: int = 256) -> None:
        super().__init__()
        self.features = conv_bn_relu(channels, width, 3)
        self.attention = ObjectAttention(width, keys)
        self.mix = conv_bn_relu(2 * width, width, 1)
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: Tensor, guess: Tensor) -> tuple[Tensor, Tensor]:
        """Map features and the coarse prediction ``(N, C, h, w)`` to the map before the classifier and the logits."""
        pixels = self.features(x)
        if guess.shape[1] == 1:
            refuse_single_value(self.attention, x)
        where = guess.flatten(2).softmax(dim=-1)
        objects = (where @ pixels.flatten(2).transpose(1, 2)).transpose(1, 2).unsqueeze(-1)
        features = self.mix(torch.cat([self.attention(pixels, objects), pixels], dim=1))
        return features, self.classifier(features)

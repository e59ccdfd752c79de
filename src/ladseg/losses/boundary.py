"""STDC's detail loss, by which a training-only head learns class boundaries (Fan et al., CVPR 2021, section 3.3)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ladseg.resize import resize_logits

# Strides of the pyramid and their weights in tenths; integers keep the comparison with 0.1 exact.
TENTHS = {1: 6, 2: 3, 4: 1}
THRESHOLD = 1


def boundary_target(label: Tensor) -> Tensor:
    """Return 1 on boundaries, where the label's Laplacian is positive at one or more of three strides, and 0 elsewhere.

    The three maps are resized to full size by nearest neighbour and summed with weights 0.6, 0.3 and 0.1; sums above
    0.1 are boundary. As in the published code, a boundary belongs to the class with the higher id, and the pixels
    outside the image count as class 0.

    Args:
        label: ``(N, H, W)`` int64.

    Returns:
        ``(N, 1, H, W)`` float32.
    """
    value = label[:, None].float()
    laplacian = value.new_full((1, 1, 3, 3), -1.0)
    laplacian[..., 1, 1] = 8.0
    tenths = torch.zeros_like(value)
    for stride, weight in TENTHS.items():
        edges = (F.conv2d(value, laplacian, stride=stride, padding=1) > 0).float()
        tenths += weight * F.interpolate(edges, size=label.shape[-2:], mode="nearest")
    return (tenths > THRESHOLD).float()


def boundary_loss(logits: Tensor, label: Tensor, ignore_index: int = 255, align_corners: bool = True) -> Tensor:
    """Return binary cross-entropy plus Dice loss against :func:`boundary_target`, over the labelled pixels.

    The number of channels selects the definition. With t the target and sums over the pixels of an image:

    - one channel, as by the STDC authors: ``BCE + mean_n (1 - (2 sum(p t) + 1) / (sum(p) + sum(t) + 1))``, with p the
      sigmoid;
    - two channels, as in mmsegmentation: channel 1 is boundary, channel 0 is not, t is one-hot, and the loss is
      ``BCE + mean_nc (1 - (2 sum(p t) + 1) / (sum(p^2) + sum(t^2) + 1))``, with p the softmax over both in the Dice
      part.

    Both published codes include ignored pixels, with their id as a class; this function leaves them out.

    Args:
        logits: ``(N, 1 or 2, h, w)``, upsampled to the label's size; computed in float32.
        label: ``(N, H, W)`` int64.
        ignore_index: The label of ignored pixels.
        align_corners: How the logits are upsampled; see :func:`ladseg.resize.resize_logits`.

    Returns:
        A float32 scalar; 0 if every pixel is ignored.
    """
    scores = resize_logits(logits, (label.shape[-2], label.shape[-1]), align_corners)
    counts = (label != ignore_index)[:, None].float()
    boundary = boundary_target(label)
    two = scores.shape[1] == 2
    target = (torch.cat([1 - boundary, boundary], dim=1) if two else boundary) * counts
    weight = counts.expand_as(target)
    cross_entropy = F.binary_cross_entropy_with_logits(scores, target, weight=weight, reduction="sum")
    probability = (scores.softmax(1) if two else scores.sigmoid()) * counts
    overlap = (probability * target).sum((2, 3))
    size = probability.square() + target.square() if two else probability + target
    dice = 1 - (2 * overlap + 1) / (size.sum((2, 3)) + 1)
    return cross_entropy / weight.sum().clamp(min=1.0) + dice.mean()

"""Cross-entropy of segmentation logits, the L_seg of Eq. 7 and Eq. 8."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from ladseg.outputs import resize_logits


def cross_entropy(logits: Tensor, label: Tensor, ignore_index: int = 255) -> Tensor:
    """Mean over the pixels that count, after bilinear upsampling of the logits to the label's size.

    The mean is over the valid pixels of the whole batch, on all processes: gradients that are averaged over
    processes then equal those of one process with the joint batch, however unevenly ignored pixels fall.

    Args:
        logits: ``(N, C, h, w)``, any stride and floating type; computed in float32.
        label: ``(N, H, W)`` int64, 0..C-1 or ``ignore_index``.
        ignore_index: The label of pixels that don't count.

    Returns:
        A float32 scalar; 0, with zero gradient, if every pixel is ignored.
    """
    total = F.cross_entropy(
        resize_logits(logits, (label.shape[-2], label.shape[-1])),
        label,
        ignore_index=ignore_index,
        reduction="sum",
    )
    count = (label != ignore_index).sum().to(torch.float32)
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(count)
        count = count / dist.get_world_size()
    return total / count.clamp(min=1.0)

"""Cross-entropy of segmentation logits, the L_seg of Eq. 7 and Eq. 8."""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ladseg.outputs import resize_rows, row_chunks

# Float32 values of the widest register (AVX-512).
VECTOR = 16


def cross_entropy(logits: Tensor, label: Tensor, ignore_index: int = 255) -> Tensor:
    """Mean over the pixels that count, after bilinear upsampling of the logits to the label's size.

    Upsampling and loss are taken together, a few rows at a time: no map of full-size logits is ever held. The gradient
    is made on the way; it can't be differentiated again.

    The mean is over the valid pixels of the whole batch, on all processes: gradients that are averaged over
    processes then equal those of one process with the joint batch, however unevenly ignored pixels fall.

    Args:
        logits: ``(N, C, h, w)``, any stride and floating type; computed in float32, or in float64 if they are that.
        label: ``(N, H, W)`` int64, 0..C-1 or ``ignore_index``.
        ignore_index: The label of pixels that don't count.

    Returns:
        A scalar of that type; 0, with zero gradient, if every pixel is ignored.

    Raises:
        ValueError: On a processor, a label outside the classes. On a GPU it would have to be waited for.
    """
    valid = label != ignore_index
    if label.device.type == "cpu":
        outside = valid & ((label < 0) | (label >= logits.shape[1]))
        if outside.any():
            raise ValueError(f"label has value {int(label[outside][0])} but there are {logits.shape[1]} classes")
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    total: Tensor = _Upsampled.apply(logits, label, ignore_index)
    count = valid.sum().to(torch.float32)
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(count)
        count = count / dist.get_world_size()
    return total / count.clamp(min=1.0)


class _Upsampled(torch.autograd.Function):
    """Sum over pixels of the cross-entropy of upsampled logits ``(N, C, h, w)``."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, label: Tensor, ignore_index: int) -> Tensor:
        wanted, classes = ctx.needs_input_grad[0], logits.shape[1]
        logits = _full_vector(logits)
        gradient = torch.zeros_like(logits, memory_format=torch.channels_last) if wanted else logits.new_empty(0)
        total = logits.new_zeros(())
        begin = 0
        for places in row_chunks(logits, logits.shape[-2], (label.shape[-2], label.shape[-1])):
            low, end = int(places[0]), int(places[-1]) + 2
            band = logits[:, :, low:end].detach().contiguous(memory_format=torch.channels_last).requires_grad_(wanted)
            with torch.set_grad_enabled(wanted):
                rows = resize_rows(band, places - low, label.shape[-1])
            classes_last = rows.detach().permute(0, 2, 3, 1)
            loss, slope = _pixels(
                classes_last.flatten(0, 2), label[:, begin : begin + len(places)].flatten(), ignore_index
            )
            if wanted:
                slope_of_rows = slope.view(classes_last.shape).permute(0, 3, 1, 2)
                gradient[:, :, low:end] += torch.autograd.grad(rows, band, slope_of_rows)[0]
            total += loss
            begin += len(places)
        ctx.save_for_backward(gradient[:, :classes] if wanted else gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad, None, None


def _full_vector(logits: Tensor) -> Tensor:
    """On a processor: with classes that no pixel can be, up to what a vector register holds.

    torch's softmax over fewer values goes one by one, twenty times as slowly.
    """
    missing = VECTOR - logits.shape[1]
    if logits.device.type != "cpu" or missing <= 0:
        return logits
    lowest = torch.finfo(logits.dtype).min / 4  # interpolation stays finite, its exponential is 0
    return F.pad(logits, (0, 0, 0, 0, 0, missing), value=lowest)


def _pixels(logits: Tensor, label: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """The summed loss of logits ``(P, C)``, and its gradient: each class's share, less 1 at the label.

    One softmax gives both. torch's own goes over all scores once more to undo the logarithm of its log-softmax.
    """
    shares = logits.softmax(1)
    valid = label != ignore_index
    place = torch.where(valid, label, 0)[:, None]
    own = torch.where(valid, shares.gather(1, place)[:, 0], 1.0)
    if own.device.type == "cpu" and bool((own >= torch.finfo(own.dtype).tiny).all()):
        loss = -own.log()
    else:  # a share that underflows has a loss all the same; on a GPU nobody waits to learn whether one does
        loss = logits.amax(1) - shares.amax(1).log() - logits.gather(1, place)[:, 0]
    first = torch.arange(0, shares.numel(), shares.shape[1], device=shares.device)
    shares.view(-1).scatter_(0, first + place[:, 0], own - 1)
    return (loss * valid).sum(), shares.mul_(valid[:, None])

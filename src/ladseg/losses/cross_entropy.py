"""Cross-entropy of segmentation logits, the L_seg of Eq. 7 and Eq. 8."""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ladseg.resize import VECTOR, mix_rows, resize_logits, row_chunks


def cross_entropy(logits: Tensor, label: Tensor, ignore_index: int = 255, align_corners: bool = True) -> Tensor:
    """Mean over the pixels that count, after bilinear upsampling of the logits to the label's size.

    Rows are widened, and then upsampling and loss are taken together, a few rows at a time: no map of full-size logits
    is ever held. The gradient is made on the way; it can't be differentiated again.

    The mean is over the valid pixels of the whole batch, on all processes: gradients that are averaged over
    processes then equal those of one process with the joint batch, however unevenly ignored pixels fall.

    Args:
        logits: ``(N, C, h, w)``, any stride and floating type; computed in float32, or in float64 if they are that.
        label: ``(N, H, W)`` int64, 0..C-1 or ``ignore_index``.
        ignore_index: The label of pixels that don't count.
        align_corners: How the logits are upsampled, see :func:`ladseg.resize.resize_logits`.

    Returns:
        A scalar of that type; 0, with zero gradient, if every pixel is ignored.

    Raises:
        ValueError: On a processor, a label outside the classes. On a GPU it would have to be waited for.
    """
    valid = label != ignore_index
    target = torch.where(valid, label, 0)
    if target.device.type == "cpu":
        _refuse_others(target, logits.shape[1])
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    total: Tensor = _Upsampled.apply(logits, target, valid, align_corners)
    count = valid.sum().to(torch.float32)
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(count)
        count = count / dist.get_world_size()
    return total / count.clamp(min=1.0)


def _refuse_others(target: Tensor, classes: int) -> None:
    lowest, highest = (int(value) for value in target.aminmax())
    if lowest < 0 or highest >= classes:
        raise ValueError(f"label has value {lowest if lowest < 0 else highest} but there are {classes} classes")


class _Upsampled(torch.autograd.Function):
    """Sum over valid pixels of the cross-entropy of upsampled logits ``(N, C, h, w)``."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, valid: Tensor, align_corners: bool) -> Tensor:
        wanted, (_, *size) = ctx.needs_input_grad[0], target.shape
        with torch.set_grad_enabled(wanted):
            given = logits.detach().contiguous(memory_format=torch.channels_last).requires_grad_(wanted)
            wide = resize_logits(_full_vector(given), (logits.shape[-2], size[1]), align_corners)
        classes_last = wide.detach().permute(0, 2, 3, 1)
        band = classes_last.flatten(2)
        slope = torch.zeros_like(band) if wanted else None
        total = logits.new_zeros(())
        for chunk in row_chunks(wide, logits.shape[-2], (size[0], size[1]), align_corners):
            scores = mix_rows(chunk.weights, band[:, chunk.source])
            loss, slopes = _pixels(
                scores.view(-1, wide.shape[1]), target[:, chunk.rows].flatten(), valid[:, chunk.rows].flatten()
            )
            if slope is not None:
                slope[:, chunk.source] += mix_rows(chunk.weights.T, slopes.view_as(scores))
            total += loss
        if slope is not None:
            slope = slope.view(classes_last.shape).permute(0, 3, 1, 2)
            ctx.save_for_backward(torch.autograd.grad(wide, given, slope)[0])
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad, None, None, None


def _full_vector(logits: Tensor) -> Tensor:
    """On a processor: with classes that no pixel can be, up to what a vector register holds.

    torch's softmax over fewer values goes one by one, twenty times as slowly.
    """
    missing = VECTOR - logits.shape[1]
    if logits.device.type != "cpu" or missing <= 0:
        return logits
    lowest = torch.finfo(logits.dtype).min / 4  # interpolation stays finite, its exponential is 0
    return F.pad(logits, (0, 0, 0, 0, 0, missing), value=lowest)


def _pixels(scores: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """The summed loss of scores ``(P, C)``, and its gradient: each class's share, less 1 at the target.

    One softmax gives both. torch's own goes over all scores once more to undo the logarithm of its log-softmax.
    """
    shares, place = scores.softmax(1), target[:, None]
    own = shares.gather(1, place)[:, 0]
    on_cpu = own.device.type == "cpu"
    if on_cpu and own.amin() >= torch.finfo(own.dtype).tiny:
        loss = -own.log()
    else:  # a share that underflows has a loss all the same; on a GPU nobody waits to learn whether one does
        loss = scores.amax(1) - shares.amax(1).log() - scores.gather(1, place)[:, 0]
    shares.scatter_(1, place, (own - 1)[:, None])
    if not (on_cpu and valid.all()):
        loss, shares = loss * valid, shares.mul_(valid[:, None])
    return loss.sum(), shares

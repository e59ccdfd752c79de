"""The cross-entropy of segmentation logits, L_seg of Eq. 7 and Eq. 8."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ladseg.resize import VECTOR, mix_rows, resize_logits, resize_rows, row_chunks


@dataclass(frozen=True)
class HardPixels:
    """Online hard example mining: only pixels of which the network is unsure have a loss.

    A pixel is hard if the predicted probability of its class is below ``threshold``. If fewer than ``min_kept`` pixels
    per image are hard, the ``min_kept`` times batch size hardest ones are kept. Each process selects from its own part
    of the batch.

    Attributes:
        threshold: Probability of the labelled class from which on a pixel is easy.
        min_kept: The least number of pixels to keep per image, on average over the batch.

    Source:
        mmsegmentation's OHEMPixelSampler.
    """

    threshold: float = 0.7
    min_kept: int = 10_000


def cross_entropy(
    logits: Tensor,
    label: Tensor,
    ignore_index: int = 255,
    align_corners: bool = True,
    class_weights: Sequence[float] | None = None,
    mean: Literal["valid", "all"] = "valid",
    hard: HardPixels | None = None,
) -> Tensor:
    """Return the mean cross-entropy over the labelled pixels, after upsampling the logits to the label's size.

    Upsampling and loss are computed together, a few rows at a time, so that full-size logits are never in memory:
    for 171 classes at 512x1024 this takes 221 MB and a thirteenth of the time of torch's functions
    (docs/performance.md). The gradient is computed in the forward pass and can't be differentiated again.

    The mean is over the valid pixels of the whole batch on all processes. Gradients averaged over processes thus equal
    those of one process with the joint batch, however unevenly the ignored pixels are distributed.

    Args:
        logits: ``(N, C, h, w)``, of any stride and floating-point type; computed in float32, or float64 if they are.
        label: ``(N, H, W)`` int64, 0..C-1 or ``ignore_index``.
        ignore_index: The label of ignored pixels.
        align_corners: How the logits are upsampled; see :func:`ladseg.resize.resize_logits`.
        class_weights: Factor on the loss of each class's pixels; None means 1.
        mean: What the sum is divided by: ``"valid"``, the sum of the class weights of the labelled pixels (with
            ``hard``, of the kept ones), or ``"all"``, the number of all pixels, as in mmsegmentation.
        hard: Which pixels to keep; None keeps all labelled ones.

    Returns:
        A float32 or float64 scalar; 0, with zero gradient, if every pixel is ignored.

    Raises:
        ValueError: A label is outside the classes. This is checked on the CPU only; on a GPU the host would have to
            wait.
    """
    valid = label != ignore_index
    target = torch.where(valid, label, 0)
    if target.device.type == "cpu":
        _refuse_others(target, logits.shape[1])
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    weight = valid if hard is None else _find_hard(logits.detach(), target, valid, align_corners, hard)
    if class_weights is not None:
        weight = weight * logits.new_tensor(class_weights)[target]
    total: Tensor = _Upsampled.apply(logits, target, weight, align_corners)
    if mean == "all":
        return total / label.numel()
    count = weight.sum().to(torch.float32)
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(count)
        count = count / dist.get_world_size()
    return total / torch.where(count > 0, count, 1.0)


def _find_hard(logits: Tensor, target: Tensor, valid: Tensor, align_corners: bool, hard: HardPixels) -> Tensor:
    """Return which pixels are kept, bool ``(N, H, W)``."""
    size = (target.shape[1], target.shape[2])
    shares = torch.empty(target.shape, dtype=logits.dtype, device=logits.device)
    for chunk in row_chunks(logits, logits.shape[-2], size, align_corners):
        scores = resize_rows(logits[..., chunk.source, :], chunk.weights, size[1], align_corners)
        shares[:, chunk.rows] = scores.softmax(1).gather(1, target[:, None, chunk.rows])[:, 0]
    known = shares[valid]
    if not len(known):
        return valid
    rank = min(hard.min_kept * len(target), len(known) - 1)
    limit = known.kthvalue(rank + 1).values.clamp(min=hard.threshold)
    return valid & (shares < limit)


def _refuse_others(target: Tensor, classes: int) -> None:
    lowest, highest = (int(value) for value in target.aminmax())
    if lowest < 0 or highest >= classes:
        raise ValueError(f"label has value {lowest if lowest < 0 else highest} but there are {classes} classes")


class _Upsampled(torch.autograd.Function):
    """Sum the cross-entropy of upsampled logits ``(N, C, h, w)`` over the valid pixels."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, weight: Tensor, align_corners: bool) -> Tensor:
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
                scores.view(-1, wide.shape[1]), target[:, chunk.rows].flatten(), weight[:, chunk.rows].flatten()
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
    """On the CPU, pad logits of few classes with classes of probability 0 until they fill a vector register.

    torch's softmax over fewer values does not use vector instructions and is twenty times slower.
    """
    missing = VECTOR - logits.shape[1]
    if logits.device.type != "cpu" or missing <= 0:
        return logits
    lowest = torch.finfo(logits.dtype).min / 4  # finite after interpolation, and its exponential is 0
    return F.pad(logits, (0, 0, 0, 0, 0, missing), value=lowest)


def _pixels(scores: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the summed loss of scores ``(P, C)`` and its gradient, the softmax minus 1 at the target.

    One softmax gives both; torch's backward pass computes a second exponential to invert the log-softmax.
    """
    shares, place = scores.softmax(1), target[:, None]
    own = shares.gather(1, place)[:, 0]
    on_cpu = own.device.type == "cpu"
    if on_cpu and own.amin() >= torch.finfo(own.dtype).tiny:
        loss = -own.log()
    else:  # a probability may have underflowed; on a GPU, finding out would make the host wait
        loss = scores.amax(1) - shares.amax(1).log() - scores.gather(1, place)[:, 0]
    shares.scatter_(1, place, (own - 1)[:, None])
    if weight.is_floating_point() or not (on_cpu and weight.all()):
        loss, shares = loss * weight, shares.mul_(weight[:, None])
    return loss.sum(), shares

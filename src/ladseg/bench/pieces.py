"""Measure the operations that LAD adds to the networks' passes.

Each is compared with simpler implementations, with the operations that no implementation can avoid (by torch's own
kernels), and with copying the bytes that are read and written.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ladseg.bench.setting import Setting
from ladseg.distillers import cwd_loss
from ladseg.label_noise import LabelNoise
from ladseg.losses.cross_entropy import cross_entropy
from ladseg.measure.peak_memory import added_by
from ladseg.measure.timing import in_turns
from ladseg.resize import VECTOR, mix_rows, resize_logits, row_chunks

Work = Callable[[], object]
CLASSES = (11, 19, 171)
# Stride of the logits in pixels.
STRIDE = 8
FLOAT = 4
ALPHA = 0.01
TAU = 4.0


def bench_pieces(setting: Setting) -> list[dict[str, Any]]:
    """Measure each operation with few and with many classes.

    Returns:
        Rows of ``piece``, ``classes``, ``forms`` (milliseconds by name, ours first), ``floor`` (milliseconds of the
        unavoidable operations), ``bytes`` that must be moved, ``copying`` (milliseconds that copying as many bytes
        takes here), and ``memory`` (bytes that our implementation needs in addition to its input).
    """
    rows = []
    for classes in CLASSES:
        label = _label(setting, classes)
        for name, piece in {
            "noise": _noise(label, classes),
            "cross-entropy": _cross_entropy(setting, label, classes),
            "cwd": _cwd(setting, classes),
        }.items():
            rows.append({"piece": name, "classes": classes, **_measure(piece, setting.device)})
    return rows


@dataclass(frozen=True)
class _Piece:
    """Implementations of one operation, ours first; its unavoidable part; the bytes that it must read and write."""

    forms: dict[str, Work]
    floor: Work
    moved: int


def _measure(piece: _Piece, device: torch.device) -> dict[str, Any]:
    source = torch.ones(piece.moved // (2 * FLOAT), device=device)
    target = torch.empty_like(source)
    beside: dict[str, Work] = {"floor": piece.floor, "copying": lambda: target.copy_(source)}
    seconds = in_turns({**piece.forms, **beside}, device, patience=10.0, shortest=0.02)
    times = {name: 1e3 * statistics.median(values) for name, values in seconds.items()}
    return {
        "forms": {name: times[name] for name in piece.forms},
        "floor": times["floor"],
        "bytes": piece.moved,
        "copying": times["copying"],
        "memory": added_by(piece.forms["ours"], device),
    }


def _label(setting: Setting, classes: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    size = (setting.batch_size, *setting.size)
    return torch.randint(classes, size, generator=generator).to(setting.device)


def _noise(label: Tensor, classes: int) -> _Piece:
    """Return Eq. 5, which draws a number per pixel, reads label and noise, and writes noise and sum."""
    noise = LabelNoise(classes, ALPHA)

    def class_loop() -> Tensor:
        weights = torch.randn(len(label), classes, device=label.device)
        noised = torch.zeros(label.shape, device=label.device)
        for index in range(classes):
            noised += weights[:, index, None, None] * (label == index)
        return noised + ALPHA * torch.randn_like(noised)

    def one_hot() -> Tensor:
        weights = torch.randn(len(label), classes, device=label.device)
        noised = torch.einsum("nhwc,nc->nhw", F.one_hot(label, classes).float(), weights)
        return noised + ALPHA * torch.randn_like(noised)

    forms: dict[str, Work] = {"ours": lambda: noise(label), "loop over classes": class_loop, "one-hot": one_hot}
    moved = label.numel() * (label.element_size() + 3 * FLOAT)
    return _Piece(forms, lambda: torch.randn(label.shape, device=label.device), moved)


def _cross_entropy(setting: Setting, label: Tensor, classes: int) -> _Piece:
    """Return the loss and its gradient, the softmax of the upsampled logits minus the label, downsampled again.

    Each of these maps is written and read.
    """
    logits = _logits(setting, classes)

    def ours() -> None:
        logits.grad = None
        cross_entropy(logits, label).backward()

    def torchs() -> None:
        logits.grad = None
        full = F.interpolate(logits, size=setting.size, mode="bilinear", align_corners=True)
        F.cross_entropy(full, label, ignore_index=255).backward()

    full = _logits(setting, max(classes, VECTOR)).detach()  # torch's softmax of fewer takes longer

    def floor() -> None:
        wide = resize_logits(full, (full.shape[-2], setting.size[1])).permute(0, 2, 3, 1)
        band = wide.flatten(2)
        slope = torch.zeros_like(band)
        for chunk in row_chunks(full, full.shape[-2], setting.size):
            scores = mix_rows(chunk.weights, band[:, chunk.source])
            shares = scores.view(-1, full.shape[1]).softmax(-1)
            slope[:, chunk.source] += mix_rows(chunk.weights.T, shares.view_as(scores))
        slope = slope.view(wide.shape).permute(0, 3, 1, 2)
        torch.ops.aten.upsample_bilinear2d_backward(slope, list(slope.shape[2:]), list(full.shape), True)

    return _Piece({"ours": ours, "upsampled whole": torchs}, floor, 4 * FLOAT * classes * label.numel())


def _cwd(setting: Setting, classes: int) -> _Piece:
    """Return the loss and the student's gradient, the difference of the two softmaxes.

    Both maps are read twice, the first time for their sums, and one map is written.
    """
    student, teacher = _logits(setting, classes), _logits(setting, classes).detach()

    def ours() -> None:
        student.grad = None
        cwd_loss(student, teacher).backward()

    def floor() -> None:
        student.grad = None
        _SlopeAlone.apply(student, teacher).backward()

    return _Piece({"ours": ours}, floor, 5 * FLOAT * student.numel())


class _SlopeAlone(torch.autograd.Function):
    """Computes CWD's gradient alone, with a loss of 0 for autograd to start from."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor) -> Tensor:
        many = student.shape[1] >= VECTOR  # torch's softmax uses vector instructions from this many on
        maps = (logits.flatten(2).mT if many else logits.contiguous().flatten(2) for logits in (student, teacher))
        one, other = ((logits / TAU).softmax(1 if many else 2) for logits in maps)
        ctx.save_for_backward(one.sub_(other))
        ctx.many, ctx.size = many, student.shape[2:]
        return student.new_zeros(())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        slope = slope * grad
        return (slope.mT if ctx.many else slope).unflatten(2, ctx.size), None


def _logits(setting: Setting, classes: int) -> Tensor:
    """Return random logits in channels_last, the networks' memory format."""
    height, width = (-(-side // STRIDE) for side in setting.size)
    logits = torch.randn(setting.batch_size, classes, height, width, device=setting.device)
    return logits.contiguous(memory_format=torch.channels_last).requires_grad_()

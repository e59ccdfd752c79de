"""What LAD adds to the networks' passes, piece by piece: beside plainer forms and beside the bytes it must move."""

import statistics
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ladseg import LabelNoise
from ladseg.distillers import cwd_loss
from ladseg.losses import cross_entropy
from ladseg.studies.bench.setting import Setting
from ladseg.studies.memory import added_by
from ladseg.studies.timing import in_turns

Work = Callable[[], object]
CLASSES = (19, 171)
# Pixels of the image for one position of the logits, along a side.
STRIDE = 8
FLOAT = 4
ALPHA = 0.01


def bench_pieces(setting: Setting) -> list[dict[str, Any]]:
    """Pieces at few and at many classes.

    Returns:
        Rows of ``piece``, ``classes``, ``forms`` (milliseconds by name, ours first), ``bytes`` that must be moved,
        ``floor``, milliseconds that copying as many takes here, and ``memory``, bytes that ours needs beside its input.
    """
    rows = []
    for classes in CLASSES:
        label = _label(setting, classes)
        for piece, forms, moved in (
            ("noise", *_noise(label, classes)),
            ("cross-entropy", *_cross_entropy(setting, label, classes)),
            ("cwd", *_cwd(setting, classes)),
        ):
            copied = torch.ones(moved // (2 * FLOAT), device=setting.device)
            target = torch.empty_like(copied)
            floor = {"floor": lambda target=target, copied=copied: target.copy_(copied)}
            seconds = in_turns({**forms, **floor}, setting.device, patience=10.0)
            times = {name: 1e3 * statistics.median(values) for name, values in seconds.items()}
            rows.append(
                {
                    "piece": piece,
                    "classes": classes,
                    "forms": {name: times[name] for name in forms},
                    "bytes": moved,
                    "floor": times["floor"],
                    "memory": added_by(forms["ours"], setting.device),
                }
            )
    return rows


def _label(setting: Setting, classes: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    size = (setting.batch_size, *setting.size)
    return torch.randint(classes, size, generator=generator).to(setting.device)


def _noise(label: Tensor, classes: int) -> tuple[dict[str, Work], int]:
    """Eq. 5. The label is read, one float a pixel is drawn and added: written, read, read, written."""
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

    moved = label.numel() * (label.element_size() + 4 * FLOAT)
    return {"ours": lambda: noise(label), "loop over classes": class_loop, "one-hot": one_hot}, moved


def _cross_entropy(setting: Setting, label: Tensor, classes: int) -> tuple[dict[str, Work], int]:
    """Loss and gradient. Upsampled logits are written and read, their gradient is written and read."""
    logits = _logits(setting, classes)

    def ours() -> None:
        logits.grad = None
        cross_entropy(logits, label).backward()

    def torchs() -> None:
        logits.grad = None
        full = F.interpolate(logits, size=setting.size, mode="bilinear", align_corners=True)
        F.cross_entropy(full, label, ignore_index=255).backward()

    return {"ours": ours, "upsampled whole": torchs}, 4 * FLOAT * classes * label.numel()


def _cwd(setting: Setting, classes: int) -> tuple[dict[str, Work], int]:
    """Loss and the student's gradient. Both logits are read twice (maximum and sum, then the terms), one is written."""
    student, teacher = _logits(setting, classes), _logits(setting, classes).detach()

    def ours() -> None:
        student.grad = None
        cwd_loss(student, teacher).backward()

    return {"ours": ours}, 5 * FLOAT * student.numel()


def _logits(setting: Setting, classes: int) -> Tensor:
    height, width = (-(-side // STRIDE) for side in setting.size)
    return torch.randn(setting.batch_size, classes, height, width, device=setting.device, requires_grad=True)

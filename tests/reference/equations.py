"""The paper's equations and the distillation losses, element by element in float64."""

import math

import torch
from torch import Tensor


def label_noise(label: Tensor, weights: Tensor, noise: Tensor, alpha: float) -> Tensor:
    """Eq. 5 for one image with a real one-hot: ``sum_j(w_j * onehot_j) + alpha * Z``; label indexes ``weights``."""
    onehot = torch.nn.functional.one_hot(label, len(weights)).permute(2, 0, 1).double()
    return (weights.double()[:, None, None] * onehot).sum(0) + alpha * noise.double()


def softmax(values: list[float]) -> list[float]:
    top = max(values)
    exponentials = [math.exp(v - top) for v in values]
    total = sum(exponentials)
    return [e / total for e in exponentials]


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True) if a > 0)


def cwd(student: Tensor, teacher: Tensor, tau: float) -> float:
    """facts: ``tau^2 / (N C) * sum_{n,c} KL(phi_c(T) || phi_c(S))``, phi over positions."""
    images, channels = student.shape[:2]
    total = 0.0
    for n in range(images):
        for c in range(channels):
            p = softmax([v / tau for v in teacher[n, c].double().flatten().tolist()])
            q = softmax([v / tau for v in student[n, c].double().flatten().tolist()])
            total += kl(p, q)
    return tau**2 / (images * channels) * total


def kd(student: Tensor, teacher: Tensor, tau: float) -> float:
    """Mean over positions of ``KL(softmax(T / tau) || softmax(S / tau)) * tau^2``, softmax over classes."""
    images, _, height, width = student.shape
    total = 0.0
    for n in range(images):
        for y in range(height):
            for x in range(width):
                p = softmax([v / tau for v in teacher[n, :, y, x].double().tolist()])
                q = softmax([v / tau for v in student[n, :, y, x].double().tolist()])
                total += kl(p, q)
    return tau**2 * total / (images * height * width)


def cross_entropy(logits: Tensor, label: Tensor, ignore_index: int = 255) -> float:
    """Mean negative log-probability over the pixels that count; logits already at the label's size."""
    total, count = 0.0, 0
    for n in range(len(label)):
        for y in range(label.shape[1]):
            for x in range(label.shape[2]):
                if int(label[n, y, x]) != ignore_index:
                    total -= math.log(softmax(logits[n, :, y, x].double().tolist())[int(label[n, y, x])])
                    count += 1
    return total / count


def upsample(logits: Tensor, height: int, width: int, align_corners: bool = True) -> Tensor:
    """Upsample bilinearly, one output position at a time; without aligned corners, positions are squares' centres."""
    h, w = logits.shape[-2:]
    logits = logits.double()
    result = torch.zeros(*logits.shape[:2], height, width, dtype=torch.float64)
    for y in range(height):
        for x in range(width):
            if align_corners:
                sy = y * (h - 1) / (height - 1) if height > 1 else 0.0
                sx = x * (w - 1) / (width - 1) if width > 1 else 0.0
            else:
                sy = min(max((y + 0.5) * h / height - 0.5, 0.0), h - 1.0)
                sx = min(max((x + 0.5) * w / width - 0.5, 0.0), w - 1.0)
            y0, x0 = min(int(sy), h - 1), min(int(sx), w - 1)
            y1, x1 = min(y0 + 1, h - 1), min(x0 + 1, w - 1)
            fy, fx = sy - y0, sx - x0
            top = logits[..., y0, x0] * (1 - fx) + logits[..., y0, x1] * fx
            bottom = logits[..., y1, x0] * (1 - fx) + logits[..., y1, x1] * fx
            result[..., y, x] = top * (1 - fy) + bottom * fy
    return result


def mean_iou(prediction: Tensor, label: Tensor, num_classes: int, ignore_index: int = 255) -> float:
    """Counts by sets of pixels, classes absent from both left out."""
    ious = []
    for c in range(num_classes):
        pairs = [
            (p == c, t == c)
            for p, t in zip(prediction.flatten().tolist(), label.flatten().tolist(), strict=True)
            if t != ignore_index
        ]
        union = sum(a or b for a, b in pairs)
        if union:
            ious.append(sum(a and b for a, b in pairs) / union)
    return sum(ious) / len(ious)

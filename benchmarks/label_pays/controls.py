"""What is done to batch or loss, without any helper."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ladseg.outputs import SegmentationOutput
from ladseg.seeds import generator_for

from .batches import data
from .setting import CLASSES, IGNORE, Batch


def pasted(batch: Batch, by_label: bool) -> Batch:
    """Half the images get a part of their neighbour: half of its classes' regions, or a rectangle of 30 to 60 %."""
    draw = generator_for(int(batch["seed"][0]), "paste")
    image, label = batch["image"].clone(), batch["label"].clone()
    for k in range(len(label)):
        neighbour = (k + 1) % len(label)
        if torch.rand((), generator=draw) < 0.5:
            continue
        other = batch["label"][neighbour]
        mask = half_of_classes(other, draw) if by_label else rectangle(other, draw)
        image[k] = torch.where(mask, batch["image"][neighbour], image[k])
        label[k] = torch.where(mask, other, label[k])
    return batch | {"image": image, "label": label}


def half_of_classes(label: Tensor, draw: Generator) -> Tensor:
    there = label.unique()
    there = there[there != IGNORE]
    return torch.isin(label, there[torch.randperm(len(there), generator=draw)[: (len(there) + 1) // 2]])


def rectangle(label: Tensor, draw: Generator) -> Tensor:
    mask = torch.zeros_like(label, dtype=torch.bool)
    share = 0.3 + 0.3 * float(torch.rand((), generator=draw))
    sides = [round(side * share**0.5) for side in label.shape]
    top, left = (int(torch.randint(a - b + 1, (), generator=draw)) for a, b in zip(label.shape, sides, strict=True))
    mask[top : top + sides[0], left : left + sides[1]] = True
    return mask


def weighted_cross_entropy(setting: str, power: float) -> Callable[[SegmentationOutput, Tensor], Tensor]:
    dataset = data(setting, "train")
    labels = [dataset.read(index)[1].flatten().long() for index in range(len(dataset))]
    counts = torch.stack([torch.bincount(label, minlength=256)[:CLASSES] for label in labels]).sum(0).double()
    weight = (counts.sum() / counts) ** power
    weight = (weight * counts.sum() / (weight * counts).sum()).float()

    def loss(out: SegmentationOutput, label: Tensor) -> Tensor:
        wide = F.interpolate(out.logits, label.shape[-2:], mode="bilinear", align_corners=True)
        return F.cross_entropy(wide, label, weight, ignore_index=IGNORE)

    return loss

"""Predict a data set and count."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ladseg.evaluation.confusion_matrix import ConfusionMatrix
from ladseg.evaluation.inference import WHOLE, Inference, class_ids

# A batch with image (N, 3, H, W) and label (N, H, W) to class ids (N, H, W).
Predictor = Callable[[dict[str, Tensor]], Tensor]


def by_argmax(network: Callable[[dict[str, Tensor]], Any], how: Inference = WHOLE) -> Predictor:
    """Return the predictor that takes the class of the highest score.

    Args:
        network: A batch to a :class:`ladseg.SegmentationOutput`, or to anything that its ``of`` reads.
        how: How to predict.
    """
    return lambda batch: class_ids(lambda image: network({**batch, "image": image}), batch["image"], how)


@dataclass(frozen=True)
class Evaluation:
    """What a predictor made of a data set.

    Attributes:
        matrix: The counts of all images.
        images: ``(M, 3, C)`` int64: of each image, in the data set's order, the pixels of each class that are right,
            those of the label, and those predicted.
    """

    matrix: ConfusionMatrix
    images: Tensor

    @classmethod
    def of(cls, confusion: Tensor, images: Tensor) -> "Evaluation":
        """From the plain arrays."""
        matrix = ConfusionMatrix(len(confusion))
        matrix.counts += confusion
        return cls(matrix, images)


@torch.inference_mode()
def evaluate(
    predictor: Predictor,
    batches: Iterable[dict[str, Tensor]],
    num_classes: int,
    device: torch.device | str = "cpu",
) -> Evaluation:
    """Count what a predictor gets right, each image at its label's own resolution, merged over processes.

    Args:
        predictor: What is measured; networks in it must be in eval mode.
        batches: Dicts of image and label of one sample each, its index in the data set, and whatever else the
            predictor reads; this process's share of the data set.
        num_classes: Number of classes C.
        device: Where to predict.
    """
    matrix = ConfusionMatrix(num_classes)
    images: dict[int, Tensor] = {}
    for batch in batches:
        image = batch["image"].to(device, memory_format=torch.channels_last)
        label = batch["label"].to(device).long()
        one = ConfusionMatrix(num_classes)
        one.update(predictor({**batch, "image": image, "label": label}), label)
        matrix.merge(one)
        images[int(batch["index"])] = one.class_counts()
    matrix.merge_processes(device)
    images = _merged(images)
    return Evaluation(matrix, torch.stack([images[index] for index in sorted(images)]))


def _merged(images: dict[int, Tensor]) -> dict[int, Tensor]:
    """The images of all processes on each of them."""
    if not (dist.is_available() and dist.is_initialized()):
        return images
    parts: list[dict[int, Tensor]] = [{}] * dist.get_world_size()
    dist.all_gather_object(parts, images)
    return {index: counts for part in parts for index, counts in part.items()}

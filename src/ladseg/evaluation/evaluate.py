"""Predict a data set and count correct pixels."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ladseg.evaluation.confusion_matrix import ConfusionMatrix
from ladseg.evaluation.inference import WHOLE, Inference, class_ids

# A function from a batch with image (N, 3, H, W) and label (N, H, W) to class ids (N, H, W).
Predictor = Callable[[dict[str, Tensor]], Tensor]


def by_argmax(network: Callable[[dict[str, Tensor]], Any], how: Inference = WHOLE) -> Predictor:
    """Return the predictor that takes the argmax of a network's logits.

    Args:
        network: Maps a batch to a :class:`ladseg.SegmentationOutput`, or to anything that its ``of`` reads.
        how: How to predict.
    """
    return lambda batch: class_ids(lambda image: network({**batch, "image": image}), batch["image"], how)


@dataclass(frozen=True)
class Evaluation:
    """The counts of a predictor on a data set.

    Attributes:
        matrix: The confusion matrix of all images.
        images: ``(M, 3, C)`` int64: for each image, in the data set's order, each class's correct pixels, those of the
            label, and those predicted.
    """

    matrix: ConfusionMatrix
    images: Tensor

    @classmethod
    def of(cls, confusion: Tensor, images: Tensor) -> "Evaluation":
        """Make an evaluation from the arrays of its attributes."""
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
    """Count a predictor's correct pixels, each image at its label's resolution, merged over processes.

    Args:
        predictor: The predictor; its networks must be in eval mode.
        batches: This process's share of the data set, as dicts of one sample's image, label, index in the data set, and
            whatever else the predictor reads.
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
    """Return the images of all processes, on each process."""
    if not (dist.is_available() and dist.is_initialized()):
        return images
    parts: list[dict[int, Tensor]] = [{}] * dist.get_world_size()
    dist.all_gather_object(parts, images)
    return {index: counts for part in parts for index, counts in part.items()}

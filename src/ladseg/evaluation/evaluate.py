"""Predict a data set and count."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ladseg.evaluation.confusion_matrix import ConfusionMatrix
from ladseg.outputs import resize_logits

# A batch with image (N, 3, H, W) and label (N, H, W) to logits (N, C, h, w).
Predictor = Callable[[dict[str, Tensor]], Tensor]


@torch.inference_mode()
def evaluate(
    predictor: Predictor,
    batches: Iterable[dict[str, Tensor]],
    num_classes: int,
    device: torch.device | str = "cpu",
) -> ConfusionMatrix:
    """The confusion matrix of a predictor, each image at its label's own resolution, merged over processes.

    Args:
        predictor: What is measured; networks in it must be in eval mode.
        batches: Dicts of image, label and whatever else the predictor reads; this process's share of the data set.
        num_classes: Number of classes C.
        device: Where to predict.
    """
    matrix = ConfusionMatrix(num_classes)
    for batch in batches:
        image = batch["image"].to(device, memory_format=torch.channels_last)
        label = batch["label"].to(device).long()
        logits = predictor({**batch, "image": image, "label": label})
        matrix.update(resize_logits(logits, (label.shape[-2], label.shape[-1])).argmax(1), label)
    return matrix.merge_processes(device)

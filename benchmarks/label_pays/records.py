"""Evaluation, and the record of a training."""

import copy
import json

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ladseg.data.transforms import normalize
from ladseg.evaluation.confusion_matrix import ConfusionMatrix, iou_of
from ladseg.seeds import generator_for

from .batches import data, last
from .channels import Channel
from .networks import MovingAverage, forward
from .setting import CLASSES, MEAN, home, weights_file


@torch.no_grad()
def evaluate(net: nn.Module, setting: str, split: str = "val", channel: "Channel | None" = None) -> Tensor:
    """Counts (images, C, C) at the labels' size; with ``channel`` a teacher sees what that makes of the labels."""
    was_training = net.training
    net.eval()
    dataset, counts = data(setting, split), []
    for start in range(0, len(dataset), 10):
        pairs = [dataset.read(index) for index in range(start, min(start + 10, len(dataset)))]
        image = torch.stack([normalize(one, MEAN, MEAN) for one, _ in pairs])
        label = torch.stack([one for _, one in pairs]).long()
        if channel is not None:
            draws = [generator_for("ev", start + k) for k in range(len(label))]
            image = torch.cat([image, channel(label, draws)], 1)
        logits = forward(net, last(image)).logits
        prediction = F.interpolate(logits, label.shape[-2:], mode="bilinear", align_corners=True).argmax(1)
        for one, true in zip(prediction, label, strict=True):
            matrix = ConfusionMatrix(CLASSES)
            matrix.update(one, true)
            counts.append(matrix.counts)
    net.train(was_training)
    return torch.stack(counts)


def per_class(counts: Tensor) -> Tensor:
    total = counts.sum(0)
    return 100 * iou_of(torch.stack([total.diagonal(), total.sum(1), total.sum(0)]))


def miou(counts: Tensor) -> float:
    return float(per_class(counts).nanmean())


def record(row: dict) -> None:
    with (home() / "results.jsonl").open("a") as file:
        file.write(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}) + "\n")
    print(json.dumps(row), flush=True)


def finish(row: dict, net: nn.Module, average: MovingAverage) -> None:
    """Evaluate the last weights and their average, keep both with the counts of each image, and write the row."""
    averaged = copy.deepcopy(net)
    averaged.load_state_dict(average.state)
    counts, averaged_counts = (evaluate(one, row["setting"]) for one in (net, averaged))
    iou = [round(value, 1) for value in per_class(counts).tolist()]
    kept = {"last": net.state_dict(), "counts_last": counts.int()}
    kept |= {"ema": average.state, "counts_ema": averaged_counts.int()}
    torch.save(kept, weights_file(row["name"], row["setting"], row["seed"]))
    record(row | {"last": miou(counts), "ema": miou(averaged_counts), "iou": iou})

"""What a run's networks answer on chosen validation images, for the eye."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ladseg.data import SegmentationDataset, eval_loader
from ladseg.objectives import LabelAssisted
from ladseg.objectives.noise_draws import noise_generators
from ladseg.objectives import Network, segmenter
from ladseg.runs.validation import predictor_of


@dataclass(frozen=True)
class Answers:
    """One entry an image.

    Attributes:
        labels: Class ids ``(H, W)``.
        noised: What a label-assisted network is shown as its fourth channel, ``(H, W)`` float; empty for others.
    """

    labels: list[Tensor]
    noised: list[Tensor]


@torch.inference_mode()
def answers(network: Network, dataset: SegmentationDataset, indices: Sequence[int], device: torch.device) -> Answers:
    """Predict the images at ``indices`` as evaluation does, with the same noise draws."""
    inner, predict = segmenter(network), predictor_of(network)
    labels, noised = [], []
    for batch in eval_loader(dataset, mean=inner.input_mean, std=inner.input_std, indices=indices):
        batch = {**batch, "image": batch["image"].to(device), "label": batch["label"].to(device).long()}
        labels.append(predict(batch)[0].cpu())
        if isinstance(network, LabelAssisted):
            noised.append(network.noise(batch["label"], noise_generators(batch, 1))[0, 0].cpu())
    return Answers(labels, noised)

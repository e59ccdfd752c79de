"""What a teacher sees of a label."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ladseg.label_noise import LabelNoise
from ladseg.seeds import generator_for

from .setting import CLASSES, IGNORE, Batch


class Channel:
    """What a teacher sees of a label: class weights fixed or random, less of it, or a placebo."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.noise = LabelNoise(CLASSES, 0.01, IGNORE, 1.0, "random" if kind == "random" else "fixed")

    def __call__(self, label: Tensor, draws: Sequence[Generator]) -> Tensor:
        if self.kind == "shuffled":
            label = label.roll(1, 0)
        made = self.noise(label, draws)
        if self.kind == "blank":
            return torch.randn(made.shape, generator=draws[0])
        return blurred(made, draws[0]) if self.kind == "less" else made


def blurred(channel: Tensor, draw: Generator) -> Tensor:
    """Noise of a level from 0 to 1 that is drawn for each image, then half of the blocks of 16x16 at zero."""
    n, _, height, width = channel.shape
    level = torch.rand(n, 1, 1, 1, generator=draw)
    channel = (1 - level) * channel + level * torch.randn(channel.shape, generator=draw)
    keep = (torch.rand(n, 1, -(-height // 16), -(-width // 16), generator=draw) < 0.5).float()
    return channel * F.interpolate(keep, scale_factor=16, mode="nearest")[..., :height, :width]


class Zero(Channel):
    def __init__(self) -> None:
        super().__init__("zero")

    def __call__(self, label: Tensor, draws: Sequence[Generator]) -> Tensor:
        return torch.zeros(len(label), 1, *label.shape[1:])


def noise_draws(batch: Batch, path: int) -> list[Generator]:
    return [generator_for(seed, "label noise", path) for seed in batch["seed"].tolist()]

"""The data, and the batches of a seed, which all of its candidates share."""

from functools import cache

import torch
from torch import Tensor

from ladseg.data.cache import keep_decoded
from ladseg.data.dataset import SegmentationDataset, open_dataset
from ladseg.data.loader import TrainSamples, _collate
from ladseg.recipe import Augment, Data

from .setting import BATCH, MEAN, SETTINGS, Batch, home


@cache
def data(setting: str, split: str) -> SegmentationDataset:
    root = home() / SETTINGS[setting].folder
    spec = Data(root=str(root), classes=str(root / "classes.txt"), ignore_index=11)
    return keep_decoded(open_dataset(spec, split), "ram")


class Stream:
    """The batches of a seed by step, kept on disk once made: every candidate of a seed sees the same."""

    block = 50

    def __init__(self, setting: str, seed: int) -> None:
        self.samples = TrainSamples(data(setting, "train"), SETTINGS[setting].crop, BATCH, seed, MEAN, MEAN, Augment())
        self.folder = home() / "stream" / f"{SETTINGS[setting].folder}-{seed}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.held: tuple[int, tuple[Tensor, Tensor, Tensor]] | None = None

    def __getitem__(self, step: int) -> Batch:
        number, place = divmod(step, self.block)
        if self.held is None or self.held[0] != number:
            self.held = number, self._load(number)
        image, label, seeds = (part[place] for part in self.held[1])
        return {"image": last(image.float()), "label": label.long(), "seed": seeds}

    def _load(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        path = self.folder / f"{number}.pt"
        if not path.exists():
            steps = range(number * self.block, (number + 1) * self.block)
            made = [_collate([self.samples[step * BATCH + k] for k in range(BATCH)]) for step in steps]
            image, label, seeds = (torch.stack([batch[key] for batch in made]) for key in ("image", "label", "seed"))
            torch.save((image.bfloat16(), label, seeds), path)
        return torch.load(path)


def last(image: Tensor) -> Tensor:
    return image.contiguous(memory_format=torch.channels_last)

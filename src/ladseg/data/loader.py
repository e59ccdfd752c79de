"""Batches whose order and augmentation are functions of (seed, step, position) alone.

The result therefore does not depend on the number of workers or processes, and a run can start at any step without
replaying the earlier ones.
"""

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ladseg.data.dataset import SegmentationDataset
from ladseg.data.own_augmentation import augment_by
from ladseg.data.transforms import DEFAULT_AUGMENT, augment, normalize
from ladseg.errors import DataError, FileError, RecipeError, UserError, first_words
from ladseg.recipe import Augment
from ladseg.seeds import derive_seed, generator_for

Sample = dict[str, Tensor]


def train_loader(
    dataset: SegmentationDataset,
    *,
    crop: tuple[int, int],
    batch_size: int,
    seed: int,
    mean: Sequence[float],
    std: Sequence[float],
    start_step: int,
    steps: int,
    settings: Augment = DEFAULT_AUGMENT,
    workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
    unlabelled: SegmentationDataset | None = None,
    unlabelled_images: int = 0,
) -> "Batches":
    """Return the augmented training batches of the steps from ``start_step`` to ``steps``.

    Args:
        dataset: The training split; each epoch goes through it in a new random order.
        crop: Height and width in pixels.
        batch_size: Images per step over all processes; each process gets a contiguous share of the batch.
        seed: Determines order and augmentation.
        mean: Mean of each channel, of images in 0..1.
        std: Standard deviation of each channel, of images in 0..1.
        start_step: The first step to yield.
        steps: The step to stop before.
        settings: How images are augmented.
        workers: Number of loader processes.
        rank: Index of this process.
        world_size: Number of processes.
        unlabelled: Images without masks, passed over in a random order of their own.
        unlabelled_images: How many of a batch are taken from them, spread evenly over its places.

    Returns:
        Dicts of ``image`` (N, C, h, w) float32, ``label`` (N, h, w) uint8 and ``seed`` (N,) int64. Each sample has
        its own seed at each step, so that random draws depend on neither the batch nor the process.

    Raises:
        RecipeError: ``batch_size`` is not a multiple of the number of processes.
    """
    if batch_size % world_size:
        raise RecipeError(
            f"schedule.batch_size {batch_size} can't be shared by {world_size} processes; use a multiple of it"
        )
    samples = TrainSamples(
        dataset,
        crop,
        batch_size,
        seed,
        torch.tensor(mean),
        torch.tensor(std),
        settings,
        unlabelled,
        unlabelled_images,
    )
    share = batch_size // world_size
    order = Steps(start_step, steps, batch_size, rank * share, share)
    return _loader(samples, order, workers)


def eval_loader(
    dataset: SegmentationDataset,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
    indices: Sequence[int] | None = None,
) -> "Batches":
    """Return whole images at their own size, one per batch.

    Args:
        dataset: The split.
        mean: Mean of each channel, of images in 0..1.
        std: Standard deviation of each channel, of images in 0..1.
        workers: Number of loader processes.
        rank: Index of this process, which gets every ``world_size``-th image.
        world_size: Number of processes.
        indices: The samples to yield; None for all.

    Returns:
        Dicts with the keys of :func:`train_loader`, and ``index`` (1,) int64.
    """
    samples = EvalSamples(dataset, torch.tensor(mean), torch.tensor(std))
    chosen = list(range(len(dataset)) if indices is None else indices)[rank::world_size]
    return _loader(samples, [[index] for index in chosen], workers)


def _loader(samples: Dataset, batches: Sampler | list[list[int]], workers: int) -> "Batches":
    # Without a generator of its own, the loader would draw its base seed from torch's global one.
    loader = DataLoader(
        _Guarded(samples),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_collate,
        generator=torch.Generator(),
        worker_init_fn=_ignore_interrupts,
    )
    return Batches(loader)


def _ignore_interrupts(worker: int) -> None:
    """Ignore Ctrl-C in a loader process: the main process gets it too and ends the loaders."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@dataclass
class Batches:
    """The batches of a loader; an unreadable file raises the same error with any number of loader processes."""

    loader: DataLoader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Sample]:
        try:
            for batch in self.loader:
                if isinstance(batch, UserError):
                    raise batch
                yield batch
        except RuntimeError as error:
            # This is how torch's message begins when the system has killed a loader process.
            if "DataLoader worker" not in str(error) or isinstance(error, UserError):
                raise
            raise DataError(
                f"a loader process ended ({first_words(error)}); if memory ran out, use fewer data.workers"
            ) from None


@dataclass
class _Guarded(Dataset):
    """Yields a UserError in place of a sample that raised it.

    An exception raised in a loader process would reach the user as a traceback of thirty lines.
    """

    samples: Any

    def __getitem__(self, index: int) -> Sample | UserError:
        try:
            sample: Sample = self.samples[index]
        except FileError as error:
            return FileError(error.file, f"{error.what} (it may have changed since it was checked)", error.hint)
        except UserError as error:
            return error
        return sample


def _collate(samples: list[Sample | UserError]) -> Sample | UserError:
    good = [sample for sample in samples if not isinstance(sample, UserError)]
    if len(good) < len(samples):
        return next(sample for sample in samples if isinstance(sample, UserError))
    return {key: torch.stack([sample[key] for sample in good]) for key in good[0]}


class Steps(Sampler):
    """Yields each step's stream positions: step s has ``count`` of them, from ``s * batch_size + first`` on."""

    def __init__(self, start: int, stop: int, batch_size: int, first: int, count: int) -> None:
        self.start, self.stop, self.batch_size, self.first, self.count = start, stop, batch_size, first, count

    def __len__(self) -> int:
        return max(self.stop - self.start, 0)

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.start, self.stop):
            begin = step * self.batch_size + self.first
            yield list(range(begin, begin + self.count))


@dataclass
class TrainSamples(Dataset):
    """The endless stream of augmented samples, by position."""

    dataset: SegmentationDataset
    crop: tuple[int, int]
    batch_size: int
    seed: int
    mean: Tensor
    std: Tensor
    settings: Augment
    unlabelled: SegmentationDataset | None = None
    unlabelled_images: int = 0

    def __getitem__(self, position: int) -> Sample:
        step, offset = divmod(position, self.batch_size)
        image, label = self._read(step, offset)
        generator = generator_for(self.seed, "augment", step, offset)
        if self.settings.function is None:
            image, label = augment(image, label, self.crop, self.mean, self.std, generator, self.settings)
        else:
            image, label = augment_by(self.settings.function, image, label, self.crop, self.mean, self.std, generator)
        return {
            "image": image,
            "label": label,
            "seed": torch.tensor(derive_seed(self.seed, "sample", step, offset)),
        }

    def _read(self, step: int, offset: int) -> tuple[Tensor, Tensor]:
        """Return the image and label of a place in a batch, in the order of the data set that has this place."""
        dataset, name, count = self.dataset, "order", self.batch_size - self.unlabelled_images
        # Places without masks before this one, and up to it.
        before, after = (place * self.unlabelled_images // self.batch_size for place in (offset, offset + 1))
        rank = offset - before
        if after > before and self.unlabelled is not None:
            dataset, name, count, rank = self.unlabelled, "order of unlabelled", self.unlabelled_images, before
        epoch, place = divmod(step * count + rank, len(dataset))
        return dataset.read(int(_permutation(self.seed, name, epoch, len(dataset))[place]))


@dataclass
class EvalSamples(Dataset):
    """Normalised images at their own size, by index."""

    dataset: SegmentationDataset
    mean: Tensor
    std: Tensor

    def __getitem__(self, index: int) -> Sample:
        image, label = self.dataset.read(index)
        return {
            "image": normalize(image, self.mean, self.std),
            "label": label,
            "seed": torch.tensor(derive_seed("evaluation", index)),
            "index": torch.tensor(index),
        }


@lru_cache(maxsize=4)
def _permutation(seed: int, name: str, epoch: int, count: int) -> Tensor:
    return torch.randperm(count, generator=generator_for(seed, name, epoch))

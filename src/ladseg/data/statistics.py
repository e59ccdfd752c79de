"""Mean and standard deviation of each channel over a whole split."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ladseg.data.dataset import SegmentationDataset
from ladseg.progress import progress

LEVELS = np.arange(256)


def channel_statistics(dataset: SegmentationDataset) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of each channel, of values in 0..1, over all pixels of all images.

    Pixels are counted by their value, so sums are exact whatever the number of images.

    Raises:
        FileError: A file can't be read.
    """
    counts = sum(progress(_histograms(dataset), len(dataset), "measuring channels", "images"))
    pixels = np.asarray(counts, dtype=np.float64)
    share = pixels / pixels.sum(1, keepdims=True)
    mean = share @ (LEVELS / 255)
    variance = (share * (LEVELS / 255 - mean[:, None]) ** 2).sum(1)
    return mean.tolist(), np.sqrt(variance).tolist()


def _histograms(dataset: SegmentationDataset) -> Iterator[np.ndarray]:
    """Yield ``(C, 256)`` int64 of each image."""

    def count(index: int) -> np.ndarray:
        image = dataset.read(index)[0].flatten(1).numpy()
        return np.stack([np.bincount(channel, minlength=256) for channel in image])

    chunk = 4 * (os.cpu_count() or 1)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(dataset), chunk):
            yield from pool.map(count, range(start, min(start + chunk, len(dataset))))

"""A cache of decoded images and labels, in memory or in one file, for data sets that are read many times."""

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ladseg.data.dataset import SegmentationDataset
from ladseg.data.largest import free_memory
from ladseg.data.pairs import Blob, Drawing, Member, Source
from ladseg.errors import DataError
from ladseg.files import make_folder, remove_abandoned, write_atomically
from ladseg.progress import progress

# Part of the file's name, so that files in an older format are not read.
VERSION = 2

CHUNK = 64
Sample = tuple[Tensor, Tensor]


def keep_decoded(dataset: SegmentationDataset, where: str | None, title: str = "") -> SegmentationDataset:
    """Decode all images and labels of a data set once, and return the data set with them.

    Args:
        dataset: The data set.
        where: ``ram`` keeps them in this process's memory, which forked loader processes share. ``disk`` keeps them in
            a file below ``$XDG_CACHE_HOME/ladseg`` (``~/.cache/ladseg``), which all processes and later runs share and
            which is written anew when an image or mask changes. None keeps nothing.
        title: Name of the data set on the screen.

    Raises:
        DataError: There is not enough room, or a file can't be read.
    """
    if where is None:
        return dataset
    samples = progress(_decoded(dataset), len(dataset), f"decoding {title}", "pairs")
    if where == "ram":
        _refuse_without_room(dataset, free_memory(), "memory", "cache: disk")
        return replace(dataset, decoded=list(samples))
    path = cache_folder() / f"decoded-{fingerprint(dataset)}.bin"
    if not _is_sound(path, dataset):
        make_folder(path.parent)
        remove_abandoned(path.parent)
        _refuse_without_room(dataset, shutil.disk_usage(path.parent).free, f"disk at {path.parent}", "no cache")
        write_atomically(path, lambda temporary: _write(temporary, samples))
    return replace(dataset, decoded=MappedSamples(path, dataset.spec.channels))


def _is_sound(path: Path, dataset: SegmentationDataset) -> bool:
    """Return whether the file is intact and holds this many samples; a damaged one is written again."""
    try:
        return len(MappedSamples(path, dataset.spec.channels)) == len(dataset)
    except (OSError, ValueError):
        return False


def cache_folder() -> Path:
    """Return the folder of decoded data sets; users may delete it at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ladseg"


def _decoded(dataset: SegmentationDataset) -> Iterator[Sample]:
    """Decode with all cores, and yield every sample once, in order."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(dataset), CHUNK):
            yield from pool.map(dataset.read, range(start, min(start + CHUNK, len(dataset))))


def _refuse_without_room(dataset: SegmentationDataset, free: int, what: str, instead: str) -> None:
    """Refuse to decode into too little space; the estimate takes all samples to be as large as the first."""
    needed = len(dataset) * sum(tensor.numel() for tensor in dataset.read(0))
    if needed > 0.9 * free:
        raise DataError(
            f"data.cache: about {needed / 1e9:.1f} GB decoded, but {free / 1e9:.1f} GB of {what} are free; "
            f"use {instead}"
        )


class MappedSamples(Sequence[Sample]):
    """The samples of a file that :func:`keep_decoded` wrote, read on demand through the page cache.

    The file holds each image ``(H, W, C)`` and label ``(H, W)`` as bytes, then the sizes as int64 pairs, then the
    number of samples and a checksum of the sizes as one int64 each.

    Args:
        path: The file.
        channels: C.

    Raises:
        OSError: The file can't be read.
        ValueError: The file is damaged: truncated, too long, or with a wrong checksum.
    """

    def __init__(self, path: Path, channels: int = 3) -> None:
        self.path, self.channels = path, channels
        self._bytes = np.memmap(path, np.uint8, "r")
        count, check_sum = (int(value) for value in np.array(self._bytes[-16:]).view(np.int64))
        sizes = np.array(self._bytes[-16 - 16 * count : -16]) if count > 0 else np.empty(0, np.uint8)
        if len(sizes) != 16 * count or zlib.crc32(sizes.tobytes()) != check_sum:
            raise ValueError(f"{path}: its end is spoilt")
        self._sizes = sizes.view(np.int64).reshape(count, 2)
        self._starts = np.cumsum([0, *((channels + 1) * self._sizes.prod(1))])
        if self._starts[-1] + 16 * count + 16 != len(self._bytes):
            raise ValueError(f"{path}: {len(self._bytes)} bytes, which do not fit its samples")

    def __reduce__(self) -> tuple[type["MappedSamples"], tuple[Path, int]]:
        # A spawned process maps the file itself; pickling must not send it the content.
        return MappedSamples, (self.path, self.channels)

    def __len__(self) -> int:
        return len(self._sizes)

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        height, width = (int(length) for length in self._sizes[index])
        start, middle = int(self._starts[index]), int(self._starts[index]) + self.channels * height * width
        # Copy the bytes, because torch needs writable memory.
        image = np.array(self._bytes[start:middle]).reshape(height, width, self.channels)
        label = np.array(self._bytes[middle : middle + height * width]).reshape(height, width)
        return torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(label)


def _write(path: Path, samples: Iterator[Sample]) -> None:
    sizes = []
    with path.open("wb") as file:
        for image, label in samples:
            file.write(image.permute(1, 2, 0).contiguous().numpy().tobytes())
            file.write(label.numpy().tobytes())
            sizes.append(label.shape)
        ends = np.array(sizes, np.int64).tobytes()
        file.write(ends + np.array([len(sizes), zlib.crc32(ends)], np.int64).tobytes())


def fingerprint(dataset: SegmentationDataset) -> str:
    """Return a digest of the files' paths, sizes and modification times and of the spec; no file is read."""
    digest = hashlib.blake2b(digest_size=16)
    spec = dataset.spec
    digest.update(json.dumps([VERSION, spec.lookup()[0].tolist(), spec.mask_colors, spec.value_range]).encode())
    if spec.channels != 3:
        digest.update(f"{spec.channels} channels".encode())
    for pair in dataset.pairs:
        for source in pair:
            digest.update(_identity(source))
    return digest.hexdigest()


def _identity(source: Source) -> bytes:
    if isinstance(source, Drawing):
        return source.labels.digest.encode() + _identity(source.source)
    if isinstance(source, Blob):
        return hashlib.blake2b(source.content, digest_size=16).digest()
    file = source.archive if isinstance(source, Member) else source
    place = f"|{source.name}|{source.offset}" if isinstance(source, Member) else ""
    try:
        state = file.stat()
    except OSError:  # a broken link, which the check reports
        return os.fsencode(file.absolute())
    return os.fsencode(file.absolute()) + f"{place}|{state.st_size}|{state.st_mtime_ns}|".encode()

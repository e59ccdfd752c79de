"""Look at every file before hours are spent on them."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ladseg.data.dataset import open_dataset
from ladseg.data.read import read_image, read_mask
from ladseg.data.spec import DatasetSpec
from ladseg.errors import DataError
from ladseg.recipe import Data


def check_dataset(data: Data, splits: Sequence[str] = ("train", "val")) -> None:
    """Read all images and masks of the splits.

    Raises:
        DataError: The first fault in the order of the files, in one line: an image without a mask, sizes that differ, a
            mask value outside the classes, an unreadable file, a mask in colour, an empty split.
    """
    for split in splits:
        dataset = open_dataset(data, split)
        known = dataset.spec.lookup()[1]

        def fault(pair: tuple[Path, Path], spec: DatasetSpec = dataset.spec, known: np.ndarray = known) -> str | None:
            return _fault(*pair, spec, known)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            faults = [found for found in pool.map(fault, dataset.pairs) if found]
        if faults:
            more = f" (and {len(faults) - 1} more files of '{split}' with faults)" if len(faults) > 1 else ""
            raise DataError(faults[0] + more)


def _fault(image_path: Path, mask_path: Path, spec: DatasetSpec, known: np.ndarray) -> str | None:
    """What is wrong with a pair; None if nothing is."""
    try:
        image, mask = read_image(image_path), read_mask(mask_path)
    except DataError as error:
        return str(error)
    if tuple(image.shape[1:]) != mask.shape:
        (height, width), (mask_height, mask_width) = image.shape[1:], mask.shape
        return f"{mask_path}: mask is {mask_width}x{mask_height} but its image {image_path} is {width}x{height}"
    counts = np.bincount(mask.ravel(), minlength=256)
    values = np.flatnonzero(counts)
    strange = values[~known[values]]
    if len(strange):
        return _strange_values(mask_path, strange.tolist(), spec)
    if spec.label_map is None and spec.num_classes == 2 and spec.ignore_index == 255 and values.tolist() == [0, 255]:
        return f"{mask_path}: {_BINARY_HINT}"
    return None


_BINARY_HINT = (
    "mask holds only 0 and 255, so no pixel of class 1: if 255 is the foreground, "
    "set label_map: {0: 0, 255: 1} and ignore_index: null"
)


def _strange_values(path: Path, values: list[int], spec: DatasetSpec) -> str:
    shown = ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")
    noun = "value" if len(values) == 1 else "values"
    return (
        f"{path}: mask has {noun} {shown} but there are {spec.num_classes} classes (0..{spec.num_classes - 1}) and "
        f"ignore_index {spec.ignore_index}; correct data.classes, or set data.ignore_index or data.label_map"
    )

"""A split of a data set: pairs of files, read one at a time."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ladseg.data.folder import Pairs, folder_pairs
from ladseg.data.read import read_image, read_mask
from ladseg.data.spec import DatasetSpec, make_spec
from ladseg.errors import DataError
from ladseg.recipe import Data

LAYOUTS: dict[str, Callable[[Path, str], Pairs]] = {"folder": folder_pairs}


@dataclass
class SegmentationDataset:
    """Image and mask files with the meaning of their ids.

    Attributes:
        pairs: Image and mask path of each sample.
        spec: Classes and ids.
    """

    pairs: Pairs
    spec: DatasetSpec
    _table: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._table = self.spec.lookup()[0]

    def __len__(self) -> int:
        return len(self.pairs)

    def read(self, index: int) -> tuple[Tensor, Tensor]:
        """Image ``(3, H, W)`` uint8 and label ``(H, W)`` uint8 of class ids, 255 where ignored."""
        image_path, mask_path = self.pairs[index]
        return read_image(image_path), torch.from_numpy(self._table[read_mask(mask_path)])


def open_dataset(data: Data, split: str) -> SegmentationDataset:
    """A split of the data set that a recipe names.

    Raises:
        DataError: An unknown layout, a missing folder, an image without a mask, an empty split.
    """
    if data.layout not in LAYOUTS:
        raise DataError(f"data.layout '{data.layout}' is not one of {', '.join(LAYOUTS)}")
    if not data.root or not Path(data.root).is_dir():
        raise DataError(f"data.root '{data.root}' is no folder; give the one that holds the data set")
    return SegmentationDataset(LAYOUTS[data.layout](Path(data.root), split), make_spec(data))

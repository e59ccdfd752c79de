"""A split of a data set: pairs of an image and a mask file, read one at a time."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ladseg.data.division import divide
from ladseg.data.layouts import get_layout
from ladseg.data.pairs import ChosenPairs, Listing, PackedPairs, Pairs, Source
from ladseg.data.read import read_image, read_mask
from ladseg.data.spec import DatasetSpec, make_spec
from ladseg.data.unlabelled import UNLABELLED, find_unlabelled, without_masks
from ladseg.errors import DataError, FileError
from ladseg.recipe import Data


@dataclass
class SegmentationDataset:
    """Image and mask files with the meaning of the mask values.

    Attributes:
        pairs: Image and mask of each sample.
        spec: Classes and mask values.
        contents: Digests of the files, once the data are checked; see :class:`ladseg.data.Contents`.
        decoded: Every sample as :meth:`read` returns it, if cached; see :func:`ladseg.data.keep_decoded`.
    """

    pairs: Pairs
    spec: DatasetSpec
    contents: str | None = None
    decoded: Sequence[tuple[Tensor, Tensor]] | None = field(default=None, repr=False)
    _table: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._table = self.spec.lookup()[0]

    def __len__(self) -> int:
        return len(self.pairs)

    def read(self, index: int) -> tuple[Tensor, Tensor]:
        """Return image ``(C, H, W)`` uint8 and label ``(H, W)`` uint8 of class ids, 255 where ignored.

        Raises:
            FileError: A file can't be read, or image and mask differ in size, perhaps since the check.
        """
        if self.decoded is not None:
            return self.decoded[index]
        image_file, mask_file = self.pairs[index]
        image = read_image(image_file, self.spec.value_range, self.spec.channels)
        values = read_mask(mask_file, self.spec.mask_colors)
        if image.shape[1:] != values.shape:
            raise differing_sizes(image_file, mask_file, image.shape[1:], values.shape)
        return image, torch.from_numpy(self._table.take(values))


def differing_sizes(image: Source, mask: Source, image_size: Sequence[int], mask_size: Sequence[int]) -> FileError:
    """Return the error for a mask that differs from its image in height or width."""
    (height, width), (mask_height, mask_width) = image_size, mask_size
    what = f"mask is {mask_width}x{mask_height} but its image {image} is {width}x{height}"
    return FileError(mask, what, "save both at one size")


def find_split(data: Data, split: str) -> tuple[Listing, DatasetSpec]:
    """Find the pairs of a split on disk, the faults in their arrangement, and the spec.

    Raises:
        DataError: The layout is unknown, a folder is missing, the split is empty, or the classes can't be read.
    """
    layout = get_layout(data.layout)
    data_root(data)
    _refuse_no_name(split)
    if split == UNLABELLED and data.unlabelled is not None:
        own = find_split(data, "train")[1]
        return find_unlabelled(data.unlabelled), without_masks(own)
    own_split = data.val_fraction is None or split == data.test
    listing = _packed(layout.find(data, split)) if own_split else _divided(data, split)
    return listing, make_spec(data, listing.spec)


def _refuse_no_name(split: str) -> None:
    """Refuse what would find the images of several splits at once, such as an empty word, a dot or a star."""
    if set("*?[") & set(split) or {"", ".", ".."} & set(split.split("/")):
        raise DataError(f"'{split}' does not name one split; give its name, such as val or test")


def _packed(listing: Listing) -> Listing:
    return replace(listing, pairs=PackedPairs(listing.pairs)) if isinstance(listing.pairs, list) else listing


def _divided(data: Data, split: str) -> Listing:
    """Find train or val of a data set that has no val split.

    Faults of single files are reported with train alone, so that each is reported once.
    """
    if data.val_fraction is None:
        raise ValueError("data.val_fraction is not set")
    layout = get_layout(data.layout)
    if layout.find_all is None:
        raise DataError(f"data.val_fraction: layout '{data.layout}' has a val split of its own; leave it out")
    listing = _packed(layout.find_all(data))
    chosen, groups = divide(listing.pairs, Path(data.root), data.val_fraction, data.group, split)
    faults = listing.faults if split == "train" else ()
    return replace(listing, pairs=ChosenPairs(listing.pairs, chosen), groups=groups, faults=faults)


def data_root(data: Data) -> Path:
    """Return the data set's folder.

    Raises:
        DataError: It is missing or not a folder.
    """
    if not data.root or not Path(data.root).is_dir():
        if Path(data.root).is_file():
            raise DataError(f"data.root '{data.root}' is a file; give the folder that holds the data set")
        below = "" if Path(data.root).is_absolute() else f" in the working directory {Path.cwd()}"
        raise DataError(f"data.root '{data.root}' is not a folder{below}; give the one that holds the data set")
    return Path(data.root)


def open_dataset(data: Data, split: str) -> SegmentationDataset:
    """Open a split of the data set that a recipe names.

    Raises:
        DataError: As for :func:`find_split`, or an image or mask has no counterpart.
    """
    listing, spec = find_split(data, split)
    errors = [fault for fault in listing.faults if fault.level == "error"]
    if errors:
        more = len([fault for fault in errors if fault.kind == errors[0].kind]) - 1
        raise DataError(f"{errors[0]}" + (f" (and {more} more)" if more else ""))
    return SegmentationDataset(listing.pairs, spec)

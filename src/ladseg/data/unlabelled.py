"""Images without masks, from which a student learns what its teacher makes of them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from ladseg.data.pairs import IMAGE_SUFFIXES, Blob, Drawing, Labels, Listing, PackedPairs, list_files
from ladseg.data.read import image_size
from ladseg.data.spec import IGNORE, DatasetSpec
from ladseg.errors import DataError

# What the folder of data.unlabelled is called among the splits.
UNLABELLED = "unlabelled"


@dataclass(frozen=True)
class NoMask(Drawing):
    """The mask of an image that has none: every pixel is ignored."""

    kind: ClassVar[str] = "none"

    def draw(self) -> tuple[np.ndarray, str]:
        """See :meth:`ladseg.data.pairs.Drawing.draw`."""
        return np.full(image_size(self.image), IGNORE, dtype=np.uint8), ""


def find_unlabelled(folder: str | None) -> Listing:
    """Find the images below a folder.

    Raises:
        DataError: There is no such folder, or no image in it.
    """
    if not folder or not Path(folder).is_dir():
        raise DataError(f"data.unlabelled '{folder}' is not a folder; give a folder of images")
    found = list_files(Path(folder), IMAGE_SUFFIXES)
    pairs: list[tuple[Path, Path | bytes]] = [(found.paths[stem], b"") for stem in sorted(found.paths)]
    return Listing(PackedPairs(pairs, _no_mask), found.faults)


def without_masks(spec: DatasetSpec) -> DatasetSpec:
    """Return a spec in which the value of :class:`NoMask` is ignored, whatever it means in masks."""
    return replace(spec, label_map=None, ignore_index=IGNORE, mask_colors=None)


def _no_mask(image: Path, packed: bytes) -> NoMask:
    return NoMask(Blob(f"{image} (no mask)", b""), image, Labels({}, IGNORE))

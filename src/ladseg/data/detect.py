"""A data section for a folder that no recipe describes yet."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from ladseg.data.dataset import find_split
from ladseg.data.layouts import LAYOUTS
from ladseg.data.read import read_mask
from ladseg.data.spec import IGNORE, make_spec
from ladseg.errors import DataError
from ladseg.recipe import Data

CLASS_FILES = (
    *("classes.txt", "classes.csv", "class_dict.csv", "labels.txt", "labelmap.txt", "label_colors.txt"),
    *("_classes.csv", "train/_classes.csv", "classes.yaml", "classes.json"),
)
# Masks that are read to find which values there are.
SAMPLE = 200


def detect(root: Path) -> Data:
    """How a folder lies, and what its masks hold.

    The layout is the first that recognises the folder. Where the layout does not know its classes they come from a file
    beside the images, or else are as many as the values in the first masks ask for.

    Raises:
        DataError: No such folder, or no layout recognises it.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder or recipe; give one of them")
    layout = next((layout for layout in LAYOUTS.values() if layout.recognises(root)), None)
    if layout is None:
        raise DataError(f"{root}: no layout recognises this folder; 'ladseg data' lists them, or write a recipe")
    data = Data(layout=layout.name, root=str(root))
    if layout.spec is not None:
        folders = [root / below / "SegmentationClassAug" for below in ("", "VOC2012", "VOCdevkit/VOC2012")]
        return replace(data, augmented=layout.name == "voc" and any(map(Path.is_dir, folders)))
    for name in CLASS_FILES:
        if (root / name).is_file():
            data = replace(data, classes=str(root / name))
            break
    values = _values_of(replace(data, classes=data.classes or ["unknown", "classes"]))
    if data.classes:
        count, masks = make_spec(data).num_classes, max(values.values(), default=0)
        # A value beyond the classes that is common is there on purpose; rare ones are faults.
        common = [value for value in values if count <= value < IGNORE and values[value] > masks / 2]
        return replace(data, ignore_index=common[0]) if len(common) == 1 else data
    if set(values) == {0, 255}:
        return replace(data, classes=["background", "foreground"], label_map={0: 0, 255: 1}, ignore_index=None)
    count = max((value for value in values if value != IGNORE), default=0) + 1
    return replace(data, classes=[f"class {index}" for index in range(count)])


def _values_of(data: Data) -> Counter[int]:
    """In how many masks each value is, of masks spread over the training split, as far as they can be read."""
    pairs = find_split(data, "train")[0].pairs
    found: Counter[int] = Counter()
    for index in np.linspace(0, len(pairs) - 1, min(SAMPLE, len(pairs))).round().astype(int):
        try:
            found.update(np.unique(read_mask(pairs[int(index)][1])).tolist())
        except DataError:
            continue  # the check will name it
    return found

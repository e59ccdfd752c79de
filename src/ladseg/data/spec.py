"""What a data set's ids mean: each fact stated once."""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ladseg.errors import DataError
from ladseg.recipe import Data

# The label of pixels that don't count, everywhere inside the program.
IGNORE = 255


@dataclass(frozen=True)
class DatasetSpec:
    """Classes and the mask values that stand for them.

    Attributes:
        class_names: In the order of the class ids.
        colors: One RGB colour a class, 0..255.
        ignore_index: The value in mask files of pixels that don't count; None if there is none.
        label_map: Mask value to class id; None where mask values are the class ids.
    """

    class_names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    ignore_index: int | None = 255
    label_map: dict[int, int] | None = None

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def lookup(self) -> tuple[np.ndarray, np.ndarray]:
        """For each of the 256 mask values: the class id or 255, uint8; and whether the value may occur, bool.

        255 is ignored unless ``label_map`` names it. With a ``label_map``, values that it leaves out are ignored.
        """
        table = np.full(256, IGNORE, dtype=np.uint8)
        known = np.zeros(256, dtype=bool)
        known[IGNORE] = True
        if self.label_map is None:
            table[: self.num_classes] = np.arange(self.num_classes)
            known[: self.num_classes] = True
        else:
            known[:] = True
            for value, class_id in self.label_map.items():
                table[value] = class_id
        if self.ignore_index is not None and self.ignore_index not in (self.label_map or {}):
            table[self.ignore_index] = IGNORE
            known[self.ignore_index] = True
        return table, known


def make_spec(data: Data) -> DatasetSpec:
    """The spec of a recipe's data section.

    Raises:
        DataError: No classes, a class file that is missing or empty, ids out of range.
    """
    names = _class_names(data.classes)
    if len(names) > IGNORE:
        raise DataError(f"{len(names)} classes: masks are 8-bit with 255 for ignored pixels, so there can be 255")
    for value, class_id in (data.label_map or {}).items():
        if not 0 <= value <= 255 or not (0 <= class_id < len(names) or class_id == IGNORE):
            raise DataError(
                f"data.label_map has {value}: {class_id}; mask values are 0..255, class ids 0..{len(names) - 1} or 255"
            )
    if data.ignore_index is not None and not 0 <= data.ignore_index <= 255:
        raise DataError(f"data.ignore_index is {data.ignore_index}; mask values are 0..255")
    return DatasetSpec(names, palette(len(names)), data.ignore_index, data.label_map)


def _class_names(classes: list[str] | str) -> tuple[str, ...]:
    if isinstance(classes, str):
        path = Path(classes)
        if not classes or not path.is_file():
            raise DataError(
                f"data.classes '{classes}' is no file; give the class names as a list, or a file of one a line"
            )
        names: Sequence[str] = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        names = [name for name in names if name]
    else:
        names = classes
    if not names:
        raise DataError(f"data.classes '{classes}' names no class; give one name a line, in the order of the class ids")
    return tuple(names)


def palette(count: int) -> tuple[tuple[int, int, int], ...]:
    """Distinct colours, the same ones for the same position: hues a golden section apart, lightness in turns."""
    colors = []
    for index in range(count):
        lightness = (0.55, 0.38, 0.72)[index % 3]
        red, green, blue = colorsys.hls_to_rgb((0.58 + index * 0.618034) % 1.0, lightness, 0.65)
        colors.append((round(255 * red), round(255 * green), round(255 * blue)))
    return tuple(colors)

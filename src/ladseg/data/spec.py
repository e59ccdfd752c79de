"""The classes of a data set and the meaning of its mask values."""

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ladseg.data.classes import Color, palette, read_classes
from ladseg.errors import DataError, control_character
from ladseg.recipe import Data

# The pixel values of an image with more than 8 bits per channel that become 0 and 255, for all channels or for each.
Range = tuple[int, int]
Ranges = Range | tuple[Range, ...]
# The label of ignored pixels everywhere inside the program.
IGNORE = 255


@dataclass(frozen=True)
class DatasetSpec:
    """Classes and the mask values that stand for them.

    Attributes:
        class_names: The names in the order of the class ids.
        colors: One RGB colour per class, 0..255.
        ignore_index: The value of ignored pixels in mask files; None if there is none.
        label_map: Maps mask values to class ids or to 255; None if mask values are the class ids.
        closed: Whether values that ``label_map`` leaves out are faults; otherwise they are ignored.
        mask_colors: The colours that stand for the mask values 0, 1, 2, ... in masks; None if masks hold ids.
        value_range: The values of 16-bit images that become 0 and 255, one pair for all channels or one for each; None
            for all 16 bits.
        channels: Channels of the images.
    """

    class_names: tuple[str, ...]
    colors: tuple[Color, ...]
    ignore_index: int | None = 255
    label_map: dict[int, int] | None = None
    closed: bool = False
    mask_colors: tuple[Color, ...] | None = None
    value_range: Ranges | None = None
    channels: int = 3

    def __post_init__(self) -> None:
        for name in self.class_names:
            if (character := control_character(name)) is not None:
                raise DataError(f"class '{name}' has the control character {character} in its name; take it out")

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def left_out(self) -> np.ndarray:
        """Whether ``label_map`` leaves out each of the 256 mask values, so that its pixels are ignored; bool."""
        out = np.zeros(256, dtype=bool)
        if self.label_map is not None and not self.closed:
            out[:] = True
            out[[*self.label_map, IGNORE, *([] if self.ignore_index is None else [self.ignore_index])]] = False
        return out

    def lookup(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the class id (or 255) of each of the 256 mask values, uint8, and whether each may occur, bool.

        Mask value 255 is ignored unless ``label_map`` names it.
        """
        table = np.full(256, IGNORE, dtype=np.uint8)
        known = np.zeros(256, dtype=bool)
        known[IGNORE] = True
        if self.label_map is None:
            table[: self.num_classes] = np.arange(self.num_classes)
            known[: self.num_classes] = True
        else:
            known[:] |= not self.closed
            for value, class_id in self.label_map.items():
                table[value] = class_id
                known[value] = True
        if self.ignore_index is not None and self.ignore_index not in (self.label_map or {}):
            table[self.ignore_index] = IGNORE
            known[self.ignore_index] = True
        return table, known

    def mask_values(self) -> np.ndarray:
        """Return the mask value of each class id, uint8: the inverse of :meth:`lookup`."""
        table = self.lookup()[0]
        return np.array([int(np.flatnonzero(table == class_id)[0]) for class_id in range(self.num_classes)], np.uint8)


def make_spec(data: Data, own: DatasetSpec | None = None) -> DatasetSpec:
    """Make the spec of a recipe's data section.

    Args:
        data: The section.
        own: What the layout defines; it fills in whatever the section leaves open.

    Raises:
        DataError: There are no classes, the class file is missing or empty, or an id is out of range.
    """
    if own is not None and not data.classes:
        spec = own if data.label_map is None else replace(own, label_map=data.label_map, closed=False)
        spec = spec if data.ignore_index == IGNORE else replace(spec, ignore_index=data.ignore_index)
    else:
        names, colors = read_classes(data.classes)
        spec = DatasetSpec(names, colors or palette(len(names)), data.ignore_index, data.label_map, mask_colors=colors)
    if data.colors is not None:
        spec = replace(spec, mask_colors=_mask_colors(data.colors))
        if len(data.colors) >= spec.num_classes and spec.label_map is None:
            spec = replace(spec, colors=spec.mask_colors[: spec.num_classes] if spec.mask_colors else spec.colors)
    _refuse_out_of_range(spec)
    if data.value_range is not None:
        spec = replace(spec, value_range=_ranges(data.value_range, data.channels))
    return replace(spec, channels=data.channels)


def portable(data: Data, spec: DatasetSpec) -> dict[str, Any]:
    """Return a recipe's data section for another machine: the meaning of the masks without this machine's paths."""
    section = asdict(data)
    for key in ("root", "workers", "cache", "unlabelled", "unlabelled_share"):
        del section[key]
    # JSON makes lists of tuples, within lists too.
    section["value_range"] = None if spec.value_range is None else json.loads(json.dumps(spec.value_range))
    if data.classes:
        section["classes"] = list(spec.class_names)
        section["colors"] = None if spec.mask_colors is None else [list(color) for color in spec.mask_colors]
    return section


def _ranges(given: Range | list[Range], channels: int) -> Ranges:
    pairs = given if isinstance(given, list) else [given]
    for low, high in pairs:
        if not 0 <= low < high <= 65535:
            raise DataError(f"data.value_range is {[low, high]}; it is the lowest and the highest value, of 0..65535")
    if isinstance(given, list) and len(given) != channels:
        raise DataError(f"data.value_range has {len(given)} pairs, but data.channels is {channels}; give one a channel")
    return tuple(pairs) if isinstance(given, list) else (given[0], given[1])


def _mask_colors(colors: list[list[int]]) -> tuple[Color, ...]:
    for color in colors:
        if len(color) != 3 or not all(0 <= part <= 255 for part in color):
            raise DataError(f"data.colors has {color}; a colour is [red, green, blue] with each of 0..255")
    named: tuple[Color, ...] = tuple((color[0], color[1], color[2]) for color in colors)
    if len(set(named)) < len(named):
        twice = next(color for index, color in enumerate(named) if color in named[:index])
        raise DataError(f"data.colors has {list(twice)} twice; one colour stands for one mask value")
    return named


def _refuse_out_of_range(spec: DatasetSpec) -> None:
    count = spec.num_classes
    if count > IGNORE:
        raise DataError(f"{count} classes: masks are 8-bit with 255 for ignored pixels, so there can be 255")
    for value, class_id in (spec.label_map or {}).items():
        if not 0 <= value <= 255 or not (0 <= class_id < count or class_id == IGNORE):
            raise DataError(
                f"data.label_map has {value}: {class_id}; mask values are 0..255, class ids 0..{count - 1} or 255"
            )
    if spec.ignore_index is not None and not 0 <= spec.ignore_index <= 255:
        raise DataError(f"data.ignore_index is {spec.ignore_index}; mask values are 0..255")

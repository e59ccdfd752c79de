"""From the labels of annotation files to mask values and classes."""

from collections.abc import Mapping, Sequence

from ladseg.data.classes import palette, read_classes
from ladseg.data.pairs import Labels
from ladseg.data.spec import IGNORE, DatasetSpec
from ladseg.errors import DataError
from ladseg.recipe import Data

BACKGROUND = "background"
# What tools call the label of pixels that no shape covers, and of those that don't count.
BACKGROUNDS = {BACKGROUND, "_background_", "__background__"}
VOID = "__ignore__"


def with_background(names: Sequence[str]) -> list[str]:
    """Return the classes of a data set with these labels: background first, what is to be ignored left out."""
    return [BACKGROUND, *(name for name in names if name.lower() not in BACKGROUNDS and name != VOID)]


def own_spec(names: Sequence[str]) -> DatasetSpec:
    """Return the spec of a data set whose recipe names no classes."""
    classes = with_background(names)
    return DatasetSpec(tuple(classes), palette(len(classes)))


def class_names(data: Data) -> tuple[str, ...]:
    """Return the class names that a recipe gives; none if it gives none."""
    return read_classes(data.classes)[0] if data.classes else ()


def labels_by_name(names: Mapping[str, str], classes: Sequence[str]) -> Labels:
    """Make a label's value the place of its name among the classes.

    Args:
        names: Name of each label, as the files have it.
        classes: The class names.
    """
    background = next((value for value, name in enumerate(classes) if name.lower() in BACKGROUNDS), IGNORE)
    places = {name: value for value, name in enumerate(classes)} | {VOID: IGNORE}
    places |= {name: background for name in names.values() if name.lower() in BACKGROUNDS}
    values = {label: places[name] for label, name in names.items() if name in places}
    return Labels(values, background, names=dict(names))


def labels_of(names: Mapping[int, str], classes: Sequence[str], data: Data, file: object) -> Labels:
    """Return the labels of a file that has ids: by their names, or by the ids where there is ``data.label_map``."""
    if data.label_map is None:
        return labels_by_name(_by_text(names), classes)
    return _labels_by_id(names, data.label_map, file)


def _by_text(names: Mapping[int, str]) -> dict[str, str]:
    return {str(number): name for number, name in names.items()}


def _labels_by_id(names: Mapping[int, str], label_map: Mapping[int, int], file: object) -> Labels:
    """Make a label's value its id, for ``data.label_map``; what no shape covers is 255, as ``label_map`` has it.

    Raises:
        DataError: An id that no mask value can be.
    """
    ignored = IGNORE - 1 if IGNORE in label_map else IGNORE
    wrong = [number for number in names if not 0 <= number < IGNORE - 1]
    if wrong:
        raise DataError(f"{file}: id {wrong[0]}; with data.label_map ids are 0..{IGNORE - 2}: name data.classes alone")
    return Labels({str(number): number for number in names}, IGNORE, ignored, _by_text(names))

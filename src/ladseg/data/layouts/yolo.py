"""Polygons in YOLO's text files, one an image."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import yaml

from ladseg.data.labels import class_names, labels_of, own_spec, with_background
from ladseg.data.layouts.annotated import find_all_annotated, find_annotated, first_annotation
from ladseg.data.layouts.layout import Layout
from ladseg.data.pairs import WITHOUT_MASK, Drawing, Labels, Listing, PackedPairs
from ladseg.data.read import image_size
from ladseg.data.regions import Region, draw_regions
from ladseg.data.text import read_text
from ladseg.errors import DataError, FileError, first_words
from ladseg.recipe import Data

SUFFIX = ".txt"


@dataclass(frozen=True)
class YoloDrawing(Drawing):
    """The lines of one file; small shapes lie over large ones, as Ultralytics has it. No file is no shape."""

    source: Path

    def draw(self) -> tuple[np.ndarray, str]:
        """See :meth:`ladseg.data.pairs.Drawing.draw`."""
        height, width = size = image_size(self.image)
        text = read_text(self.source) if self.source.exists() else ""
        regions = []
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                label, *corners = self._numbers(number, line)
                pixels = [value * (height if place % 2 else width) for place, value in enumerate(corners)]
                regions.append(Region(f"line {number}", str(int(label)), [pixels]))
        return draw_regions(regions, size, self.labels, self.source, by_area=True)

    def _numbers(self, number: int, line: str) -> list[float]:
        try:
            numbers = [float(word) for word in line.split()]
            if numbers[0] != int(numbers[0]):
                raise ValueError("the class id is no whole number")
        except (ValueError, OverflowError) as error:
            what = f"line {number} can't be read ({first_words(error)})"
            raise FileError(self.source, what, "a line is class id x y x y ...") from None
        if len(numbers) == 5:
            hint = "export polygons: a line is class id x y x y ..., in shares of width and height"
            raise FileError(self.source, f"line {number} is a box, not a polygon", hint)
        if str(int(numbers[0])) not in self.labels.names:
            what = f"line {number} has class {int(numbers[0])}, but names are there for 0..{len(self.labels.names) - 1}"
            raise FileError(self.source, what, "correct it, or the names")
        return numbers


def _names(root: Path) -> dict[int, str]:
    """Return the class names of the data set's YAML file; none where there is no such file."""
    for path in (root / "data.yaml", root / "dataset.yaml", *sorted(root.glob("*.yaml")), *sorted(root.glob("*.yml"))):
        if not path.is_file():
            continue
        try:
            content = yaml.safe_load(read_text(path))
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise DataError(f"{path}: can't be read as YAML ({first_words(error)})") from None
        names = content.get("names") if isinstance(content, dict) else None
        if isinstance(names, list):
            names = dict(enumerate(names))
        if isinstance(names, dict) and names:
            if not all(type(number) is int and number >= 0 for number in names):
                raise DataError(f"{path}: names is a list, or a mapping of ids 0, 1, 2 ... to names")
            if len({str(name) for name in names.values()}) < len(names):
                raise DataError(f"{path}: two classes of one name; each needs its own")
            return {number: str(name) for number, name in sorted(names.items())}
    return {}


def _listing(data: Data, found: Listing) -> Listing:
    classes, names = class_names(data), _names(Path(data.root))
    own = own_spec(list(names.values())) if names else None
    if not names and not classes:
        raise DataError(
            f"{data.root}: no YAML file with names in it; give data.classes, in the order of YOLO's ids, with "
            "background before them if what no polygon covers is to count"
        )
    # Without a YAML file the classes of the recipe are all there is; background has no id.
    names = names or dict(enumerate(with_background(classes)[1:]))
    labels = labels_of(names, classes or (own.class_names if own else ()), data, data.root)
    pairs = [(Path(str(image)), Path(str(mask))) for image, mask in found.pairs]
    alone = [Path(fault.file) for fault in found.faults if fault.kind == WITHOUT_MASK]
    faults = [
        replace(fault, level="warning", hint="all of it is background, as Ultralytics has it")
        if fault.kind == WITHOUT_MASK
        else fault
        for fault in found.faults
    ]
    pairs = sorted([*pairs, *((image, image.with_suffix(SUFFIX)) for image in alone)])
    return Listing(PackedPairs(pairs, partial(_drawing, labels)), tuple(faults), own)


def _drawing(labels: Labels, image: Path, packed: bytes) -> YoloDrawing:
    return YoloDrawing(Path(packed.decode("utf-8", "surrogateescape")), image, labels)


def _find(data: Data, split: str) -> Listing:
    return _listing(data, find_annotated(data, split, SUFFIX))


def _find_all(data: Data) -> Listing:
    return _listing(data, find_all_annotated(data, SUFFIX))


def _labels(data: Data) -> list[str]:
    names = _names(Path(data.root))
    if not names:
        raise DataError(
            f"{data.root}: YOLO's files, but no YAML file with their names; write one with names: [...] beside them"
        )
    return with_background(list(names.values()))


def _recognises(root: Path) -> bool:
    first = first_annotation(root, SUFFIX)
    if first is None:
        return False
    try:
        lines = [line.split() for line in read_text(first).splitlines() if line.strip()]
        return bool(lines) and all(len(line) >= 5 and [float(word) for word in line] for line in lines)
    except (DataError, ValueError):
        return False


YOLO = Layout(
    name="yolo",
    title="polygons of YOLO segmentation",
    tree="""\
data.yaml                     names: [car, bus]
images/{train,val}/NAME.jpg   labels/{train,val}/NAME.txt     or {train,valid}/images and {train,valid}/labels
images/NAME.jpg               labels/NAME.txt                 (val_fraction)""",
    ids="""\
Lines of class id x y x y ..., in shares of the width and height. Classes are background, which is what no polygon
covers, and the names of data.yaml; data.classes takes some of them by their names, in its order: the others' pixels are
ignored, and so are uncovered ones where it names no background. With data.label_map, mask values are YOLO's ids, and
255 what is not covered. Small shapes lie over large ones. An image without a file is background.""",
    source="yours; https://docs.ultralytics.com/datasets/segment/",
    find=_find,
    find_all=_find_all,
    recognises=_recognises,
    labels=_labels,
)

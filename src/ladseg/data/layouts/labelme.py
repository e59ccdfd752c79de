"""Polygons in labelme's JSON files, one an image."""

import base64
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ladseg.data.labels import BACKGROUNDS, VOID, class_names, labels_by_name, with_background
from ladseg.data.layouts.annotated import find_all_annotated, find_annotated, first_annotation
from ladseg.data.layouts.layout import Layout
from ladseg.data.pairs import WITHOUT_MASK, Blob, Drawing, Labels, Listing, PackedPairs
from ladseg.data.read import image_size, read_mask
from ladseg.data.regions import Region, draw_regions, refuse_claimed
from ladseg.data.text import read_text
from ladseg.errors import DataError, FileError, first_words
from ladseg.recipe import Data

SUFFIX = ".json"
# Corners of the polygon that a circle is drawn as.
CORNERS = 64


@dataclass(frozen=True)
class LabelmeDrawing(Drawing):
    """The shapes of one file; later ones lie over earlier ones, as labelme shows them."""

    source: Path

    def draw(self) -> tuple[np.ndarray, str]:
        """See :meth:`ladseg.data.pairs.Drawing.draw`."""
        content = read_labelme(self.source)
        size = content.get("imageHeight") or 0, content.get("imageWidth") or 0
        if not all(isinstance(side, int) and side > 0 for side in size):
            size = image_size(self.image)
        refuse_claimed(size, self.source)
        regions = []
        for number, shape in enumerate(content["shapes"], 1):
            place = f"shape {number}"
            try:
                segmentation = _segmentation(shape, size)
            except (FileError, LookupError, TypeError, ValueError, ArithmeticError) as error:
                what = f"{place} ('{shape.get('label')}') can't be drawn ({first_words(error)})"
                raise FileError(self.source, what, "draw it as a polygon, or take it out") from None
            regions.append(Region(place, str(shape.get("label")), segmentation))
        return draw_regions(regions, size, self.labels, self.source, by_area=False)


def read_labelme(path: Path) -> dict[str, Any]:
    """Return the content of a file.

    Raises:
        FileError: It can't be read, or has no shapes.
    """
    try:
        content = json.loads(read_text(path))
    except (DataError, ValueError, RecursionError) as error:
        raise FileError(path, f"can't be read as JSON ({first_words(error)})", "replace or remove it") from None
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise FileError(path, "no list 'shapes' in it, so it is no file of labelme", "remove it")
    return dict(content)


def _segmentation(shape: dict[str, Any], size: tuple[int, int]) -> Any:
    kind = shape.get("shape_type") or "polygon"
    points = shape["points"]
    if kind == "polygon":
        return [[number for point in points for number in point]]
    if kind not in ("rectangle", "circle", "mask"):
        raise ValueError(f"a {kind} has no area")
    if len(points) < 2:
        raise ValueError(f"a {kind} needs two points")
    (left, right), (top, bottom) = ((min(numbers), max(numbers)) for numbers in zip(*points, strict=True))
    if kind == "rectangle":  # of two corners, or of four as X-AnyLabeling writes it
        return [[left, top, right, top, right, bottom, left, bottom]]
    if kind == "circle":
        (x, y), (other_x, other_y) = points
        radius = math.hypot(other_x - x, other_y - y)
        angles = [2 * math.pi * corner / CORNERS for corner in range(CORNERS)]
        return [[part for a in angles for part in (x + radius * math.cos(a), y + radius * math.sin(a))]]
    inside = read_mask(Blob("its mask", base64.b64decode(shape["mask"]))) > 0
    rows, columns = (np.arange(side) + round(start) for side, start in zip(inside.shape, (top, left), strict=True))
    seen = (rows >= 0) & (rows < size[0]), (columns >= 0) & (columns < size[1])
    covered = np.zeros(size, bool)
    covered[np.ix_(rows[seen[0]], columns[seen[1]])] = inside[np.ix_(*seen)]
    return covered


def _listing(data: Data, found: Listing) -> Listing:
    classes = class_names(data)
    if not classes:
        listed = ", ".join(_counted([Path(str(mask)) for _, mask in found.pairs]))
        raise DataError(f"data.classes is empty; the files have the labels {listed}: name those that count")
    if data.label_map is not None:
        raise DataError("data.label_map: labelme's labels are names; leave it out, and name classes as the labels are")
    names = {name: name for name in (*classes, *BACKGROUNDS, VOID)}
    pairs = [(Path(str(image)), Path(str(mask))) for image, mask in found.pairs]
    return Listing(PackedPairs(pairs, partial(_drawing, labels_by_name(names, classes))), found.faults)


def _drawing(labels: Labels, image: Path, packed: bytes) -> LabelmeDrawing:
    return LabelmeDrawing(Path(packed.decode("utf-8", "surrogateescape")), image, labels)


def _find(data: Data, split: str) -> Listing:
    return _listing(data, _left_out(find_annotated(data, split, SUFFIX)))


def _find_all(data: Data) -> Listing:
    return _listing(data, _left_out(find_all_annotated(data, SUFFIX)))


def _left_out(found: Listing) -> Listing:
    """Make images without a file a warning: nobody has labelled them yet."""
    softened = (
        replace(fault, level="warning", hint="not labelled yet: it is left out")
        if fault.kind == WITHOUT_MASK
        else fault
        for fault in found.faults
    )
    return replace(found, faults=tuple(softened))


def _counted(files: Sequence[Path]) -> Counter[str]:
    """Count the labels of files, as far as they can be read; the check names those that can't."""
    counts: Counter[str] = Counter()
    for file in files:
        try:
            counts.update(str(shape.get("label")) for shape in read_labelme(file)["shapes"])
        except FileError:
            continue
    return counts


def _labels(data: Data) -> list[str]:
    found = (find_all_annotated if data.val_fraction is not None else partial(find_annotated, split="train"))(
        data, suffix=SUFFIX
    )
    return with_background(sorted(_counted([Path(str(mask)) for _, mask in found.pairs])))


def _recognises(root: Path) -> bool:
    first = first_annotation(root, SUFFIX)
    if first is None:
        return False
    try:
        return "imagePath" in read_labelme(first)
    except FileError:
        return False


LABELME = Layout(
    name="labelme",
    title="polygons of labelme",
    tree="""\
{train,val}/NAME.jpg  {train,val}/NAME.json     or in two folders a split, as the trees of 'ladseg data folder'
NAME.jpg  NAME.json                             (val_fraction), or images/ and annotations/
or  data: {images: "{split}/{stem}.jpg", masks: "{split}/json/{stem}.json"}""",
    ids="""\
data.classes names the labels that count, in the order of their ids; pixels of other labels are ignored, with a
warning, and those of __ignore__. What no shape covers is the class background or _background_, and ignored if
data.classes names none. Later shapes lie over earlier ones. Polygons, rectangles, circles and masks are drawn; points
and lines have no area. Images without a file are left out.""",
    source="yours; https://github.com/wkentaro/labelme",
    find=_find,
    find_all=_find_all,
    recognises=_recognises,
    labels=_labels,
)

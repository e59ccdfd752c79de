"""Draw a mask of polygons and run lengths."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as rle

from ladseg.data.largest import too_many
from ladseg.data.pairs import Labels, Source
from ladseg.errors import FileError

# A corner that lies further outside than this many sides of the image is of another image, or in another unit.
FAR = 2
# A region as pycocotools has it: ``{size, counts}``.
Runs = dict[str, Any]


@dataclass(frozen=True)
class Region:
    """What one annotation covers.

    Attributes:
        place: Names it in messages.
        label: Its label.
        segmentation: Polygons as lists x, y, x, y ... in pixels, of which it is the union; or run lengths as COCO has
            them, ``{size, counts}`` with the counts as a list or as text; or ``(H, W)`` bool.
        ignored: Whether its pixels don't count.
    """

    place: str
    label: str
    segmentation: Any
    ignored: bool = False


def refuse_claimed(size: tuple[int, int], source: Source) -> None:
    """Refuse the size that an annotation file has of its image, if no image of it would be read.

    Raises:
        FileError: It is too large.
    """
    if reason := too_many(size[0] * size[1]):
        raise FileError(source, f"says that its image has {size[0]}x{size[1]} pixels ({reason})", "correct its size")


def draw_regions(
    regions: Iterable[Region], size: tuple[int, int], labels: Labels, source: Source, by_area: bool
) -> tuple[np.ndarray, str]:
    """Draw regions one over the other; those that don't count lie below the others.

    Args:
        regions: What is drawn, the later over the earlier.
        size: Height and width of the mask.
        labels: What the labels become.
        source: What an error names.
        by_area: Whether small regions come over large ones instead.

    Returns:
        ``(H, W)`` uint8, and in words which labels are ignored.

    Raises:
        FileError: A region is no polygon with an area and no run lengths of this size.
    """
    drawn: list[tuple[bool, int, int, Runs]] = []
    unknown: dict[str, int] = {}
    for region in regions:
        runs = _runs(region, size, source)
        value = labels.values.get(region.label, labels.ignored)
        if region.label not in labels.values:
            name = labels.names.get(region.label, region.label)
            unknown[name] = unknown.get(name, 0) + 1
        drawn.append((not region.ignored, -int(rle.area(runs)) if by_area else 0, value, runs))
    mask = np.full(size, labels.uncovered, dtype=np.uint8)
    for counts, _, value, runs in sorted(drawn, key=lambda each: each[:2]):
        mask[_decoded(runs, size)] = value if counts else labels.ignored
    named = ", ".join(f"'{label}' ({count})" for label, count in unknown.items())
    return mask, f"labels that data.classes does not name, so that their pixels are ignored: {named}" if named else ""


def _runs(region: Region, size: tuple[int, int], source: Source) -> Runs:
    """Return the pixels of a region as pycocotools' run lengths."""
    segmentation = region.segmentation
    if isinstance(segmentation, np.ndarray):
        return rle.encode(np.asfortranarray(segmentation.astype(np.uint8)))
    if isinstance(segmentation, dict):
        counts = _counts(segmentation)
        fault = _counts_fault(segmentation, counts, size)
        runs = {"size": list(size), "counts": counts}
    else:
        fault = _polygon_fault(segmentation, size)
        runs = segmentation
    if fault:
        raise FileError(source, f"{region.place} ('{region.label}') {fault}", "correct it, or take it out")
    packed = rle.frPyObjects(runs, *size)
    return rle.merge(packed) if isinstance(packed, list) else packed


def _polygon_fault(polygons: Any, size: tuple[int, int]) -> str:
    """Say what is wrong with polygons; nothing if nothing is."""
    if not isinstance(polygons, list) or not polygons:
        return "has no polygon; it may be a box alone"
    height, width = size
    for polygon in polygons:
        if not isinstance(polygon, list) or not all(_is_number(number) for number in polygon):
            return "has a polygon that is no list of numbers x, y, x, y"
        if len(polygon) < 6 or len(polygon) % 2:
            return f"has a polygon of {len(polygon)} numbers; three corners are the fewest, of two numbers each"
        for numbers, side in ((polygon[::2], width), (polygon[1::2], height)):
            if min(numbers) < -FAR * side or max(numbers) > (FAR + 1) * side:
                return f"has corners far outside its image of {width}x{height}"
    return ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def _decoded(runs: Runs, size: tuple[int, int]) -> np.ndarray:
    """Return the pixels of run lengths, ``(H, W)`` bool; they run down the columns, and start with those outside."""
    # Not pycocotools' own function, which numpy warns of.
    counts = _unpacked(runs["counts"].decode()) or []
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(size[1], size[0]).T


def _counts(runs: dict[str, Any]) -> Any:
    counts = runs.get("counts")
    return _unpacked(counts) if isinstance(counts, str) else counts


def _counts_fault(runs: dict[str, Any], counts: Any, size: tuple[int, int]) -> str:
    """Say what is wrong with run lengths: pycocotools would read beyond the end of short ones."""
    if runs.get("size") != list(size):
        return f"has run lengths of size {runs.get('size')} where its image has {list(size)}"
    if not isinstance(counts, list) or not all(isinstance(count, int) and count >= 0 for count in counts):
        return "has counts that are no run lengths"
    if sum(counts) != size[0] * size[1]:
        return f"has run lengths of {sum(counts)} pixels where its image has {size[0] * size[1]}"
    return ""


def _unpacked(text: str) -> list[int] | None:
    """Return the run lengths of COCO's compressed form; None if it is spoilt.

    A letter holds five bits of a number, the lowest first, and a sixth that says whether more follow. From the third
    on, numbers are differences to the last but one.
    """
    counts: list[int] = []
    number = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64:
            return None
        number |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            number -= 1 << shift
        counts.append(number + (counts[-2] if len(counts) > 2 else 0))
        number = shift = 0
    return counts if shift == 0 else None

"""Inspect a folder of images and masks, and write a recipe for it."""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from ladseg.data.detect import Detection, MaskValues, detect_all, spread
from ladseg.data.pairs import Pairs
from ladseg.data.read import image_size
from ladseg.data.spec import make_spec
from ladseg.errors import DataError, printable
from ladseg.folding import folded
from ladseg.recipe import Data
from ladseg.recipe_files import make_recipe

BATCH = 8
# The passes over the training images for which a schedule is proposed, and its fewest and most steps.
PASSES, FEWEST, MOST = 90, 1000, 40000
# Crop sides are multiples of 32, because networks halve their input five times; and the largest side.
GRID, LARGEST = 32, 512
# Columns of a line of observations, which the recipe has as a comment.
WIDTH = 76
# The most values or colours to list on the screen.
LISTED = 30


def propose_recipe(folder: str) -> tuple[list[str], str]:
    """Return the lines of the observations about a folder, and a commented recipe for it.

    Raises:
        UserError: No layout recognises the folder, or its masks can't be used.
    """
    found = detect_all(Path(folder))
    sizes = _sizes(found.train)
    if not sizes:
        raise DataError(f"{folder}: no image of the training split can be read; 'ladseg check {folder}' names them")
    seen = [part for line in _seen(found, sizes) for part in folded(printable(line), WIDTH, hang=2)]
    text = _recipe(found, sizes, seen)
    make_recipe(yaml.safe_load(text))
    return seen, text


def _sizes(pairs: Pairs) -> Counter[tuple[int, int]]:
    """Count width and height in a sample of the images."""
    sizes: Counter[tuple[int, int]] = Counter()
    for image, _ in spread(pairs):
        try:
            height, width = image_size(image)
        except DataError:
            continue  # the check reports it
        sizes[width, height] += 1
    return sizes


def _seen(found: Detection, sizes: Counter[tuple[int, int]]) -> Iterator[str]:
    """Yield the observations, one line each."""
    data, values = found.data, found.values
    yield f"{data.root}: layout {data.layout}, {len(found.train):,} training and {len(found.val):,} validation pairs"
    for split, pairs in (("train", found.train), ("val", found.val)):
        image, mask = pairs[0]
        yield f"{split}: image {image}"
        yield f"{split}: mask {mask}"
    listed = ", ".join(f"{width}x{height} ({count:,})" for (width, height), count in sizes.most_common(3))
    more = f", {len(sizes) - 3} other sizes" if len(sizes) > 3 else ""
    yield f"images: {listed}{more} in a sample of {sizes.total():,}"
    if values is not None:
        kinds = ", ".join(f"{kind} ({count:,})" for kind, count in values.kinds.most_common())
        yield f"masks: {kinds}; they hold {'colours' if values.in_color else 'values'}"
        for value, _ in values.pixels.most_common(LISTED):
            yield f"  {value if isinstance(value, int) else list(value)}: {values.share(value)}"
        if len(values.pixels) > LISTED:
            yield f"  and {len(values.pixels) - LISTED} more"
    yield from found.notes


def _recipe(found: Detection, sizes: Counter[tuple[int, int]], seen: list[str]) -> str:
    """Write the recipe."""
    count = len(found.train)
    height, width = (_crop_side(median(size[at] for size in sizes.elements())) for at in (1, 0))
    batch = max(min(BATCH, count), 2)
    iterations = _rounded(min(max(PASSES * count / batch, FEWEST), MOST))
    lines = [
        f"# Written by 'ladseg init {found.data.root}'",
        "# from what it saw; correct what it could not know.",
        *(f"#   {line}" for line in seen),
        f"name: {_run_name(found.data.root)}",
        "",
        "data:",
        *_data_lines(found),
        "",
        "# 'ladseg models' lists the networks. weights: timm starts from ImageNet, which",
        "# helps most with few images.",
        "student: {model: pspnet_r18}",
        "",
        "schedule:",
        f"  iterations: {iterations}   # {iterations * batch / count:.0f} passes over {count:,} images",
        f"  batch_size: {batch}",
        f"  crop: [{height}, {width}]   # height and width, of images that are mostly {_size(sizes)}",
    ]
    # Line breaks in file names must not end a comment.
    return "\n".join(printable(line) for line in lines) + "\n"


def _size(sizes: Counter[tuple[int, int]]) -> str:
    width, height = sizes.most_common(1)[0][0]
    return f"{width}x{height}"


def _crop_side(side: float) -> int:
    """Return a crop side that fits into most images."""
    return max(8, int(side) // 8 * 8) if side < GRID else min(int(side) // GRID * GRID, LARGEST)


def _rounded(number: float) -> int:
    """Round to two digits."""
    return int(float(f"{number:.2g}"))


def _run_name(root: str) -> str:
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(root).resolve().name).strip("-")[:60]
    return f"{stem or 'my'}-lad"


COMMENTS = {
    "val_fraction": "there is no val split; the choice of images depends on their names alone",
    "group": "images of one group stay in one split; leave it out without videos",
    "ignore_index": "pixels of this value are ignored",
    "label_map": "mask value: class id",
}


def _data_lines(found: Detection) -> Iterator[str]:
    """Yield the lines of the data section: every key that differs from its default, and ignore_index."""
    data, plain = found.data, Data()
    named = data.classes != ""
    for key, value in dataclasses.asdict(data).items():
        if value == getattr(plain, key) and key not in ("layout", *(["ignore_index"] if named else [])):
            continue
        if key in ("classes", "colors") and isinstance(value, list):
            yield f"  {key}:"
            for at, item in enumerate(value):
                yield f"    - {_flow(item)}   # {_item_comment(found.values, data, at)}"
            continue
        line, comment = f"  {key}: {_flow(value)}", f"# {COMMENTS[key]}" if key in COMMENTS else ""
        if len(line) + len(comment) > WIDTH:
            yield f"  {comment}"
            comment = ""
        yield f"{line}   {comment}".rstrip()


def _item_comment(values: MaskValues | None, data: Data, at: int) -> str:
    """Return a comment on a class's or colour's value and frequency in the masks."""
    if data.colors is not None:
        red, green, blue = data.colors[at]
        meaning = "ignored" if at == data.ignore_index else f"class {at}"
        return f"{meaning}: {values.share((red, green, blue))}" if values is not None else meaning
    table = make_spec(data).mask_values()
    return f"mask value {table[at]}" + (f": {values.share(int(table[at]))}" if values is not None else "")


def _flow(value: Any) -> str:
    """Return a value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=1 << 20, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("...").strip()

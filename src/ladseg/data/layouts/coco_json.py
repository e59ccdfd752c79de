"""Polygons and run lengths in a JSON file, as COCO has them."""

import json
import os
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from ladseg.data.labels import class_names, labels_of, own_spec, with_background
from ladseg.data.layouts.layout import Layout, if_absent, missing_image, own_val, spellings
from ladseg.data.pairs import Blob, Drawing, Fault, Labels, Listing, PackedBytes, PackedPairs, second_file
from ladseg.data.read import image_size
from ladseg.data.regions import Region, draw_regions, refuse_claimed
from ladseg.data.text import read_text
from ladseg.errors import DataError, first_words, printable
from ladseg.recipe import Data

# Where tools write the file of a split; and that of a data set without splits.
FILES = (
    *("annotations/instances_{split}2017.json", "annotations/instances_{split}.json", "annotations/{split}.json"),
    *("{split}/_annotations.coco.json", "{split}/annotations.json", "{split}/labels.json", "{split}.json"),
    *("{split}_annotations.json", "annotations_{split}.json", "annotations/{split}_annotations.json"),
)
FLAT_FILES = (
    *("annotations/instances_default.json", "_annotations.coco.json", "train/_annotations.coco.json"),
    *("annotations.json", "annotations/annotations.json", "labels.json", "result.json", "annotations/instances.json"),
)
FOLDERS = (
    "{beside}",
    "{beside}/images",
    "images/{split}",
    "images/{split}2017",
    "{split}",
    "{split}2017",
    "images",
    "",
)
KEYS = ("images", "annotations", "categories")


@dataclass(frozen=True)
class CocoDrawing(Drawing):
    """What an annotation file has of one image: a text of JSON."""

    source: Blob

    def draw(self) -> tuple[np.ndarray, str]:
        """See :meth:`ladseg.data.pairs.Drawing.draw`; crowds are ignored, and small objects lie over large ones."""
        record = json.loads(self.source.content)
        height, width = record["size"] or image_size(self.image)
        size = int(height), int(width)
        refuse_claimed(size, self.source)
        regions = [Region(f"annotation {place}", *rest) for place, *rest in record["annotations"]]
        return draw_regions(regions, size, self.labels, self.source, by_area=True)


def _drawing(labels: Labels, image: Path, packed: bytes) -> CocoDrawing:
    name, _, content = packed.partition(b"\0")
    return CocoDrawing(Blob(os.fsdecode(name), content), image, labels)


@dataclass(frozen=True)
class CocoFile:
    """An annotation file.

    Attributes:
        categories: Name of each category's id, in the order of the ids.
        images: The ``file_name`` of each image, in their order.
        records: What :class:`CocoDrawing` is made of, for each of them.
        faults: Annotations of images that are not named.
    """

    categories: dict[int, str]
    images: list[str]
    records: PackedBytes
    faults: tuple[Fault, ...]


def read_coco(path: Path) -> CocoFile:
    """Read an annotation file, or remember it.

    Raises:
        DataError: It can't be read, or is no file of COCO's kind.
    """
    state = path.stat() if os.path.isfile(path) else None
    return _read(path, (state.st_mtime_ns, state.st_size) if state else (0, 0))


@lru_cache(maxsize=4)
def _read(path: Path, state: tuple[int, int]) -> CocoFile:
    try:
        content = json.loads(read_text(path, "an annotation file"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: can't be read as JSON ({first_words(error)}); export it again") from None
    lacking = [key for key in KEYS if not isinstance(content, dict) or not isinstance(content.get(key), list)]
    if lacking:
        raise DataError(f"{path}: no list '{lacking[0]}' in it; it is no annotation file of COCO's kind")
    try:
        return _parsed(content, path)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(
            f"{path}: an image, annotation or category lacks something ({type(error).__name__}: {first_words(error)}); "
            "images need id and file_name, annotations id, image_id and category_id, categories id and name"
        ) from None


def _parsed(content: dict[str, Any], path: Path) -> CocoFile:
    categories = {int(each["id"]): str(each["name"]) for each in content["categories"]}
    categories = dict(sorted(categories.items()))
    if len(set(categories.values())) < len(content["categories"]):
        raise DataError(f"{path}: two categories of one id or name; each needs its own")
    if not categories:
        raise DataError(f"{path}: no category in it; export the classes too")
    of_image: dict[int, list[Any]] = defaultdict(list)
    for each in content["annotations"]:
        if each["category_id"] not in categories:
            raise DataError(f"{path}: annotation {each['id']} has category {each['category_id']!r}, which is not there")
        of_image[each["image_id"]].append(
            [each["id"], str(each["category_id"]), each.get("segmentation"), bool(int(each.get("iscrowd") or 0))]
        )
    images = sorted(content["images"], key=lambda each: str(each["file_name"]))
    records = []
    for image in images:
        name = os.fsencode(f"{path}, image {image['id']} ({printable(str(image['file_name']))})") + b"\0"
        size = [int(image["height"]), int(image["width"])] if image.get("height") and image.get("width") else None
        record = {"size": size, "annotations": of_image.pop(image["id"], [])}
        records.append(name + json.dumps(record).encode())
    faults = tuple(
        Fault(
            "annotation without image", str(path), f"annotation {rows[0][0]} is of image {image!r}, which is not there"
        )
        for image, rows in of_image.items()
    )
    names = [str(image["file_name"]) for image in images]
    return CocoFile(categories, names, PackedBytes(records), faults)


def _find(data: Data, split: str) -> Listing:
    file = annotation_file(data, split)
    if file is None:
        raise DataError(
            f"{data.root}: no annotation file of split '{split}', such as {FILES[1].format(split=split)}; name it as "
            f"data.masks: PATH/{{split}}.json, or {if_absent(split)}"
        )
    return _listing(data, file, split)


def _find_all(data: Data) -> Listing:
    val = annotation_file(data, "val")
    if val is not None:
        raise own_val(val)
    file = annotation_file(data, "train") or _flat_file(data)
    if file is None:
        raise DataError(f"{data.root}: no annotation file, such as {FLAT_FILES[3]}; name it as data.masks: PATH.json")
    return _listing(data, file, "train")


def annotation_file(data: Data, split: str) -> Path | None:
    """Return the annotation file of a split, if there is one."""
    patterns = FILES if data.masks is None else (data.masks,) if "{split}" in data.masks else ()
    paths = (Path(data.root) / pattern.format(split=word) for pattern in patterns for word in spellings(split))
    return next((path for path in paths if _is_coco(path)), None)


def _flat_file(data: Data) -> Path | None:
    paths = (Path(data.root) / name for name in (FLAT_FILES if data.masks is None else (data.masks,)))
    return next((path for path in paths if _is_coco(path)), None)


def _is_coco(path: Path) -> bool:
    """Return whether a file is there that may be one of COCO's kind; the whole of it may be large."""
    if not os.path.isfile(path):
        return False
    if path.stat().st_size > 1 << 24:
        return True
    try:
        content = json.loads(read_text(path))
    except (DataError, ValueError, RecursionError):
        return True  # reading it will say what is wrong with it
    return isinstance(content, dict) and set(KEYS) <= content.keys()


def _listing(data: Data, file: Path, split: str) -> Listing:
    found = read_coco(file)
    first = annotation_file(data, "train") or _flat_file(data) or file
    categories = read_coco(first).categories
    own = own_spec(list(categories.values()))  # one for all splits, whose files may list others
    if data.label_map is not None:
        for number in sorted(found.categories.keys() & categories.keys()):
            name, there = found.categories[number], categories[number]
            if name != there:
                raise DataError(
                    f"{file}: category {number} is '{name}', but '{there}' in {first}; data.label_map goes by ids: "
                    "leave it out, and choose the categories by name with data.classes"
                )
    labels = labels_of(found.categories, class_names(data) or own.class_names, data, file)
    folder = _image_folder(data, file, split, found.images)
    pairs: list[tuple[Path, Path | bytes]] = []
    faults, seen = list(found.faults), set[str]()
    for place, name in enumerate(found.images):
        image = folder / name
        if name in seen:
            faults.append(second_file(image, name, str(file)))
        elif not os.path.isfile(image):
            faults.append(missing_image(image))
        else:
            pairs.append((image, found.records[place]))
        seen.add(name)
    return Listing(PackedPairs(pairs, partial(_drawing, labels)), tuple(faults), own)


def _image_folder(data: Data, file: Path, split: str, names: list[str]) -> Path:
    """Return the folder that images are named relative to: the first in which one of them is."""
    if not names:
        raise DataError(f"{file}: no image in it; export the data set again")
    patterns = FOLDERS if data.images is None else (data.images,)
    folders = [
        Path(data.root) / pattern.format(split=word, beside=file.parent.absolute())
        for pattern in patterns
        for word in spellings(split)
    ]
    for folder in folders:
        if any(os.path.isfile(folder / name) for name in names[:8]):
            return folder
    raise DataError(
        f"{file}: no image {names[0]} in {', '.join(dict.fromkeys(str(folder) for folder in folders[:3]))} or beside "
        "it; give their folder as data.images"
    )


def _labels(data: Data) -> list[str]:
    file = annotation_file(data, "train") or _flat_file(data)
    return with_background(list(read_coco(file).categories.values()) if file else [])


def _recognises(root: Path) -> bool:
    data = Data(root=str(root))
    return (annotation_file(data, "train") or _flat_file(data)) is not None


COCO_JSON = Layout(
    name="coco_json",
    title="polygons and run lengths in COCO's JSON",
    tree="""\
annotations/instances_{train,val}2017.json  {train,val}2017/ or images/{train,val}2017/     (COCO)
{train,valid}/_annotations.coco.json        images beside it                                (Roboflow)
annotations/{train,val}.json                images/{train,val}/
annotations/instances_default.json, result.json or annotations.json with images/  (val_fraction; CVAT, Label Studio)
or  data: {masks: "labels/{split}.json", images: "pictures/{split}"}""",
    ids="""\
Classes are background, which is what no annotation covers, and the categories in the order of their ids. data.classes
takes some of them by their names, in its order; the others' pixels are ignored, and so are uncovered ones where
it names no background. With data.label_map, mask values are the category ids, and 255 what is not covered:
{3: 1, 6: 1, 255: 0}. Small objects lie over large ones; a crowd (iscrowd) is ignored where no object lies over it.""",
    source="yours; https://cocodataset.org/#format-data",
    find=_find,
    find_all=_find_all,
    recognises=_recognises,
    labels=_labels,
)

"""Guess from names alone how images and masks are arranged in a folder that no recipe describes yet."""

import os
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

from ladseg.data.division import stem_prefix
from ladseg.data.layouts import LAYOUTS
from ladseg.data.layouts.folder import flat_tree_of
from ladseg.data.layouts.layout import spellings
from ladseg.data.layouts.patterns import has_files
from ladseg.data.pairs import IMAGE_SUFFIXES, Pairs
from ladseg.errors import DataError
from ladseg.recipe import Data

VAL_FRACTION = 0.2
# The most folders that are compared with one another for images and masks of the same names.
FOLDERS = 60
MASK_WORD = re.compile(r"mask|label|annot|seg|(^|[_\W])(gt|lbl|ground_?truth)", re.IGNORECASE)
HELD_OUT = re.compile(r"(^|/)(val|valid|validation|test|testing)([_\W]|$)", re.IGNORECASE)

# Maps the stems in a folder to their suffixes.
Stems = dict[str, str]


def guess_section(root: Path) -> Data:
    """Return a data section with layout, patterns and split, but without classes.

    Raises:
        DataError: The folder is missing, or folders, names and endings don't tell masks from images.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder or recipe; give one of them")
    for section in _customary(root):
        if _pairs_of(section) is not None:
            return section
    by_endings = _by_endings(root)
    if by_endings is None or _pairs_of(by_endings) is None:
        raise DataError(
            f"{root}: no layout recognises this folder, and no image has a mask of its name; 'ladseg data' lists the "
            "layouts, or write a recipe with data.images and data.masks as patterns"
        )
    return by_endings


def guess_group(pairs: Pairs, root: Path) -> str | None:
    """Return the ``data.group`` that keeps videos together if the images seem to be frames of several; else None."""
    paths = [Path(str(image)).relative_to(root) for image, _ in pairs]
    for pattern, groups in (
        ("{folder}", {path.parent for path in paths}),
        ("{stem_prefix}", {stem_prefix(path.stem) for path in paths}),
    ):
        if 3 <= len(groups) <= len(paths) / 3:
            return pattern
    return None


def _customary(root: Path) -> list[Data]:
    """Return a section for each layout that recognises the folder, the most specific first."""
    found = []
    for layout in LAYOUTS.values():
        if not layout.recognises(root):
            continue
        section = Data(layout=layout.name, root=str(root))
        if layout.name == "voc":
            folders = [root / below / "SegmentationClassAug" for below in ("", "VOC2012", "VOCdevkit/VOC2012")]
            section = replace(section, augmented=any(map(Path.is_dir, folders)))
        found.append(section)
        if layout.name == "folder" or layout.labels is not None:
            found.append(replace(section, val_fraction=VAL_FRACTION))
    if flat_tree_of(root) is not None:
        found.append(Data(layout="folder", root=str(root), val_fraction=VAL_FRACTION))
    return found


def _pairs_of(section: Data) -> Pairs | None:
    """Return the training pairs that a section finds; None if it finds none, or no val split."""
    layout = LAYOUTS[section.layout]
    if layout.spec is not None:
        return ()  # the publisher's file names suffice as proof; the check reports what is missing
    try:
        section = section if layout.labels is None else replace(section, classes=layout.labels(section))
        if section.val_fraction is not None and layout.find_all is not None:
            return layout.find_all(section).pairs or None
        train, val = (layout.find(section, split).pairs for split in ("train", "val"))
    except DataError:
        return None
    return train if len(train) and len(val) else None


def _by_endings(root: Path) -> Data | None:
    """Find a folder of images and one of masks, or one of both, whose masks have the images' names, perhaps with an
    ending such as ``_L`` or ``_mask``."""
    folders = _stems_by_folder(root)
    best: tuple[tuple[int, bool], str, str, str] | None = None
    for images, stems in folders.items():
        for masks, mask_stems in folders.items():
            ending = _ending(images, stems, masks, mask_stems)
            if ending is None:
                continue
            count = sum(stem + ending in mask_stems for stem in stems)
            rank = (count, bool(MASK_WORD.search(masks + ending)))
            if best is None or rank > best[0]:
                best = rank, images, masks, ending
    if best is None:
        return None
    _, images, masks, ending = best
    both = [stem for stem in folders[images] if stem + ending in folders[masks]]
    image_suffix = _common_suffix([folders[images][stem] for stem in both])
    mask_suffix = _common_suffix([folders[masks][stem + ending] for stem in both])
    patterns = (
        (Path(images) / f"{{stem}}{image_suffix}").as_posix(),
        (Path(masks) / f"{{stem}}{ending}{mask_suffix}").as_posix(),
    )
    section = Data(layout="folder", root=str(root))
    for word in spellings("train"):
        if word in images and word in masks:
            of_split = [pattern.replace(word, "{split}", 1) for pattern in patterns]
            if has_files(root, "val", of_split[0]):
                return replace(section, images=of_split[0], masks=of_split[1])
    return replace(section, images=patterns[0], masks=patterns[1], val_fraction=VAL_FRACTION)


def _stems_by_folder(root: Path) -> dict[str, Stems]:
    """Return the pictures of each folder except those of val and test, the folders with most pictures first."""
    found: dict[str, Stems] = {}
    for parent, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        relative = Path(parent).relative_to(root).as_posix()
        if HELD_OUT.search(relative):
            folders.clear()
            continue
        split = (os.path.splitext(name) for name in sorted(names) if not name.startswith("."))
        stems = {stem: suffix for stem, suffix in split if suffix.lower() in IMAGE_SUFFIXES}
        if stems:
            found["" if relative == "." else relative] = stems
    return dict(sorted(found.items(), key=lambda item: -len(item[1]))[:FOLDERS])


def _ending(images: str, stems: Stems, masks: str, mask_stems: Stems) -> str | None:
    """Return what follows the image's stem in the names of masks; None if the folders do not belong together."""
    if images != masks and len(stems.keys() & mask_stems.keys()) * 2 > len(stems):
        return "" if MASK_WORD.search(masks) and not MASK_WORD.search(images) else None
    endings: Counter[str] = Counter()
    for mask in list(mask_stems)[:: max(1, len(mask_stems) // 20)]:
        image = max((stem for stem in stems if mask.startswith(stem) and stem != mask), key=len, default=None)
        # Further digits of a number are not an ending: img_1 and img_10 are two images.
        if image is not None and re.search("[^0-9]", mask[len(image) :]):
            endings[mask[len(image) :]] += 1
    if not endings:
        return None
    ending = endings.most_common(1)[0][0]
    wanted = sum(not stem.endswith(ending) for stem in stems)
    return ending if sum(stem + ending in mask_stems for stem in stems) * 2 > wanted else None


def _common_suffix(suffixes: list[str]) -> str:
    return suffixes[0] if len(set(suffixes)) == 1 else ".*"

"""Cityscapes: Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from ladseg.data.layouts.layout import Layout, Submission, find_root, no_such_split, packaged_classes
from ladseg.data.pairs import Files, Listing, list_files, match
from ladseg.data.spec import IGNORE, DatasetSpec
from ladseg.recipe import Data

# The labelIds that are evaluated, in the order of the 19 classes.
LABEL_IDS = (7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33)

# Number of images of each city, to name a city that was not unpacked.
CITIES = {
    "train": {
        "aachen": 174,
        "bochum": 96,
        "bremen": 316,
        "cologne": 154,
        "darmstadt": 85,
        "dusseldorf": 221,
        "erfurt": 109,
        "hamburg": 248,
        "hanover": 196,
        "jena": 119,
        "krefeld": 99,
        "monchengladbach": 94,
        "strasbourg": 365,
        "stuttgart": 196,
        "tubingen": 144,
        "ulm": 95,
        "weimar": 142,
        "zurich": 122,
    },
    "val": {"frankfurt": 267, "lindau": 59, "munster": 174},
}
PUBLISHED = {"train": 2975, "val": 500, "test": 1525}

TRAIN_IDS = DatasetSpec(*packaged_classes("cityscapes"))
LABEL_ID_SPEC = replace(
    TRAIN_IDS,
    label_map={value: LABEL_IDS.index(value) if value in LABEL_IDS else IGNORE for value in range(34)},
    closed=True,
)


def _find(data: Data, split: str) -> Listing:
    if split not in PUBLISHED:
        raise no_such_split(split, tuple(PUBLISHED), "cityscapes")
    root = _root(data.root)
    images = list_files(root / "leftImg8bit" / split, (".png",), ending="_leftImg8bit")
    kind = "labelIds" if _has_label_ids(root / "gtFine" / split) else "labelTrainIds"
    masks = list_files(root / "gtFine" / split, (".png",), ending=f"_gtFine_{kind}")
    pairs, faults = match(images, masks, f"{{stem}}_gtFine_{kind}.png")
    return Listing(
        pairs,
        faults,
        LABEL_ID_SPEC if kind == "labelIds" else TRAIN_IDS,
        PUBLISHED[split],
        _missing(images, split),
    )


def _root(root: str) -> Path:
    return find_root(root, ("leftImg8bit", "gtFine"), ("cityscapes", "Cityscapes"), "cityscapes")


def _has_label_ids(folder: Path) -> bool:
    return next(folder.glob("*/*_gtFine_labelIds.png"), None) is not None


def _missing(images: Files, split: str) -> str:
    have = Counter(stem.split("/")[0] for stem in images.paths)
    cities = CITIES.get(split, {}).items()
    return ", ".join(f"{city} {have[city]} of {count}" for city, count in cities if have[city] != count)


def _images(root: Path, split: str) -> list[Path]:
    folder = find_root(str(root), ("leftImg8bit",), ("cityscapes", "Cityscapes"), "cityscapes") / "leftImg8bit" / split
    return list(list_files(folder, (".png",), ending="_leftImg8bit").paths.values())


CITYSCAPES = Layout(
    name="cityscapes",
    title="Cityscapes, fine annotations",
    tree="""\
leftImg8bit/{train,val,test}/CITY/CITY_000000_000019_leftImg8bit.png
gtFine/{train,val,test}/CITY/CITY_000000_000019_gtFine_labelIds.png         (or _labelTrainIds.png)""",
    ids="""\
labelIds 7, 8, 11-13, 17, 19-28, 31-33 are classes 0..18, the others are ignored; labelTrainIds are 0..18 and 255.""",
    source="""\
https://www.cityscapes-dataset.com (free registration): leftImg8bit_trainvaltest.zip, gtFine_trainvaltest.zip""",
    find=_find,
    recognises=lambda root: (root / "leftImg8bit").is_dir() and (root / "gtFine").is_dir(),
    spec=TRAIN_IDS,
    published=PUBLISHED,
    recipe="cityscapes",
    submission=Submission(
        _images,
        lambda image: image.name.replace("_leftImg8bit.png", "_pred_labelIds.png"),
        LABEL_ID_SPEC.mask_values(),
    ),
)

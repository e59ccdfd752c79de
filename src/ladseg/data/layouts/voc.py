"""PASCAL VOC 2012, alone or with SBD's masks (Hariharan et al., "Semantic Contours from Inverse Detectors", 2011)."""

import os
from collections.abc import Iterable
from pathlib import Path

from ladseg.data.layouts.layout import Layout, find_root, missing_image, no_such_split, packaged_classes, read_list
from ladseg.data.pairs import Fault, Listing, list_files
from ladseg.data.spec import DatasetSpec
from ladseg.errors import DataError
from ladseg.recipe import Data

MARKS = ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation")
PUBLISHED = {"train": 1464, "val": 1449, "trainval": 2913}
PUBLISHED_AUGMENTED = 10582
SBD_PLACES = ("benchmark_RELEASE/dataset/cls", "dataset/cls", "cls")

SPEC = DatasetSpec(*packaged_classes("voc"))


def _find(data: Data, split: str) -> Listing:
    if split not in PUBLISHED:
        raise no_such_split(split, tuple(PUBLISHED), "voc")
    root = find_root(data.root, MARKS, ("VOCdevkit/VOC2012", "VOC2012"), "voc")
    stems = read_list(root / "ImageSets/Segmentation" / f"{split}.txt")
    masks = {stem: root / "SegmentationClass" / f"{stem}.png" for stem in stems}
    published = PUBLISHED[split]
    if data.augmented and split == "train":
        held_out = set(read_list(root / "ImageSets/Segmentation/val.txt"))
        more = _augmented_masks(Path(data.root), root)
        # Where VOC and SBD both have a mask, VOC's is kept because it is finer.
        masks = {**{stem: path for stem, path in more.items() if stem not in held_out}, **masks}
        published = PUBLISHED_AUGMENTED
    return _listing(root, masks, published)


def _listing(root: Path, masks: dict[str, Path], published: int) -> Listing:
    images = {path.stem for path in (root / "JPEGImages").glob("*.jpg")}
    there = {folder: {path.name for path in folder.iterdir()} for folder in _folders(masks.values())}
    pairs, faults = [], []
    for stem, mask in sorted(masks.items()):
        image = root / "JPEGImages" / f"{stem}.jpg"
        if stem not in images:
            faults.append(missing_image(image))
        elif mask.name not in there.get(mask.parent, ()):
            faults.append(Fault("image without mask", str(image), "image without mask", f"expected {mask}"))
        else:
            pairs.append((image, mask))
    return Listing(pairs, tuple(faults), SPEC, published)


def _folders(masks: Iterable[Path]) -> set[Path]:
    return {folder for folder in {mask.parent for mask in masks} if os.path.isdir(folder)}


def _augmented_masks(given: Path, root: Path) -> dict[str, Path]:
    """Return SBD's masks by stem: the PNG files of SegmentationClassAug, or else SBD's Matlab files."""
    if (root / "SegmentationClassAug").is_dir():
        return list_files(root / "SegmentationClassAug", (".png",)).paths
    for parent in (given, root, root.parent, root.parent.parent):
        for place in SBD_PLACES:
            if (parent / place).is_dir():
                return list_files(parent / place, (".mat",)).paths
    raise DataError(
        f"{root}: data.augmented needs SegmentationClassAug/*.png in it, or SBD's {SBD_PLACES[0]}/*.mat beside it; "
        "'ladseg data voc' says where to get them"
    )


VOC = Layout(
    name="voc",
    title="PASCAL VOC 2012, and SBD with augmented: true",
    tree="""\
VOCdevkit/VOC2012/JPEGImages/2007_000032.jpg
VOCdevkit/VOC2012/SegmentationClass/2007_000032.png
VOCdevkit/VOC2012/ImageSets/Segmentation/{train,val}.txt
VOCdevkit/VOC2012/SegmentationClassAug/2008_000002.png                       (augmented: true)
benchmark_RELEASE/dataset/cls/2008_000002.mat                                 (or these)""",
    ids="0 is the background, 1..20 are the objects, 255 their border. The PNG files are palette images of ids.",
    source="""\
http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar
http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz (SBD)""",
    find=_find,
    recognises=lambda root: any(
        all((root / below / mark).exists() for mark in MARKS) for below in ("", "VOCdevkit/VOC2012", "VOC2012")
    ),
    spec=SPEC,
    published={"train": 1464, "augmented train": PUBLISHED_AUGMENTED, "val": 1449},
    recipe="voc",
)

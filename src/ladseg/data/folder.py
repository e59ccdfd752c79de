"""The plain layout: ``images/{train,val}/NAME.jpg`` beside ``masks/{train,val}/NAME.png``."""

from pathlib import Path

from ladseg.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")

Pairs = list[tuple[Path, Path]]


def folder_pairs(root: Path, split: str) -> Pairs:
    """Images and masks of a split, sorted by name.

    Raises:
        DataError: A folder is missing or empty, or an image or mask stands alone.
    """
    images = _files(root / "images" / split, IMAGE_SUFFIXES)
    masks = _files(root / "masks" / split, MASK_SUFFIXES)
    for have, lack, kind, other in ((images, masks, "image", "mask"), (masks, images, "mask", "image")):
        alone = sorted(set(have) - set(lack))
        if alone:
            more = f" (and {len(alone) - 1} more)" if len(alone) > 1 else ""
            folder = root / f"{other}s" / split
            raise DataError(f"{have[alone[0]]}: {kind} without {other}{more}; expected {folder}/{alone[0]}.*")
    return [(images[stem], masks[stem]) for stem in sorted(images)]


def _files(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; the folder layout has images/{{train,val}} and masks/{{train,val}}")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        if path.stem in found:
            raise DataError(f"{path}: a second file called '{path.stem}' beside {found[path.stem].name}; keep one")
        found[path.stem] = path
    if not found:
        raise DataError(f"{folder}: empty split, no {'/'.join(suffixes)} file in it")
    return found

"""Find the input files of ``ladseg predict``, and name their predictions."""

import glob
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from ladseg.data.pairs import IMAGE_SUFFIXES
from ladseg.errors import DataError

VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm")


@dataclass(frozen=True)
class Input:
    """One file to predict.

    Attributes:
        path: The file.
        name: Name of its predictions without suffix, including subfolders of the folder that the user named.
    """

    path: Path
    name: PurePath

    @property
    def is_video(self) -> bool:
        return self.path.suffix.lower() in VIDEOS


def find_inputs(words: Sequence[str]) -> list[Input]:
    """Return the files that the arguments name, in the arguments' order, with those of a folder or pattern sorted.

    Args:
        words: Files of any suffix; folders, which are searched recursively; patterns with ``*``, ``?``, ``**``.

    Raises:
        DataError: An argument matches no file, or the predictions of two files would have the same name.
    """
    found = [pair for word in words for pair in _named_by(word)]
    stems = Counter(relative.with_suffix("") for _, relative in found)
    # The suffix is kept only if names would be equal otherwise, as for a.jpg and a.png.
    inputs = [
        Input(path, relative if stems[relative.with_suffix("")] > 1 else relative.with_suffix(""))
        for path, relative in found
    ]
    names: dict[PurePath, Path] = {}
    for item in inputs:
        if item.name in names:
            both = f"{names[item.name]} and {item.path}"
            raise DataError(f"{both} would both be predicted as '{item.name}'; give them to two commands")
        names[item.name] = item.path
    return inputs


def _named_by(word: str) -> list[tuple[Path, PurePath]]:
    """Return the files that an argument names, and their paths relative to it."""
    path = Path(word)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
        if not files:
            raise DataError(f"{word}: no image in this folder ({', '.join(IMAGE_SUFFIXES)})")
        return [(file, file.relative_to(path)) for file in files]
    if path.exists() or not glob.has_magic(word):
        return [(path, PurePath(path.name))]
    matches = sorted(Path(match) for match in glob.glob(word, recursive=True) if Path(match).is_file())
    if not matches:
        raise DataError(f"{word}: no file matches this pattern")
    return [(match, match.relative_to(_fixed_part(path))) for match in matches]


def _fixed_part(pattern: Path) -> Path:
    """Return the folders of a pattern before its first wildcard."""
    parts = []
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            break
        parts.append(part)
    return Path(*parts)

"""Find pairs by two patterns, such as ``{split}/{stem}.jpg`` and ``{split}/{stem}_mask.png``."""

import glob
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ladseg.data.layouts.layout import if_absent_test, spellings
from ladseg.data.pairs import IMAGE_SUFFIXES, MASK_SUFFIXES, Fault, Files, Listing, match
from ladseg.errors import DataError


def find_by_patterns(
    root: Path, split: str, images: str, masks: str, suffixes: tuple[str, ...] = MASK_SUFFIXES
) -> Listing:
    """Find the pairs of a split by the patterns ``data.images`` and ``data.masks``; masks have one of the suffixes.

    Raises:
        DataError: A pattern lacks ``{stem}``, or no file matches.
    """
    for key, text in (("images", images), ("masks", masks)):
        if "{stem}" not in text:
            raise DataError(
                f"data.{key} is '{text}'; images and masks are both patterns with {{stem}} in them, "
                "such as {split}/{stem}.jpg and {split}/{stem}_mask.png"
            )
    for word in spellings(split):
        image_pattern, mask_pattern = _patterns(images.replace("{split}", word), masks.replace("{split}", word))
        mask_files = _list(root, mask_pattern, suffixes)
        image_files = _list(root, image_pattern, IMAGE_SUFFIXES, but=set(mask_files.paths.values()))
        if image_files.paths and mask_files.paths:
            return Listing(*match(image_files, mask_files, mask_pattern.path_in(root), image_pattern.path_in(root)))
    remedy = if_absent_test(split) or "correct them"
    raise DataError(
        f"{root}: no file of split '{split}' fits both data.images {images} and data.masks {masks}; {remedy}"
    )


def has_files(root: Path, split: str, images: str) -> bool:
    """Return whether a split has an image that matches the pattern ``data.images``."""
    patterns = (_patterns(images.replace("{split}", word), images)[0] for word in spellings(split))
    return any(_list(root, pattern, IMAGE_SUFFIXES).paths for pattern in patterns)


@dataclass(frozen=True)
class Pattern:
    """A pattern of file names below a data set's folder.

    An image and a mask belong together if their keys are equal. The key is what ``{stem}`` matches and, if both
    patterns have equally many ``*`` in their folders, what those match; the same holds for ``*`` in the file names.

    Attributes:
        text: The pattern, with the split filled in.
        keyed: Whether the match of each ``*`` belongs to the key.
    """

    text: str
    keyed: tuple[bool, ...]

    def key(self, relative: str) -> str | None:
        """Return the key of a file, or None if the file does not match."""
        expression = re.escape(self.text).replace(r"\*", "([^/]*)")
        expression = expression.replace(r"\{stem\}", "(?P<stem>[^/]+)", 1).replace(r"\{stem\}", "(?P=stem)")
        fit = re.fullmatch(expression, relative, re.DOTALL)
        if fit is None:
            return None
        stem = re.compile(expression).groupindex["stem"]
        wild = [value for number, value in enumerate(fit.groups(), 1) if number != stem]
        return "/".join([*(value for value, keyed in zip(wild, self.keyed, strict=True) if keyed), fit["stem"]])

    def path_in(self, root: Path) -> Callable[[str], Path]:
        """Return a function from a key to the path that its file should have, with ``*`` where any name will do."""

        def path(key: str) -> Path:
            *wild, stem = key.split("/")
            pieces = self.text.split("*")
            filled = pieces[0]
            for piece, keyed in zip(pieces[1:], self.keyed, strict=True):
                filled += (wild.pop(0) if keyed else "*") + piece
            return root / filled.replace("{stem}", stem)

        return path


def _patterns(images: str, masks: str) -> tuple[Pattern, Pattern]:
    """Decide which ``*`` belong to the key."""
    counts = [_stars(text) for text in (images, masks)]
    alike = [a == b for a, b in zip(*counts, strict=True)]

    def pattern(text: str, stars: tuple[int, int]) -> Pattern:
        keyed = [alike[0]] * stars[0] + [alike[1]] * stars[1]
        return Pattern(text, (*keyed, *[False] * (text.count("*") - len(keyed))))

    return pattern(images, counts[0]), pattern(masks, counts[1])


def _stars(text: str) -> tuple[int, int]:
    """Return the number of ``*`` in a pattern's folders and in its file name; the suffix ``.*`` does not count."""
    folders, _, name = text.rpartition("/")
    return folders.count("*"), name.removesuffix(".*").count("*")


def _list(root: Path, pattern: Pattern, suffixes: tuple[str, ...], but: set[Path] | None = None) -> Files:
    """List the files that match a pattern; a second file with one key is a fault."""
    wild = "*".join(glob.escape(part).replace("[*]", "*") for part in pattern.text.split("{stem}"))
    # A suffix that the pattern spells out may be any.
    any_suffix = "*" not in Path(pattern.text).suffix and "{stem}" not in Path(pattern.text).suffix
    paths: dict[str, Path] = {}
    faults: list[Fault] = []
    for found in sorted(glob.glob(wild, root_dir=root)):
        key, path = pattern.key(found), root / found
        if key is None or not (any_suffix or path.suffix.lower() in suffixes) or path in (but or set()):
            continue
        if key in paths:
            faults.append(_second_file(path, key, paths[key], pattern))
        else:
            paths[key] = path
    return Files((root / pattern.text).parent, paths, tuple(faults))


def _second_file(path: Path, key: str, first: Path, pattern: Pattern) -> Fault:
    what = f"a second file for '{key}' beside {first}"
    hint = "keep one"
    if not all(pattern.keyed):
        hint = "keep one, or write as many * in the folders and in the name of data.images as in data.masks"
    return Fault("two files of one name", str(path), what, hint)

"""Divide the pairs of a data set without splits into train and val, by their names alone."""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from ladseg.data.pairs import Pairs
from ladseg.errors import DataError, printable

PLACEHOLDERS = ("folder", "stem", "stem_prefix")


def stem_prefix(stem: str) -> str:
    """Return a file's stem without the number at its end and the separator before it.

    ``0001TP_006690`` becomes ``0001TP``, ``clip7-frame12`` becomes ``clip7``, and a stem without a number stays.
    """
    body = re.sub(r"\d+$", "", stem)
    if body == stem:
        return stem
    return re.sub(r"[-_. ](frame|img|f)$", "", body.rstrip("-_. "), flags=re.IGNORECASE) or stem


def group_of(relative: str, pattern: str | None) -> str:
    """Return the group of an image; images of one group stay in one split.

    Args:
        relative: The image's path relative to the data set's folder, with ``/``.
        pattern: The value of ``data.group``; None makes each image a group of its own.

    Raises:
        DataError: The pattern has no placeholder or an unknown one, or the image does not match it.
    """
    path = Path(relative)
    if pattern is None:
        return relative
    named = re.findall(r"{(.*?)}", pattern)
    unknown = sorted(set(named) - {"group", *PLACEHOLDERS})
    if unknown or not named:
        what = f"{{{unknown[0]}}} is unknown" if unknown else "it holds no placeholder"
        raise DataError(
            f"data.group is '{pattern}'; {what}: there are {{stem_prefix}} (the stem without the number at its end), "
            "{folder}, {stem}, or a pattern of the image's path with {group} and *, such as images/{group}_*.png"
        )
    if "group" not in named:
        values = {"folder": path.parent.as_posix(), "stem": path.stem, "stem_prefix": stem_prefix(path.stem)}
        return re.sub(r"{(.*?)}", lambda found: values[found[1]], pattern)
    expression = re.escape(pattern).replace(r"\*", "[^/]*").replace(r"\{group\}", "([^/]+?)", 1)
    fit = re.fullmatch(expression, relative)
    if fit is None:
        raise DataError(f"{printable(relative)}: does not fit data.group '{pattern}'; correct the pattern")
    return fit[1]


def val_groups(sizes: Mapping[str, int], fraction: float) -> set[str]:
    """Choose the groups of val.

    The groups are visited in the order of a digest of their names; each is taken if that brings the number of images
    nearer to the fraction. The choice is thus a function of names and sizes, not of any order, and another image
    changes little.

    Args:
        sizes: Number of images of each group.
        fraction: Share of the images that val should have.

    Returns:
        At least one group, but not all of them.

    Raises:
        DataError: There is only one group.
    """
    if len(sizes) < 2:
        raise DataError(
            f"data.val_fraction: all {sum(sizes.values())} images are of one group; correct data.group, or leave it out"
        )
    total = sum(sizes.values())
    target, taken = fraction * total, 0
    ordered = sorted(sizes, key=lambda name: (hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest(), name))
    chosen: set[str] = set()
    for name in ordered:
        after = taken + sizes[name]
        if abs(after - target) < abs(taken - target) and len(chosen) < len(sizes) - 1:
            chosen.add(name)
            taken = after
    return chosen or {min(ordered, key=lambda name: sizes[name])}


def divide(pairs: Pairs, root: Path, fraction: float, pattern: str | None, split: str) -> tuple[list[int], int]:
    """Return the places of the pairs of ``train`` or ``val``, in order, and the number of groups that they belong to.

    Args:
        pairs: Image and mask of every sample.
        root: The data set's folder, to which names are relative.
        fraction: Share of the images that val should have.
        pattern: Which images belong together; see :func:`group_of`.
        split: ``train`` or ``val``.

    Raises:
        DataError: The split is another one, the pattern does not match, or there is only one group.
    """
    if split not in ("train", "val"):
        raise DataError(
            f"'{split}' is not a split: data.val_fraction makes train and val; one besides them is named by data.test"
        )
    groups = [group_of(Path(str(image)).relative_to(root).as_posix(), pattern) for image, _ in pairs]
    sizes = Counter(groups)
    chosen = val_groups(sizes, fraction)
    if split == "train":
        chosen = sizes.keys() - chosen
    return [place for place, group in enumerate(groups) if group in chosen], len(chosen)

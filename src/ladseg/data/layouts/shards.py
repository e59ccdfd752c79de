"""Shards: tar archives of images and masks, like webdataset's, for large data sets on network disks.

Shards are read in place. Opening a data set reads the headers in its archives once, and a sample takes two reads of an
open archive. The order of samples thus stays a function of seed and step, as with single files.
"""

import os
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ladseg.data.layouts.layout import Layout, if_absent_test, spellings
from ladseg.data.pairs import IMAGE_SUFFIXES, MASK_SUFFIXES, Fault, Listing, Member, PackedBytes, Source, open_archive
from ladseg.errors import DataError, first_words
from ladseg.recipe import Data

# Words between a sample's key and the suffix of its mask, if its image has the same format.
MASK_WORDS = ("mask", "label", "seg", "segmentation", "annotation")
# Number of archives whose headers are read concurrently, since most of the time is waiting for the disk.
AT_A_TIME = 16


class ShardPairs(Sequence[tuple[Source, Source]]):
    """The image and mask of each sample in archives, stored in a few arrays that loader processes share.

    Args:
        pairs: Image and mask of each sample.
    """

    def __init__(self, pairs: Sequence[tuple[Member, Member]]) -> None:
        members = [member for pair in pairs for member in pair]
        self._archives = sorted({member.archive for member in members})
        number = {archive: at for at, archive in enumerate(self._archives)}
        places = [(number[member.archive], member.offset, member.size) for member in members]
        self._places = np.array(places, np.int64).reshape(-1, 3)
        self._names = PackedBytes(os.fsencode(member.name) for member in members)

    def __len__(self) -> int:
        return len(self._places) // 2

    def __getitem__(self, index: int) -> tuple[Source, Source]:  # type: ignore[override]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        first = 2 * (index % len(self))
        return self._member(first), self._member(first + 1)

    def _member(self, at: int) -> Member:
        archive, offset, size = self._places[at].tolist()
        return Member(self._archives[archive], os.fsdecode(self._names[at]), offset, size)


def find_shards(root: Path, split: str) -> Listing | None:
    """Find the pairs in a split's archives; return None if there are no archives.

    Raises:
        DataError: An archive is compressed or can't be read, or no archive holds a pair.
    """
    archives = _archives(root, split)
    if not archives:
        return None
    open_archive.cache_clear()  # an archive may have been replaced
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        members = [member for found in pool.map(_members, archives) for member in found]
    pairs, faults = _match(members)
    if not pairs:
        raise DataError(
            f"{archives[0]}: no image and mask of one name in it, such as 000009.jpg and 000009.png; "
            "'ladseg data shards' shows how they lie"
        )
    return Listing(ShardPairs(pairs), tuple(faults))


def _match(members: Sequence[Member]) -> tuple[list[tuple[Member, Member]], list[Fault]]:
    """Pair the images and masks with equal keys, in the order of the keys."""
    samples: dict[str, dict[str, Member]] = {}
    pairs, faults = [], []
    for member in members:
        key, kind = _key_and_kind(member.name)
        sample = samples.setdefault(key, {})
        if kind in sample:
            what = f"a second {kind} of the sample '{key}', beside {sample[kind]}"
            faults.append(Fault("two files of one name", str(member), what, "keep one"))
        elif kind:
            sample[kind] = member
    for key, sample in sorted(samples.items()):
        picture = sample.get("picture")
        image = sample.get("image") or (picture if "mask" in sample else None)
        mask = sample.get("mask") or (picture if "image" in sample else None)
        alone = image or mask or picture
        if image is not None and mask is not None:
            pairs.append((image, mask))
        elif alone is not None and "image" not in samples.get(key.rpartition(".")[0], {}):
            # The remaining case is a further picture of a sample, such as 000009.depth.png.
            kind = "mask without image" if mask is not None else "image without mask"
            faults.append(Fault(kind, str(alone), kind, f"both are to be called '{key}', with suffixes of their own"))
    return pairs, faults


def _key_and_kind(name: str) -> tuple[str, str]:
    """Return the key of a file's sample, and the file's kind.

    The kind is ``image``, ``mask``, ``picture`` if it may be either, or empty for other files.
    """
    body, suffix = os.path.splitext(name)
    if os.path.basename(name).startswith(".") or suffix.lower() not in IMAGE_SUFFIXES:
        return name, ""
    key, _, word = body.rpartition(".")
    if key and word.lower() == "image":
        return key, "image"
    if key and word.lower() in MASK_WORDS:
        return key, "mask"
    return body, "picture" if suffix.lower() in MASK_SUFFIXES else "image"


def _archives(root: Path, split: str) -> list[Path]:
    for word in spellings(split):
        found = sorted({*root.glob(f"{word}*.tar"), *(root / word).glob("*.tar")})
        if found:
            return found
    for word in spellings(split):
        for compressed in sorted(root.glob(f"{word}*.tar.*")):
            raise DataError(
                f"{compressed}: compressed; only plain .tar files can be read in place, so unpack it to one"
            )
    return []


def _members(archive: Path) -> list[Member]:
    try:
        return list(_read_headers(archive))
    except (OSError, tarfile.TarError) as error:
        reason = first_words(error)
        raise DataError(f"{archive}: can't be read as a tar archive ({reason}); replace or remove it") from None


def _read_headers(archive: Path) -> Iterator[Member]:
    size = archive.stat().st_size
    with tarfile.open(archive, "r:") as file:
        for entry in file:
            if entry.offset_data + entry.size > size:
                raise tarfile.ReadError(f"it ends within {entry.name}")
            if entry.isreg() and not entry.issparse():
                yield Member(archive, entry.name, entry.offset_data, entry.size)


def _find(data: Data, split: str) -> Listing:
    found = find_shards(Path(data.root), split)
    if found is None:
        remedy = if_absent_test(split) or "'ladseg data shards' shows how they lie"
        raise DataError(f"{data.root}: no {split}*.tar in it; {remedy}")
    return found


SHARDS = Layout(
    name="shards",
    title="tar archives (webdataset)",
    tree="""\
{train,val}-000000.tar, {train,val}-000001.tar ...                           (also train/*.tar)
each with 000009.jpg and 000009.png, one behind the other, for every sample; where the image is a PNG file too,
000009.image.png and 000009.mask.png""",
    ids="As for the layout 'folder'.",
    source="yours; docs/data.md shows how to pack them",
    find=_find,
    recognises=lambda root: bool(_archives(root, "train")),
)

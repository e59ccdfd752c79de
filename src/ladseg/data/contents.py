"""Digests of a data set's files, independent of its folder, which tie a result to the data that it came from."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ladseg.data.pairs import Source
from ladseg.data.spec import DatasetSpec
from ladseg.errors import printable

# The most files that a message names for one kind of change.
NAMED = 2


@dataclass(frozen=True)
class Contents:
    """The contents of a split.

    Attributes:
        meaning: Digest of the classes and of the meaning of the mask values.
        pairs: Each image's path relative to the data set's folder, with the digests of the image file and the mask
            file, in the order of the split.
    """

    meaning: str
    pairs: dict[str, tuple[str, str]]

    @property
    def digest(self) -> str:
        """Return one digest of everything in the split that a training or an evaluation depends on."""
        parts = [self.meaning, *(digest for pair in self.pairs.values() for digest in pair)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]

    def changes_to(self, now: "Contents") -> list[str]:
        """Return the differences from another state of the split, a few words each."""
        found = ["what its masks mean has changed"] if self.meaning != now.meaning else []
        shared = self.pairs.keys() & now.pairs.keys()
        kinds = (
            ("pair", "gone", sorted(self.pairs.keys() - shared)),
            ("pair", "new", sorted(now.pairs.keys() - shared)),
            ("image", "changed", [name for name in now.pairs if self._differs(now, name, 0)]),
            ("mask", "changed", [name for name in now.pairs if self._differs(now, name, 1)]),
        )
        for noun, state, names in kinds:
            if names:
                more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
                found.append(f"{len(names)} {noun}{'s' * (len(names) > 1)} {state} ({', '.join(names[:NAMED])}{more})")
        return found

    def _differs(self, now: "Contents", name: str, place: int) -> bool:
        return name in self.pairs and self.pairs[name][place] != now.pairs[name][place]


def contents_of(
    spec: DatasetSpec, root: str | Path, images: Sequence[str], digests: Sequence[tuple[str, str]]
) -> Contents:
    """Assemble the contents of a split.

    Args:
        spec: The meaning of its mask values.
        root: The data set's folder.
        images: The image of each pair, as messages name it.
        digests: The digests of image and mask of each pair.
    """
    meaning = [spec.class_names, spec.lookup()[0].tolist(), spec.mask_colors]
    meaning += [] if spec.channels == 3 else [spec.channels]
    prefix = printable(str(Path(root))) + "/"
    names = [name.removeprefix(prefix) for name in images]
    return Contents(_digest(json.dumps(meaning).encode()), dict(zip(names, digests, strict=True)))


def content_digest(source: Source) -> str:
    """Return a digest of a file's bytes, which does not depend on the version of a decoder; a drawing's has its labels.

    Raises:
        OSError: The file can't be read.
    """
    return _digest(source.read_bytes())


def _digest(content: bytes) -> str:
    # Processors have instructions for SHA-256, so it is faster than most digests.
    return hashlib.sha256(content).hexdigest()[:16]

"""What the files of a data set hold, whatever folder they lie in: a result belongs to the data that it was made of."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ladseg.data.pairs import Source
from ladseg.data.spec import DatasetSpec
from ladseg.errors import printable

# Names that a message gives of each kind of change.
NAMED = 2


@dataclass(frozen=True)
class Contents:
    """The contents of a split.

    Attributes:
        meaning: Digest of the classes and of what the mask values stand for.
        pairs: Each image's path relative to the data set's folder, with the digests of the image file and the mask
            file; in the order of the split.
    """

    meaning: str
    pairs: dict[str, tuple[str, str]]

    @property
    def digest(self) -> str:
        """One digest of everything that a training or a measurement on the split depends on."""
        parts = [self.meaning, *(digest for pair in self.pairs.values() for digest in pair)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]

    def changes_to(self, now: "Contents") -> list[str]:
        """Say in a few words each what differs in another state of the split."""
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
    """Put the contents of a split together.

    Args:
        spec: What its masks mean.
        root: The data set's folder.
        images: The image of each pair, as it is named in messages.
        digests: The digests of image and mask of each pair.
    """
    meaning = [spec.class_names, spec.lookup()[0].tolist(), spec.mask_colors]
    prefix = printable(str(Path(root))) + "/"
    names = [name.removeprefix(prefix) for name in images]
    return Contents(_digest(json.dumps(meaning).encode()), dict(zip(names, digests, strict=True)))


def content_digest(source: Source) -> str:
    """Return a digest of a file's bytes; it does not depend on the version of a decoder.

    Raises:
        OSError: The file can't be read.
    """
    return _digest(source.read_bytes() if isinstance(source, Path) else source.content)


def _digest(content: bytes) -> str:
    # SHA-256, which processors compute faster than most others.
    return hashlib.sha256(content).hexdigest()[:16]

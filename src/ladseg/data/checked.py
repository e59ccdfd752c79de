"""A run's record of its checked data, so that files are checked once and a resumed run refuses other data."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ladseg.data.cache import fingerprint
from ladseg.data.check import survey, warnings_of
from ladseg.data.contents import Contents
from ladseg.data.dataset import SegmentationDataset
from ladseg.errors import DataError, printable
from ladseg.recipe import Data
from ladseg.results import from_json, load_json, to_json


@dataclass(frozen=True)
class _Split:
    """The contents of a split as they are kept: each pair by name, with the digests of image and mask."""

    meaning: str
    pairs: list[tuple[str, str, str]]


@dataclass(frozen=True)
class _Record:
    """What is kept, as JSON has it."""

    files: dict[str, str]
    value_range: tuple[int, int] | None
    contents: dict[str, _Split]


@dataclass(frozen=True)
class Checked:
    """What a run records about the check of its data.

    Attributes:
        files: The fingerprint of each split's files (paths, sizes, times); while it is equal, nothing is read again.
        contents: The contents of each split.
        value_range: The range of values that the check found in 16-bit images; None without such files.
    """

    files: dict[str, str]
    contents: dict[str, Contents]
    value_range: tuple[int, int] | None = None

    def apply_to(self, dataset: SegmentationDataset, split: str) -> SegmentationDataset:
        """Return a split with the contents and the range of values that the check has found."""
        spec = dataset.spec
        if spec.value_range is None:
            spec = replace(spec, value_range=self.value_range)
        return replace(dataset, spec=spec, contents=self.contents[split].digest)

    def to_json(self) -> str:
        """Return the record as JSON."""
        contents = {
            split: _Split(of.meaning, [(name, *pair) for name, pair in of.pairs.items()])
            for split, of in self.contents.items()
        }
        return json.dumps(to_json(_Record(self.files, self.value_range, contents)), indent=0) + "\n"

    @classmethod
    def read(cls, path: Path) -> "Checked | None":
        """Read what :meth:`to_json` wrote; return None if the file is missing or damaged."""
        try:
            record = from_json(_Record, load_json(path))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
            return None
        contents = {
            split: Contents(of.meaning, {name: (image, mask) for name, image, mask in of.pairs})
            for split, of in record.contents.items()
        }
        return cls(record.files, contents, record.value_range)

    def changes_to(self, now: "Checked") -> str:
        """Return in one line what differs in another state of the data; empty if a training would be the same."""
        return "; ".join(
            f"{split}: {', '.join(there.changes_to(now.contents[split])) or 'the order of the pairs has changed'}"
            for split, there in self.contents.items()
            if split in now.contents and there.digest != now.contents[split].digest
        )


def fingerprints(sets: Mapping[str, SegmentationDataset]) -> dict[str, str]:
    """Return the fingerprint of each split's files; no file is read."""
    return {split: fingerprint(dataset) for split, dataset in sets.items()}


def check_once(
    data: Data, sets: Mapping[str, SegmentationDataset], record: Path, say: Callable[[str], None]
) -> Checked:
    """Check every file, unless the record says that these files have been checked before.

    Args:
        data: The data section of the recipe.
        sets: The opened splits.
        record: The file that :meth:`Checked.to_json` may have been written to.
        say: Receives a line of progress and the warnings.

    Returns:
        The record, which the caller writes once the run can start.

    Raises:
        DataError: The check finds an error.
    """
    files = fingerprints(sets)
    known = Checked.read(record)
    if known is not None and known.files == files and known.contents.keys() == files.keys():
        say(printable(f"{data.root} is unchanged since it was checked"))
        return known
    say(printable(f"checking {data.root}"))
    report = survey(data, tuple(sets))
    for warning in warnings_of(report):
        say(f"warning: {warning}")
    return Checked(files, report.contents, report.value_range)


def refuse_other_data(folder: Path, record: Path, now: Checked) -> None:
    """Refuse to continue in a folder whose networks were trained on other data.

    Raises:
        DataError: The data differ; the message says what has changed.
    """
    there = Checked.read(record)
    changes = "" if there is None else there.changes_to(now)
    if changes and (any(folder.rglob("result.json")) or any(folder.rglob("checkpoints/*"))):
        raise DataError(
            f"{folder}: its networks were trained on other data ({changes}); restore the files to go on, or train anew "
            "with another --name or --out"
        )

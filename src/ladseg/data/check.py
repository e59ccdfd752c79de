"""Look at every file before hours are spent on them."""

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ladseg.data.dataset import find_split
from ladseg.data.layouts import get_layout
from ladseg.data.look import STRANGE_VALUES, Look, look_at
from ladseg.data.pairs import Fault, Listing
from ladseg.data.spec import IGNORE, DatasetSpec
from ladseg.errors import DataError, printable
from ladseg.progress import progress
from ladseg.recipe import Data

# Files named for each finding, and values told of.
SHOWN, VALUES = 20, 6


@dataclass(frozen=True)
class Finding:
    """Faults of one kind in one split.

    Attributes:
        level: error, which stops a training, or warning.
        kind: What they have in common.
        split: Where.
        message: The first of them in one line.
        hint: What to do.
        files: Their files.
    """

    level: str
    kind: str
    split: str
    message: str
    hint: str
    files: list[str]


@dataclass
class SplitReport:
    """What a split holds.

    Attributes:
        name: The split.
        pairs: Images with a mask.
        published: How many its publisher has; None if there is no publisher.
        class_pixels: Labelled pixels of each class.
        class_images: Images that each class occurs in.
        ignored_pixels: Pixels that don't count.
        mask_values: Pixels of each value in the mask files.
        sizes: Images of each size ``WIDTHxHEIGHT``, the most frequent first.
        image_kinds: Images of each format and mode.
        mask_kinds: Masks of each format and mode.
    """

    name: str
    pairs: int
    published: int | None
    class_pixels: list[int]
    class_images: list[int]
    ignored_pixels: int = 0
    mask_values: dict[int, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    image_kinds: dict[str, int] = field(default_factory=dict)
    mask_kinds: dict[str, int] = field(default_factory=dict)


@dataclass
class Report:
    """What is in a data set and what is amiss with it.

    Attributes:
        root: Its folder.
        layout: How it lies.
        class_names: Its classes.
        colors: Their colours.
        splits: One report a split.
        findings: Errors first.
        seconds: How long the reading took.
    """

    root: str
    layout: str
    class_names: list[str]
    colors: list[tuple[int, int, int]]
    splits: list[SplitReport]
    findings: list[Finding]
    seconds: float = 0.0

    @property
    def pairs(self) -> int:
        """Pairs over all splits."""
        return sum(split.pairs for split in self.splits)

    @property
    def level(self) -> int:
        """0 if nothing is amiss, 1 if there are warnings, 2 if there are errors: the command's exit code."""
        return max((2 if finding.level == "error" else 1 for finding in self.findings), default=0)


def check_dataset(data: Data, splits: Sequence[str] = ("train", "val")) -> list[str]:
    """Read all images and masks of the splits.

    Returns:
        The warnings, a line each.

    Raises:
        DataError: The first error in the order of the files, in one line: an image without a mask, sizes that differ, a
            mask value outside the classes, an unreadable file, a mask in colour, an empty split.
    """
    findings = survey(data, splits).findings
    for split in splits:
        errors = [finding for finding in findings if finding.level == "error" and finding.split == split]
        if errors:
            files = len({file for finding in errors for file in finding.files})
            more = f" (and {files - 1} more files of '{split}' with faults)" if files > 1 else ""
            hint = f"; {errors[0].hint}" if errors[0].hint else ""
            raise DataError(errors[0].message + hint + more)
    return [f"{finding.split}: {finding.message}" for finding in findings]


def survey(data: Data, splits: Sequence[str] = ("train", "val")) -> Report:
    """Read all images and masks of the splits, and tell everything.

    Raises:
        DataError: What stands in the way of reading at all: an unknown layout, a missing folder, an empty split.
    """
    started = time.perf_counter()
    reports, findings, digests = [], [], {}
    for split in splits:
        listing, spec = find_split(data, split)
        report, found, digests[split] = _survey_split(split, listing, spec)
        reports.append(report)
        findings += found
    findings += _leaks(digests)
    findings.sort(key=lambda finding: finding.level != "error")
    return Report(
        str(Path(data.root)),
        get_layout(data.layout).name,
        list(spec.class_names),
        list(spec.colors),
        reports,
        findings,
        time.perf_counter() - started,
    )


Digests = dict[bytes, list[str]]


def _cores() -> int:
    """Those that this process may use, where the system can tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _survey_split(split: str, listing: Listing, spec: DatasetSpec) -> tuple[SplitReport, list[Finding], Digests]:
    pairs = listing.pairs
    table, known = spec.lookup()
    classes = spec.num_classes
    pixels, images, values = np.zeros(256, np.int64), np.zeros(256, np.int64), np.zeros(256, np.int64)
    kinds: dict[str, Counter[str]] = {name: Counter() for name in ("sizes", "image_kinds", "mask_kinds")}
    faults, strange = list(listing.faults), Counter[int]()
    digests: Digests = {}
    looks = look_at(pairs, spec, _cores())
    for look in progress(looks, len(pairs), f"checking {split}", "pairs"):
        faults += look.faults
        _tally(look, kinds, digests)
        if look.counts is not None:
            values += look.counts
            present = np.bincount(table, look.counts, minlength=256)
            pixels += present.astype(np.int64)
            images += present > 0
            strange.update(np.flatnonzero((look.counts > 0) & ~known).tolist())
    report = SplitReport(
        split,
        len(pairs),
        listing.published,
        pixels[:classes].tolist(),
        images[:classes].tolist(),
        int(pixels[IGNORE]),
        {int(value): int(values[value]) for value in np.flatnonzero(values)},
        **{name: dict(counter.most_common()) for name, counter in kinds.items()},
    )
    found = [_with_values(finding, strange, values) for finding in _gathered(split, faults)]
    return report, [*found, *_split_findings(report, listing, spec)], digests


def _with_values(finding: Finding, strange: Counter[int], pixels: np.ndarray) -> Finding:
    """Of values outside the classes that are in several files, how many files and pixels each is in."""
    if finding.kind != STRANGE_VALUES or len(finding.files) == 1:
        return finding
    told = [f"{value} in {files:,} ({pixels[value]:,} pixels)" for value, files in strange.most_common(VALUES)]
    more = f" and {len(strange) - VALUES} other values" if len(strange) > VALUES else ""
    return replace(finding, message=f"{finding.message}; of all masks, {', '.join(told)}{more}")


def _tally(look: Look, kinds: dict[str, Counter[str]], digests: Digests) -> None:
    if look.size is not None:
        kinds["sizes"][f"{look.size[0]}x{look.size[1]}"] += 1
        digests.setdefault(look.digest, []).append(look.image)
    for name, kind in (("image_kinds", look.image_kind), ("mask_kinds", look.mask_kind)):
        if kind:
            kinds[name][kind] += 1


def _gathered(split: str, faults: list[Fault]) -> list[Finding]:
    """Faults of one kind become one finding; the kinds in the order of their first file."""
    kinds: dict[str, list[Fault]] = {}
    for fault in faults:
        kinds.setdefault(fault.kind, []).append(fault)
    return [
        Finding(
            found[0].level,
            kind,
            split,
            printable(f"{found[0].file}: {found[0].what}"),
            printable(found[0].hint),
            [printable(fault.file) for fault in found],
        )
        for kind, found in kinds.items()
    ]


def _split_findings(report: SplitReport, listing: Listing, spec: DatasetSpec) -> list[Finding]:
    """What no single file shows."""
    found = []
    if report.published and report.pairs != report.published:
        missing = f": {listing.missing}" if listing.missing else ""
        message = f"{report.pairs:,} pairs, but {report.published:,} were published{missing}"
        found.append(Finding("warning", "not the published split", report.name, message, "unpack what is missing", []))
    first = str(listing.pairs[0][1]) if len(listing.pairs) else ""
    own_ids = spec.label_map is None and spec.mask_colors is None
    if own_ids and spec.num_classes == 2 and spec.ignore_index == 255 and report.mask_values.keys() == {0, 255}:
        message = f"{first}: like all masks of '{report.name}' it holds only 0 and 255, so no pixel of class 1"
        hint = "if 255 is the foreground, set label_map: {0: 0, 255: 1} and ignore_index: null"
        return [*found, Finding("error", "masks of 0 and 255", report.name, message, hint, [first])]
    absent = [name for name, count in zip(spec.class_names, report.class_pixels, strict=True) if not count]
    if absent and report.mask_values:
        shown = ", ".join(absent[:8]) + (f" and {len(absent) - 8} more" if len(absent) > 8 else "")
        message = f"{len(absent)} of {spec.num_classes} classes never occur: {shown}"
        hint = "it can't be learned or measured here" if len(absent) == 1 else "they can't be learned or measured here"
        found.append(Finding("warning", "classes that never occur", report.name, message, hint, []))
    return found


def _leaks(digests: dict[str, Digests]) -> list[Finding]:
    """Images of equal pixels: twice in a split, or in two splits."""
    found = []
    names = list(digests)
    for split in names:
        twice = [files for files in digests[split].values() if len(files) > 1]
        if twice:
            message = f"{twice[0][1]}: the same picture as {twice[0][0]}"
            files = [file for group in twice for file in group[1:]]
            found.append(Finding("warning", "same picture twice", split, message, "keep one", files))
    for place, split in enumerate(names):
        for other in names[place + 1 :]:
            shared = [
                (digests[split][key][0], file)
                for key in digests[split].keys() & digests[other].keys()
                for file in digests[other][key]
            ]
            if shared:
                shared.sort()
                message = f"{shared[0][1]}: the same picture as {shared[0][0]} of '{split}'"
                hint = "take it out of one: what was trained on can't be measured on"
                found.append(Finding("warning", f"also in {split}", other, message, hint, [f for _, f in shared]))
    return found

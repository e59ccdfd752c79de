"""Check every image and mask before a training starts."""

import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path

import numpy as np

from ladseg.data.check_report import Finding, Report, SplitReport
from ladseg.data.contents import Contents, contents_of
from ladseg.data.dataset import find_split
from ladseg.data.encodings import MaskEncodings, Palettes
from ladseg.data.inspection import LEFT_OUT_VALUES, STRANGE_VALUES, Inspection, inspect_pairs
from ladseg.data.layouts import get_layout
from ladseg.data.pairs import Fault, Listing
from ladseg.data.spec import IGNORE, DatasetSpec
from ladseg.data.unlabelled import UNLABELLED
from ladseg.errors import DataError, printable
from ladseg.progress import progress
from ladseg.recipe import Data

# The most mask values that one finding names.
VALUES = 6


def check_dataset(data: Data, splits: Sequence[str] = ("train", "val")) -> list[str]:
    """Read all images and masks of the splits; return and raise what :func:`warnings_of` does."""
    return warnings_of(survey(data, splits))


def warnings_of(report: Report) -> list[str]:
    """Return the warnings of a report, one line each.

    Raises:
        DataError: The report has errors, such as an image without a mask, sizes that differ, a mask value outside the
            classes, an unreadable file, or a mask in colour; the message names the first in the order of the files.
    """
    for split in report.splits:
        errors = [finding for finding in report.findings if finding.level == "error" and finding.split == split.name]
        if errors:
            files = len({file for finding in errors for file in finding.files})
            more = f" (and {files - 1} more files of '{split.name}' with faults)" if files > 1 else ""
            hint = f"; {errors[0].hint}" if errors[0].hint else ""
            raise DataError(errors[0].message + hint + more)
    return [f"{finding.split}: {finding.message}" for finding in report.findings]


def survey(data: Data, splits: Sequence[str] = ("train", "val")) -> Report:
    """Read all images and masks of the splits, and report everything about them.

    Raises:
        DataError: Nothing can be read: an unknown layout, a missing folder, or an empty split.
    """
    started = time.perf_counter()
    surveys = []
    palettes = Palettes()
    for split in splits:
        listing, spec = find_split(data, split)
        surveys.append(_survey_split(split, listing, spec, palettes))
    findings = [finding for each in surveys for finding in each.findings()]
    findings += palettes.findings()
    findings += _leaks({each.name: each.pictures for each in surveys})
    findings.sort(key=lambda finding: finding.level != "error")
    return Report(
        printable(str(Path(data.root))),
        get_layout(data.layout).name,
        list(spec.class_names),
        list(spec.colors),
        [each.report for each in surveys],
        findings,
        time.perf_counter() - started,
        _value_range([value for each in surveys for value in each.highest]),
        {each.name: each.contents(data.root) for each in surveys},
        [range_ for channel in zip_longest(*(each.highest for each in surveys)) if (range_ := _value_range(channel))],
    )


# Maps a digest of pixels to the images that have it.
Pictures = dict[bytes, list[str]]


def _cores() -> int:
    """Return the number of cores that this process may use, or all cores where the system can't tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _value_range(highest: Iterable[int | None]) -> tuple[int, int] | None:
    """Return 0 and ``2**bits - 1``, where ``bits`` is how many bits the 16-bit images of all splits use."""
    values = [value for value in highest if value is not None]
    return (0, 2 ** max(max(values).bit_length(), 8) - 1) if values else None


@dataclass
class SplitSurvey:
    """Totals over the inspections of a split's pairs.

    Attributes:
        name: The split.
        listing: Its files.
        spec: The meaning of its mask values.
        report: Counts over its files.
        faults: Faults of single files.
        strange: The number of masks that hold each value outside the classes.
        pictures: Its images by the digest of their pixels.
        images: The image of each pair.
        digests: The digests of the files of each pair.
        encodings: How its masks are encoded.
        highest: The highest value of each channel in 16-bit images.
    """

    name: str
    listing: Listing
    spec: DatasetSpec
    report: SplitReport
    faults: list[Fault] = field(default_factory=list)
    strange: Counter[int] = field(default_factory=Counter)
    pictures: Pictures = field(default_factory=dict)
    images: list[str] = field(default_factory=list)
    digests: list[tuple[str, str]] = field(default_factory=list)
    encodings: MaskEncodings = field(default_factory=MaskEncodings)
    highest: list[int] = field(default_factory=list)

    def contents(self, root: str) -> Contents:
        """Return the digests of all files, with what the mask values mean."""
        return contents_of(self.spec, root, self.images, self.digests)

    def findings(self) -> list[Finding]:
        """Return the findings about single files and about the split as a whole."""
        pixels = self.report.mask_values
        found = [_with_values(finding, self.strange, pixels) for finding in _gathered(self.name, self.faults)]
        found += self.encodings.findings(self.name, self.spec)
        return [*found, *_split_findings(self.report, self.listing, self.spec)]

    def add(self, inspection: Inspection) -> None:
        """Add one pair to the totals, except the pixel counts of its mask."""
        self.faults += inspection.faults
        self.images.append(inspection.image)
        self.digests.append(inspection.contents)
        self.encodings.add(inspection)
        if inspection.size is not None:
            size = f"{inspection.size[0]}x{inspection.size[1]}"
            self.report.sizes[size] = self.report.sizes.get(size, 0) + 1
            self.pictures.setdefault(inspection.pixels, []).append(inspection.image)
        for kinds, header in (
            (self.report.image_kinds, inspection.image_header),
            (self.report.mask_kinds, inspection.mask_header),
        ):
            if header.kind:
                kinds[header.kind] = kinds.get(header.kind, 0) + 1
        header = inspection.image_header
        if header.values is not None:
            low, high = self.report.image_values.get(header.kind, header.values)
            self.report.image_values[header.kind] = (min(low, header.values[0]), max(high, header.values[1]))
            if header.bits == 16:
                found = [most for _, most in header.of_channels]
                self.highest = [max(pair) for pair in zip_longest(self.highest, found, fillvalue=0)]


def _survey_split(split: str, listing: Listing, spec: DatasetSpec, palettes: Palettes) -> SplitSurvey:
    pairs = listing.pairs
    table, known = spec.lookup()
    noted = ~known | spec.left_out
    classes = spec.num_classes
    pixels, images, values = np.zeros(256, np.int64), np.zeros(256, np.int64), np.zeros(256, np.int64)
    report = SplitReport(split, len(pairs), listing.published, [], [], groups=listing.groups)
    survey = SplitSurvey(split, listing, spec, report, list(listing.faults))
    for inspection in progress(inspect_pairs(pairs, spec, _cores()), len(pairs), f"checking {split}", "pairs"):
        survey.add(inspection)
        palettes.add(split, inspection)
        if inspection.counts is not None:
            values += inspection.counts
            present = np.bincount(table, inspection.counts, minlength=256)
            pixels += present.astype(np.int64)
            images += present > 0
            survey.strange.update(np.flatnonzero((inspection.counts > 0) & noted).tolist())
    report.class_pixels, report.class_images = pixels[:classes].tolist(), images[:classes].tolist()
    report.ignored_pixels = int(pixels[IGNORE])
    report.mask_values = {int(value): int(values[value]) for value in np.flatnonzero(values)}
    for name in ("sizes", "image_kinds", "mask_kinds"):
        setattr(report, name, dict(Counter(getattr(report, name)).most_common()))
    return survey


def _with_values(finding: Finding, strange: Counter[int], pixels: dict[int, int]) -> Finding:
    """Add the number of files and pixels of each value, if several files hold values that are not classes."""
    if finding.kind == LEFT_OUT_VALUES:
        share = sum(pixels[value] for value in strange) / max(sum(pixels.values()), 1)
        found = f"; of all masks, {share:.2%} of the pixels"
    elif finding.kind == STRANGE_VALUES and len(finding.files) > 1:
        found = "; of all masks"
    else:
        return finding
    named = [f"{value} in {files:,} ({pixels[value]:,} pixels)" for value, files in strange.most_common(VALUES)]
    more = f" and {len(strange) - VALUES} other values" if len(strange) > VALUES else ""
    return replace(finding, message=f"{finding.message}{found}, {', '.join(named)}{more}")


def _gathered(split: str, faults: list[Fault]) -> list[Finding]:
    """Make one finding of all faults of a kind, with the kinds in the order of their first file."""
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
    """Return the findings that only the split as a whole shows."""
    if report.name == UNLABELLED:
        return []
    found = []
    if report.published and report.pairs != report.published:
        missing = f": {listing.missing}" if listing.missing else ""
        message = f"{report.pairs:,} pairs, but {report.published:,} were published{missing}"
        found.append(Finding("warning", "not the published split", report.name, message, "unpack what is missing", []))
    first = printable(str(listing.pairs[0][1])) if len(listing.pairs) else ""
    own_ids = spec.label_map is None and spec.mask_colors is None
    if own_ids and spec.num_classes == 2 and spec.ignore_index == 255 and report.mask_values.keys() == {0, 255}:
        message = f"{first}: like all masks of '{report.name}' it holds only 0 and 255, so no pixel of class 1"
        hint = "if 255 is the foreground, set label_map: {0: 0, 255: 1} and ignore_index: null"
        return [*found, Finding("error", "masks of 0 and 255", report.name, message, hint, [first])]
    if report.mask_values and not any(report.class_pixels):
        message = f"{first}: like all masks of '{report.name}' it has no labelled pixel, so nothing can be "
        message += "learned or measured there"
        hint = "label some of them, or correct data.classes, data.label_map and data.ignore_index"
        return [*found, Finding("error", "no labelled pixel", report.name, message, hint, [first])]
    absent = [name for name, count in zip(spec.class_names, report.class_pixels, strict=True) if not count]
    if absent and report.mask_values:
        shown = ", ".join(absent[:8]) + (f" and {len(absent) - 8} more" if len(absent) > 8 else "")
        message = f"{len(absent)} of {spec.num_classes} classes never occur: {shown}"
        hint = "it can't be learned or measured here" if len(absent) == 1 else "they can't be learned or measured here"
        found.append(Finding("warning", "classes that never occur", report.name, message, hint, []))
    return found


def _leaks(pictures: dict[str, Pictures]) -> list[Finding]:
    """Find images with equal pixels that occur twice in one split, or in two splits."""
    found = []
    names = list(pictures)
    for split in names:
        twice = [files for files in pictures[split].values() if len(files) > 1]
        if twice:
            message = f"{twice[0][1]}: the same picture as {twice[0][0]}"
            files = [file for group in twice for file in group[1:]]
            found.append(Finding("warning", "same picture twice", split, message, "keep one", files))
    for place, split in enumerate(names):
        for other in names[place + 1 :]:
            shared = [
                (pictures[split][key][0], file)
                for key in pictures[split].keys() & pictures[other].keys()
                for file in pictures[other][key]
            ]
            if shared:
                shared.sort()
                message = f"{shared[0][1]}: the same picture as {shared[0][0]} of '{split}'"
                hint = "take it out of one: what was trained on can't be measured on"
                found.append(Finding("warning", f"also in {split}", other, message, hint, [f for _, f in shared]))
    return found

"""The findings of ``ladseg check`` in the terminal."""

from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from ladseg.data import Report
from ladseg.data.check_report import Finding, SplitReport
from ladseg.report.sheet import PlainTable

COLORS = {"error": "bold red", "warning": "yellow"}
BAR = 20
# Rows of the table of classes; of more classes, the most and the least frequent ones are shown.
CLASSES = 24


def print_check(report: Report, console: Console, hints: bool = False) -> None:
    """Print the findings; with ``hints``, print with each what to do."""
    console.print(Text(f"{report.root}  (layout {report.layout}, {len(report.class_names)} classes)"), soft_wrap=True)
    console.print(_splits_table(report))
    if line := division_line(report):
        console.print(Text(line), soft_wrap=True)
    console.print(_classes_table(report))
    for finding in report.findings:
        # Without wrapping, file names can be copied.
        console.print(_finding_text(finding, hints), soft_wrap=True)
    console.print(Text(check_summary(report)), soft_wrap=True)


def division_line(report: Report) -> str:
    """Return how many pairs and groups data.val_fraction has put into each split; empty if it is not set."""
    parts = [
        f"{split.name} {split.pairs:,} pairs"
        + (f" of {split.groups:,} group{'s' * (split.groups > 1)}" if split.groups != split.pairs else "")
        for split in report.splits
        if split.groups is not None
    ]
    return f"divided by data.val_fraction: {', '.join(parts)}" if parts else ""


def check_summary(report: Report) -> str:
    """Return a sentence on how many kinds of findings there are, and how fast the data was read."""
    errors = sum(finding.level == "error" for finding in report.findings)
    warnings = len(report.findings) - errors
    pace = f"{report.pairs:,} pairs in {report.seconds:.1f} s ({report.pairs / max(report.seconds, 1e-9):.0f} a second)"
    if not report.findings:
        return f"No faults: {pace}."
    counts = " and ".join(
        f"{count} kind{'s' * (count > 1)} of {noun}"
        for count, noun in ((errors, "error"), (warnings, "warning"))
        if count
    )
    return f"{counts[0].upper()}{counts[1:]}: {pace}." + ("" if errors else " It can be trained on.")


def percent(part: float, whole: float) -> str:
    """Return a share in per cent, with more digits if it is small."""
    if not part:
        return "-"
    share = 100 * part / whole
    return f"{share:.1f} %" if share >= 1 else f"{share:.2g} %" if share >= 0.001 else "<0.001 %"


@dataclass(frozen=True)
class ClassRow:
    """The frequency of a class.

    Attributes:
        index: Class id.
        shares: Share of the labelled pixels by split, 0..1.
        cells: This share, and the share of images in which the class occurs, as text for each split.
    """

    index: int
    shares: list[float]
    cells: list[tuple[str, str]]


def class_rows(report: Report) -> list[ClassRow]:
    """Return all classes, sorted by their frequency in the first split, most frequent first."""
    wholes = [max(sum(split.class_pixels), 1) for split in report.splits]
    rows = []
    for index in range(len(report.class_names)):
        shares = [split.class_pixels[index] / whole for split, whole in zip(report.splits, wholes, strict=True)]
        cells = [
            (percent(share, 1), percent(split.class_images[index], max(split.pairs, 1)))
            for share, split in zip(shares, report.splits, strict=True)
        ]
        rows.append(ClassRow(index, shares, cells))
    return sorted(rows, key=lambda row: -row.shares[0])


def sizes_line(split: SplitReport, shown: int = 3) -> str:
    """Return the most frequent image sizes, and the number of other sizes."""
    named = [f"{size} ({count:,})" for size, count in list(split.sizes.items())[:shown]]
    others = len(split.sizes) - shown
    return ", ".join(named) + (f", {others} others" if others > 0 else "")


def values_line(split: SplitReport, kind: str) -> str:
    """Return the lowest and the highest value of the images of a format and mode; empty for the usual 0..255."""
    low, high = split.image_values.get(kind, (0, 255))
    return "" if (low, high) == (0, 255) else f"{low}..{high}"


def _splits_table(report: Report) -> PlainTable:
    table = PlainTable()
    for heading in ("split", "pairs", "images", "masks", "sizes", "ignored"):
        table.add_column(heading, justify="right" if heading in ("pairs", "ignored") else "left")
    for split in report.splits:
        pixels = sum(split.mask_values.values())
        table.add_row(
            split.name,
            f"{split.pairs:,}",
            ", ".join(f"{kind} {values_line(split, kind)}".strip() for kind in split.image_kinds),
            ", ".join(split.mask_kinds),
            sizes_line(split),
            percent(split.ignored_pixels, pixels),
        )
    return table


def _classes_table(report: Report) -> PlainTable:
    rows = class_rows(report)
    top = rows[0].shares[0] or 1.0
    left_out = len(rows) - CLASSES
    if left_out > 0:
        rows = rows[: CLASSES // 2] + rows[-CLASSES // 2 :]
    caption = f"the most and the least frequent; {left_out} between them left out" if left_out > 0 else None
    table = PlainTable(
        "class", title="share of labelled pixels, and of images it occurs in", title_justify="left", caption=caption
    )
    for split in report.splits:
        table.add_column(split.name, justify="right")
        table.add_column("images", justify="right")
    table.add_column("")
    for row in rows:
        bar = "█" * round(BAR * row.shares[0] / top)
        red, green, blue = report.colors[row.index]
        cells = [cell for pair in row.cells for cell in pair]
        table.add_row(report.class_names[row.index], *cells, Text(bar, style=f"rgb({red},{green},{blue})"))
    return table


def _finding_text(finding: Finding, hints: bool) -> Text:
    """Return level, split, kind, number of files, and the first message."""
    count = f" ({len(finding.files):,} files)" if len(finding.files) > 1 else ""
    line = Text(finding.level, style=COLORS[finding.level])
    line.append(f"  {finding.split}: {finding.kind}{count}\n    {finding.message}", style="default")
    return line.append(f"\n    -> {finding.hint}", style="default") if hints and finding.hint else line

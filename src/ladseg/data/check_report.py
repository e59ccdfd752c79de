"""What the check of a data set found, as plain data."""

from dataclasses import dataclass, field

from ladseg.data.contents import Contents

# Files that are named for each finding.
SHOWN = 20


@dataclass(frozen=True)
class Finding:
    """Faults of one kind in one split.

    Attributes:
        level: ``error``, which stops a training, or ``warning``.
        kind: What the faults have in common.
        split: The split.
        message: The first fault in one line.
        hint: What to do.
        files: The files that have it.
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
        image_values: Of each of these, the lowest and the highest value of the files' pixels.
        mask_kinds: Masks of each format and mode.
        groups: Where data.val_fraction makes the split, the number of groups that its pairs are of.
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
    image_values: dict[str, tuple[int, int]] = field(default_factory=dict)
    mask_kinds: dict[str, int] = field(default_factory=dict)
    groups: int | None = None


@dataclass
class Report:
    """What is in a data set, and what is wrong with it.

    Attributes:
        root: Its folder.
        layout: Its layout.
        class_names: Its classes.
        colors: Their colours.
        splits: One report a split.
        findings: Errors first.
        seconds: How long the reading took.
        value_range: The range of values of 16-bit images, by the number of bits that are used; None without such files.
        contents: What the files of each split hold.
    """

    root: str
    layout: str
    class_names: list[str]
    colors: list[tuple[int, int, int]]
    splits: list[SplitReport]
    findings: list[Finding]
    seconds: float = 0.0
    value_range: tuple[int, int] | None = None
    contents: dict[str, Contents] = field(default_factory=dict)

    @property
    def pairs(self) -> int:
        """Pairs over all splits."""
        return sum(split.pairs for split in self.splits)

    @property
    def level(self) -> int:
        """0 if nothing is wrong, 1 if there are warnings, 2 if there are errors: the command's exit code."""
        return max((2 if finding.level == "error" else 1 for finding in self.findings), default=0)

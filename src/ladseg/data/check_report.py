"""The findings of the check of a data set, as plain data."""

from dataclasses import dataclass, field

from ladseg.data.contents import Contents

# The most files that are named for one finding.
SHOWN = 20


@dataclass(frozen=True)
class Finding:
    """Faults of one kind in one split.

    Attributes:
        level: ``error``, which prevents training, or ``warning``.
        kind: What the faults have in common.
        split: The split.
        message: The first fault in one line.
        hint: What to do.
        files: The files that have a fault of this kind.
    """

    level: str
    kind: str
    split: str
    message: str
    hint: str
    files: list[str]


@dataclass
class SplitReport:
    """Counts over the files of a split.

    Attributes:
        name: The split.
        pairs: Images with a mask.
        published: Number of pairs in the published split; None for a user's own data.
        class_pixels: Number of labelled pixels of each class.
        class_images: Number of images that each class occurs in.
        ignored_pixels: Number of ignored pixels.
        mask_values: Number of pixels of each value in the mask files.
        sizes: Number of images of each size ``WIDTHxHEIGHT``, the most frequent first.
        image_kinds: Number of images of each format and mode.
        image_values: The lowest and highest pixel value in the image files of each format and mode.
        mask_kinds: Number of masks of each format and mode.
        groups: Number of groups that the pairs belong to, if data.val_fraction made the split.
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
    """What a data set holds, and the faults found in it.

    Attributes:
        root: Its folder.
        layout: Its layout.
        class_names: Its classes.
        colors: Their colours.
        splits: One report per split.
        findings: The findings, errors first.
        seconds: How long reading the files took.
        value_range: The range of values of 16-bit images, from the number of bits in use; None without such files.
        contents: The digests of the files of each split.
        of_channels: As ``value_range``, of each channel; empty without such files.
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
    of_channels: list[tuple[int, int]] = field(default_factory=list)

    @property
    def pairs(self) -> int:
        """The number of pairs over all splits."""
        return sum(split.pairs for split in self.splits)

    @property
    def level(self) -> int:
        """The command's exit code: 0 if nothing is wrong, 1 if there are warnings, 2 if there are errors."""
        return max((2 if finding.level == "error" else 1 for finding in self.findings), default=0)

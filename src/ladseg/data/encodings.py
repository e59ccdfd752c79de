"""How the masks of a split encode their classes, and whether all masks agree."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ladseg.data.check_report import Finding
from ladseg.data.classes import Color
from ladseg.data.inspection import Inspection
from ladseg.data.spec import IGNORE, DatasetSpec

ZERO_AND_ONE, ZERO_AND_255 = "0 and 1", "0 and 255"


@dataclass
class MaskEncodings:
    """The masks of a split by their encoding.

    Attributes:
        binary: Masks whose values are 0 and 1, and those whose values are 0 and 255.
        both: Whether a mask holds 1 and 255, so that 255 is not another way of writing 1.
        read_as: Masks whose values are ids, and those that are read by the colours that a recipe names.
    """

    binary: dict[str, list[str]] = field(default_factory=dict)
    both: bool = False
    read_as: dict[str, list[str]] = field(default_factory=dict)

    def add(self, inspection: Inspection) -> None:
        """Add a mask to the totals."""
        counts, header = inspection.counts, inspection.mask_header
        if counts is None:
            return
        self.read_as.setdefault("colors" if header.encoding == "colors" else "ids", []).append(inspection.mask)
        one, full = int(counts[1]), int(counts[255])
        # Smooth edges hold a few pixels of every value in between, including 1.
        if full and one < full / 10:
            self.binary.setdefault(ZERO_AND_255, []).append(inspection.mask)
        elif one and not counts[2:].any():
            self.binary.setdefault(ZERO_AND_ONE, []).append(inspection.mask)
        self.both |= bool(one >= full / 10 and full)

    def findings(self, split: str, spec: DatasetSpec) -> Iterator[Finding]:
        """Yield an error for each way in which the masks disagree."""
        table = spec.lookup()[0]
        one_is_class, full_is_class = bool(table[1] != IGNORE), bool(table[255] != IGNORE)
        if spec.num_classes == 2 and one_is_class != full_is_class and not self.both and len(self.binary) == 2:
            hint = "save all of them with 0 and 1, or all with 0 and 255"
            yield self._disagreement(split, self.binary, "holds", hint)
        if spec.mask_colors is not None and len(self.read_as) == 2:
            hint = "save all of them in one way; if ids are meant, give data.classes as names without colours"
            yield self._disagreement(split, self.read_as, "is read by its", hint)

    def _disagreement(self, split: str, masks: dict[str, list[str]], verb: str, hint: str) -> Finding:
        """Return the error that names the files of the rarer encoding, and one file of the other."""
        (rare, few), (common, many) = sorted(masks.items(), key=lambda item: len(item[1]))
        message = (
            f"{few[0]}: {verb} {rare}, but {many[0]} {verb} {common}; of all masks of '{split}', "
            f"{len(few):,} are of the first kind and {len(many):,} of the second"
        )
        return Finding("error", "masks in two encodings", split, message, hint, few)


@dataclass
class Palettes:
    """The colours that palette masks give to their indices, over all splits.

    Attributes:
        colors: The first colour of each index, and the file that has it.
        differing: The files of each split whose palette gives an index another colour, and the difference in words.
        moved: Whether one colour stands for two indices, as happens when classes are swapped.
    """

    colors: dict[int, tuple[Color, str]] = field(default_factory=dict)
    differing: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    moved: bool = False

    def add(self, split: str, inspection: Inspection) -> None:
        """Compare a mask's palette with the earlier ones, at the indices that occur in the mask."""
        palette, counts = inspection.mask_header.palette, inspection.counts
        if palette is None or counts is None:
            return
        what = ""
        for index in np.flatnonzero(counts[: len(palette)]).tolist():
            red, green, blue = palette[index].tolist()
            color = (red, green, blue)
            first, file = self.colors.setdefault(index, (color, inspection.mask))
            if color != first:
                what = what or f"index {index} is the colour {list(color)}, but {list(first)} in {file}"
                self.moved |= any(known == color for at, (known, _) in self.colors.items() if at != index)
        if what:
            self.differing.setdefault(split, []).append((inspection.mask, what))

    def findings(self) -> Iterator[Finding]:
        """Yield a finding for each split with differing palettes: an error if classes seem to be swapped."""
        for split, files in self.differing.items():
            file, what = files[0]
            hint = "if the colours say what the classes are, name them in data.colors"
            level = "error" if self.moved else "warning"
            if self.moved:
                what += ", and a colour stands for two indices"
                hint += "; if the indices do, save the masks with one palette or as grey"
            yield Finding(level, "palettes that differ", split, f"{file}: {what}", hint, [name for name, _ in files])

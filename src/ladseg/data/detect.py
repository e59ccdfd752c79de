"""Draft a data section for a folder that no recipe describes yet."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ladseg.data.bands import bands_in
from ladseg.data.classes import Color, read_classes
from ladseg.data.dataset import find_split
from ladseg.data.guess import guess_group, guess_section
from ladseg.data.layouts import LAYOUTS
from ladseg.data.pairs import Drawing, Pairs, Source, evenly_spread
from ladseg.data.read import decode_mask, open_file, read_mask
from ladseg.data.spec import IGNORE
from ladseg.errors import DataError
from ladseg.recipe import Data

CLASS_FILES = (
    *("classes.txt", "classes.csv", "class_dict.csv", "labels.txt", "labelmap.txt", "label_colors.txt"),
    *("_classes.csv", "train/_classes.csv", "classes.yaml", "classes.json"),
)
# Number of pairs that are read to find values, colours and sizes.
SAMPLE = 200
# More colours than this come from smooth edges (JPEG, interpolation), not from classes.
MOST_COLORS = 100
# Customary names of the class of ignored pixels.
VOID = {"void", "ignore", "ignored", "unlabeled", "unlabelled", "unknown", "__ignore__", "don't care", "dontcare"}


@dataclass
class MaskValues:
    """The values in a sample of masks.

    Attributes:
        masks: Number of masks that could be read.
        kinds: Number of masks of each format and mode.
        files: Number of masks that hold each value; a value is an id, or a colour in colour masks.
        pixels: Number of pixels of each value.
        in_color: Whether the values are colours.
    """

    masks: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    files: Counter[int | Color] = field(default_factory=Counter)
    pixels: Counter[int | Color] = field(default_factory=Counter)
    in_color: bool = False

    def share(self, value: int | Color) -> str:
        """Return in words how often a value occurs."""
        share = self.pixels[value] / max(self.pixels.total(), 1)
        return f"{share:.2%} of the pixels, in {self.files[value]:,} of {self.masks:,} masks"


@dataclass(frozen=True)
class Detection:
    """What was found in a folder.

    Attributes:
        data: The data section.
        train: Its training pairs.
        val: Its validation pairs.
        values: The values in a sample of its masks; None if the layout knows its classes.
        notes: Observations for the user, one sentence each.
    """

    data: Data
    train: Pairs
    val: Pairs
    values: MaskValues | None = None
    notes: tuple[str, ...] = ()


def detect(root: Path) -> Data:
    """Return the data section of :func:`detect_all`."""
    return detect_all(root).data


def detect_all(root: Path) -> Detection:
    """Find out how a folder is arranged and what its masks hold.

    The first layout that recognises the folder is taken; if none does, patterns are derived from the endings of the
    masks' names. If the layout does not know the classes, they come from a file beside the images, or else from the
    values or colours in a sample of the masks.

    Raises:
        DataError: The folder is missing, no layout or pattern fits, or the masks have too many colours.
    """
    data = guess_section(root)
    notes: list[str] = []
    if LAYOUTS[data.layout].spec is None:
        labels = LAYOUTS[data.layout].labels
        any_classes = replace(data, classes=["unknown", "classes"] if labels is None else labels(data))
        if data.val_fraction is not None:
            everything = [pair for split in ("train", "val") for pair in find_split(any_classes, split)[0].pairs]
            group = guess_group(everything, root)
            if group:
                notes.append(f"Images seem to be frames of several scenes, which data.group {group} keeps together.")
            data, any_classes = replace(data, group=group), replace(any_classes, group=group)
        train, val = (find_split(any_classes, split)[0].pairs for split in ("train", "val"))
        values = survey_masks(train)
        data = _with_classes(data, root, values, notes) if labels is None else any_classes
        data = _with_channels(data, train, notes)
        return Detection(data, train, val, values, tuple(notes))
    train, val = (find_split(data, split)[0].pairs for split in ("train", "val"))
    return Detection(data, train, val)


def _with_channels(data: Data, train: Pairs, notes: list[str]) -> Data:
    """Set the number of channels where the first image is a TIFF file of many bands."""
    channels = bands_in(train[0][0]) if len(train) else 3
    if channels != 3:
        notes.append(f"Images have {channels} channels; add mean and std, which 'ladseg check RECIPE --stats' prints.")
    return replace(data, channels=channels)


def spread(pairs: Pairs) -> list[tuple[Source, Source]]:
    """Return a sample of the pairs, spread evenly over them."""
    return [pairs[at] for at in evenly_spread(len(pairs), SAMPLE)]


def survey_masks(pairs: Pairs) -> MaskValues:
    """Count the values in a sample of masks, leaving out unreadable ones, which the check reports."""
    found: list[tuple[str, np.ndarray]] = []
    for _, mask in spread(pairs):
        try:
            found.append(_counted(mask))
        except DataError:
            continue
    values = MaskValues(len(found), in_color=any(counts.shape[1] == 4 and _colored(counts) for _, counts in found))
    for kind, counts in found:
        values.kinds[kind] += 1
        for row in counts.tolist():
            *value, pixels = row
            key: int | Color = value[0] if not values.in_color else _as_color(value)
            values.files[key] += 1
            values.pixels[key] += pixels
    return values


def _counted(mask: Source) -> tuple[str, np.ndarray]:
    """Return format and mode of a mask, and rows of value and pixel count: ``(N, 2)``, or ``(N, 4)`` for RGB."""
    if isinstance(mask, Drawing) or (isinstance(mask, Path) and mask.suffix.lower() == ".mat"):
        pixels, header = decode_mask(mask)
        kind = header.kind
    else:
        with open_file(mask, "a mask") as image:
            kind = f"{image.format} {image.mode}"
            ids = image.mode in ("1", "L", "P", "PA") or image.mode.startswith(("I", "F"))
            pixels = np.zeros(0) if ids else np.array(image.convert("RGB"))
        pixels = read_mask(mask) if ids else pixels
    if pixels.ndim == 2:
        found, counts = np.unique(pixels, return_counts=True)
        return kind, np.column_stack([found.astype(np.int64), counts])
    packed = pixels.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
    found, counts = np.unique(packed, return_counts=True)
    return kind, np.column_stack([found >> 16, found >> 8 & 255, found & 255, counts]).astype(np.int64)


def _as_color(value: list[int]) -> Color:
    """Return the RGB colour of three components, or of one grey value."""
    red, green, blue = value if len(value) == 3 else value * 3
    return red, green, blue


def _colored(counts: np.ndarray) -> bool:
    return bool((counts[:, 0] != counts[:, 1]).any() or (counts[:, 0] != counts[:, 2]).any())


def _with_classes(data: Data, root: Path, values: MaskValues, notes: list[str]) -> Data:
    """Add classes, colours, ignored value and label map."""
    file = next((root / name for name in CLASS_FILES if (root / name).is_file()), None)
    if file is not None:
        names, colors = read_classes(str(file))
        if values.in_color and colors is None:
            notes.append(f"{file} names classes without colours; which colour is which class is for you to say.")
            return _drafted_palette(data, values, notes)
        return _from_file(data, file, names, colors, values, notes)
    if values.in_color:
        return _drafted_palette(data, values, notes)
    return _from_ids(data, values, notes)


def _from_file(
    data: Data,
    file: Path,
    names: tuple[str, ...],
    colors: tuple[Color, ...] | None,
    values: MaskValues,
    notes: list[str],
) -> Data:
    # With a single class besides it, the rest of the image is a class too, not void.
    void = next((at for at, name in enumerate(names) if len(names) > 2 and name.strip().lower() in VOID), None)
    if void is not None:
        notes.append(f"{file} has a row '{names[void]}'; its pixels are ignored, and it is no class.")
    if values.in_color and colors is not None:
        return _from_colored_file(data, file, dict(zip(colors, names, strict=True)), void, values, notes)
    if void is not None:
        kept = [at for at in range(len(names)) if at != void]
        classes = [names[at] for at in kept]
        if void == len(names) - 1:
            return replace(data, classes=classes, ignore_index=void)
        label_map = {value: new for new, value in enumerate(kept)}
        return replace(data, classes=classes, label_map={**label_map, void: IGNORE})
    data = replace(data, classes=str(file))
    # A frequent value beyond the class ids is there on purpose; rare ones are faults.
    beyond = [value for value in values.files if isinstance(value, int) and len(names) <= value < IGNORE]
    most = max(values.files.values(), default=0)
    common = [value for value in beyond if values.files[value] > most / 2]
    return replace(data, ignore_index=common[0]) if len(common) == 1 else data


def _from_colored_file(
    data: Data, file: Path, named: dict[Color, str], void: int | None, values: MaskValues, notes: list[str]
) -> Data:
    """Take the classes of a file except the void row, and add a class for each colour that it does not name."""
    if "background" in [name.lower() for name in named.values()]:
        notes.append(f"{file} has a background row; it is kept as a class that counts.")
    unnamed = [color for color, _ in values.pixels.most_common() if not isinstance(color, int) and color not in named]
    if len(unnamed) > MOST_COLORS:
        raise _too_many_colors(data, len(unnamed))
    if unnamed:
        shown = ", ".join(map(str, unnamed[:8]))
        notes.append(f"Colours that {file} does not name are classes called by their values, to be renamed: {shown}.")
    if void is None and not unnamed:
        return replace(data, classes=str(file))
    ignored = [] if void is None else [list(named)[void]]
    counted = [color for color in (*named, *unnamed) if color not in ignored]
    return replace(
        data,
        classes=[named.get(color) or _color_name(color) for color in counted],
        colors=[list(color) for color in (*counted, *ignored)],
        ignore_index=len(counted) if ignored else IGNORE,
    )


def _too_many_colors(data: Data, count: int) -> DataError:
    return DataError(
        f"{data.root}: masks have {count} colours, more than classes; were they saved as JPEG or resized smoothly? "
        "Save them with one colour a class, or name the colours that are meant in data.colors"
    )


def _drafted_palette(data: Data, values: MaskValues, notes: list[str]) -> Data:
    """Make a class of each colour, the most frequent first, with a published data set's names if it has them all."""
    found = [color for color, _ in values.pixels.most_common() if not isinstance(color, int)]
    if len(found) > MOST_COLORS:
        raise _too_many_colors(data, len(found))
    source, known = _known_colors(found)
    names = [known.get(color) or ("background" if color == (0, 0, 0) else _color_name(color)) for color in found]
    void = [at for at, name in enumerate(names) if name.lower() in VOID]
    notes.append(
        f"Colours have the names of the data set '{source}': rename those that are others in yours."
        if known
        else "Colours are named by their values: rename them."
    )
    if void:
        found = [color for at, color in enumerate(found) if at not in void] + [found[at] for at in void]
        names = [name for name in names if name.lower() not in VOID]
    ignore = len(names) if void else IGNORE
    return replace(data, classes=names, colors=[list(color) for color in found], ignore_index=ignore)


def _color_name(color: Color) -> str:
    return "color {:02x}{:02x}{:02x}".format(*color)


def _known_colors(found: Sequence[Color]) -> tuple[str, dict[Color, str]]:
    """Return the name of a published data set with all these colours but black, and its names of them, if any has."""
    colored = {color for color in found if color != (0, 0, 0)}
    for layout in LAYOUTS.values():
        if layout.spec is not None:
            named = dict(zip(layout.spec.colors, layout.spec.class_names, strict=True))
            if len(colored) > 1 and colored <= named.keys():
                return layout.name, {color: named[color] for color in found if color in named}
    return "", {}


def _from_ids(data: Data, values: MaskValues, notes: list[str]) -> Data:
    """Name classes by their ids; ids far apart get a label map."""
    ids = sorted(value for value in values.files if isinstance(value, int))
    if ids == [0, IGNORE]:
        return replace(data, classes=["background", "foreground"], label_map={0: 0, IGNORE: 1}, ignore_index=None)
    counted = [value for value in ids if value != IGNORE]
    count = max(counted, default=0) + 1
    notes.append(
        "No file names the classes, so their ids do: rename them, or put a classes.txt, one name a line, into the "
        "folder and repeat the command. If one of the values means unlabelled, set data.ignore_index to it."
    )
    if len(counted) > 1 and count > 2 * len(counted):
        notes.append("Ids have gaps, which data.label_map closes.")
        names = [f"class {value}" for value in counted]
        return replace(data, classes=names, label_map={value: at for at, value in enumerate(counted)})
    return replace(data, classes=[f"class {index}" for index in range(max(count, 2))])

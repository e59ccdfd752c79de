"""The metadata of delivered files, which is written, read and checked here alone."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from ladseg.data.classes import palette
from ladseg.data.spec import Range, Ranges
from ladseg.errors import ModelError, control_character

FORMAT = "ladseg-student-1"
# The format of a teacher's file, which holds all of its weights and the settings of its label noise.
TEACHER = "ladseg-teacher-1"
# Masks hold ids of at most 16 bits.
MOST_CLASSES = 65536
# One number a channel of the image.
Numbers = tuple[float, ...]
MOST_CHANNELS = 1024
Color = tuple[int, int, int]
T = TypeVar("T")


# Networks that older versions built differently with equal parameters; such files do not record align_corners.
REBUILT = ("fcn_r18", "ocrnet_w18s", "ocrnet_w18", "ocrnet_w48")


@dataclass(frozen=True)
class TrainedOn:
    """The data set on which a network was trained.

    Attributes:
        class_names: Class names in the order of the class ids.
        colors: One RGB colour per class, 0..255; the package's palette if the file has none.
        ignore_index: The value of ignored pixels in mask files; None if there is none.
        label_map: Maps mask values to class ids; None if mask values are the class ids.
        recipe: The data section of the run's recipe; None if the file does not record it.
        value_range: The values of 16-bit images that become 0 and 255, one pair for all channels or one for each; None
            for all 16 bits.
    """

    class_names: tuple[str, ...]
    colors: tuple[Color, ...]
    ignore_index: int | None = 255
    label_map: dict[int, int] | None = None
    recipe: dict[str, Any] | None = None
    value_range: Ranges | None = None


@dataclass(frozen=True)
class StudentHeader:
    """The metadata of a delivered file.

    Attributes:
        model: The network's name for :func:`ladseg.build_model`.
        num_classes: Number of classes.
        mean: Mean of each channel to subtract from images in 0..1.
        std: Standard deviation to divide images by.
        data: The training data.
        align_corners: How its logits are upsampled; networks whose files do not record it were trained with aligned
            corners.
        output_stride: The argument of :func:`ladseg.build_model`; None means the network's own.
        args: The argument of :func:`ladseg.build_model`.
    """

    model: str
    num_classes: int
    mean: Numbers
    std: Numbers
    data: TrainedOn
    align_corners: bool = True
    output_stride: int | None = None
    args: dict[str, Any] | None = None

    @property
    def channels(self) -> int:
        """Channels of the image that it takes."""
        return len(self.mean)

    def metadata(self) -> dict[str, str]:
        """Return the header as strings by name, the form in which safetensors stores it."""
        return {"format": FORMAT, "ladseg": json.dumps(asdict(self))}


def parse_header(path: Path, metadata: Mapping[str, str], teacher: bool = False) -> StudentHeader:
    """Parse and check the metadata of a safetensors file, which may come from anyone.

    Args:
        path: The file, for messages.
        metadata: Strings by name, as read by safetensors.
        teacher: Whether the file may be a teacher's.

    Raises:
        ModelError: The file was not written by ladseg, or an entry is missing, of another type or out of range.
    """
    if metadata.get("format") == TEACHER and not teacher:
        raise ModelError(
            f"{path}: a teacher for ladseg train --teacher-from; to predict, give the student.safetensors of its run"
        )
    if metadata.get("format") not in (FORMAT, TEACHER):
        raise ModelError(
            f"{path}: safetensors without ladseg's metadata, so its network is unknown; "
            "give the student.safetensors of a run"
        )
    try:
        values = json.loads(metadata.get("ladseg", ""))
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else "no JSON"
        raise ModelError(f"{path}: its metadata can't be read ({reason}); {REMEDY}") from None
    header = make_header(path, values)
    if header.model in REBUILT and "align_corners" not in values:
        raise ModelError(
            f"{path}: delivered by an older ladseg, whose '{header.model}' was not quite the published network; "
            "predict with that version, or train it again"
        )
    return header


def make_header(path: Path, values: Any) -> StudentHeader:
    """Check plain values and make a header of them.

    Args:
        path: The file, for messages.
        values: The header's attributes by name, as JSON values; other names are ignored.

    Raises:
        ModelError: As for :func:`parse_header`.
    """
    entries = _Entries(path, values)
    count = entries.take("num_classes", _whole(1, MOST_CLASSES), f"a whole number from 1 to {MOST_CLASSES}")
    mean = entries.take("mean", _numbers(-math.inf), "finite numbers, one a channel")
    return StudentHeader(
        model=entries.take("model", _text, "the name of a network"),
        num_classes=count,
        mean=mean,
        std=entries.take("std", _numbers(0.0, len(mean)), f"{len(mean)} finite numbers above 0"),
        data=_trained_on(_Entries(path, entries.values.get("data"), "data."), count, len(mean)),
        align_corners=entries.take("align_corners", _truth, "true or false", default=True),
        output_stride=entries.take("output_stride", _or_none(_whole(1, 1024)), "a stride or null", default=None),
        args=entries.take("args", _or_none(_mapping), "a mapping or null", default=None),
    )


def _trained_on(entries: "_Entries", count: int, channels: int) -> TrainedOn:
    colors = _list_of(_list_of(_whole(0, 255), 3), count)
    names = f"{count} names without control characters, one for each class"
    return TrainedOn(
        class_names=entries.take("class_names", _list_of(_text, count), names),
        colors=entries.take("colors", colors, f"{count} RGB colours of 0..255", default=palette(count)),
        ignore_index=entries.take("ignore_index", _or_none(_whole(0, MOST_CLASSES)), "a mask value or null", 255),
        label_map=entries.take("label_map", _or_none(_label_map(count)), "mask values to class ids, or null", None),
        recipe=entries.take("recipe", _or_none(_mapping), "a mapping or null", default=None),
        value_range=entries.take(
            "value_range", _or_none(_ranges(channels)), "two values of 0..65535, such a pair a channel, or null", None
        ),
    )


REMEDY = "the file is damaged or was not written by ladseg; give the student.safetensors of a run as it was written"
_MISSING: Any = object()
# A function that returns a value in the header's type, or raises ValueError.
Check = Callable[[Any], T]


class _Entries:
    """A mapping from a file, whose entries are checked when they are taken out."""

    def __init__(self, path: Path, values: Any, within: str = "") -> None:
        self.path, self.within = path, within
        if not isinstance(values, dict):
            raise self.error(within.rstrip(".") or "metadata", values, "a mapping")
        self.values: dict[str, Any] = values

    def take(self, key: str, check: Check[T], wanted: str, default: Any = _MISSING) -> T:
        """Return one entry; a missing one gives the default, or an error if there is no default."""
        if key not in self.values:
            if default is _MISSING:
                raise ModelError(f"{self.path}: its metadata has no '{self.within}{key}'; {REMEDY}")
            return default
        try:
            return check(self.values[key])
        except (ValueError, OverflowError):
            raise self.error(self.within + key, self.values[key], wanted) from None

    def error(self, key: str, value: Any, wanted: str) -> ModelError:
        try:
            shown = json.dumps(value)
        except (TypeError, ValueError, RecursionError):
            shown = type(value).__name__
        shown = shown if len(shown) <= 60 else f"{shown[:60]}..."
        return ModelError(f"{self.path}: its metadata has {key}: {shown}, not {wanted}; {REMEDY}")


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or control_character(value) is not None:
        raise ValueError
    return value


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _whole(low: int, high: int) -> Check[int]:
    def check(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError
        return value

    return check


def _numbers(above: float, count: int | None = None) -> Check[Numbers]:
    def number(value: Any) -> float:
        if type(value) not in (int, float) or not math.isfinite(value) or not value > above:
            raise ValueError
        return float(value)

    def numbers(value: Any) -> Numbers:
        channels = count or (min(len(value), MOST_CHANNELS) if isinstance(value, list | tuple) and value else 1)
        return tuple(_list_of(number, channels)(value))

    return numbers


def _list_of(check: Check[Any], count: int) -> Check[Any]:
    """Check a list of ``count`` entries, and return them as a tuple."""

    def check_all(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple) or len(value) != count:
            raise ValueError
        return tuple(check(part) for part in value)

    return check_all


def _range(value: Any) -> Range:
    low, high = _list_of(_whole(0, 65535), 2)(value)
    if low >= high:
        raise ValueError
    return low, high


def _ranges(channels: int) -> Check[Ranges]:
    """Check one range for all channels, or one for each."""

    def check(value: Any) -> Ranges:
        several = isinstance(value, list | tuple) and any(isinstance(pair, list | tuple) for pair in value)
        ranges: Ranges = _list_of(_range, channels)(value) if several else _range(value)
        return ranges

    return check


def _label_map(count: int) -> Check[dict[int, int]]:
    """Check a mapping of mask values, which JSON makes strings, to class ids or to 255 (ignored)."""
    ids = _whole(0, max(255, count - 1))

    def check(value: Any) -> dict[int, int]:
        return {int(key): ids(class_id) for key, class_id in _mapping(value).items()}

    return check


def _mapping(value: Any) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise ValueError
    return value


def _or_none(check: Check[T]) -> Check[T | None]:
    return lambda value: None if value is None else check(value)

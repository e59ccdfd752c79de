"""Check every value of a recipe against the type and range of its field."""

import math
import types
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from ladseg.errors import RecipeError, nearest


@dataclass(frozen=True)
class Range:
    """The bounds of a number, or of each number of a list.

    Args:
        least: Smallest allowed value.
        most: Largest allowed value.
        above: Exclusive lower bound.
        below: Exclusive upper bound.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None

    def holds(self, number: float) -> bool:
        """Return whether the number is within the bounds."""
        return (
            (self.least is None or number >= self.least)
            and (self.most is None or number <= self.most)
            and (self.above is None or number > self.above)
            and (self.below is None or number < self.below)
        )

    def __str__(self) -> str:
        words = {"of at least": self.least, "above": self.above, "at most": self.most, "below": self.below}
        return " and ".join(f"{word} {bound}" for word, bound in words.items() if bound is not None)


@dataclass(frozen=True)
class Length:
    """The bound on the number of elements of a list or mapping: exactly ``count``, or else at least ``least``."""

    count: int | None = None
    least: int = 0

    def holds(self, number: int) -> bool:
        """Return whether the number of elements is allowed."""
        return number >= self.least if self.count is None else number == self.count

    def __str__(self) -> str:
        return f"with {self.count} elements" if self.count is not None else f"with at least {self.least} element"


class Misfit(Exception):
    """A value that does not fit its field.

    Attributes:
        key: The key of the value.
        value: The value.
        wanted: What the value must be, in words.
        hint: The end of the message, such as the nearest choice.
    """

    def __init__(self, key: str, value: Any, wanted: str, hint: str = "") -> None:
        super().__init__(f"{key} is {shown(value)}; it must be {wanted}{hint}")
        self.key, self.value, self.wanted, self.hint = key, value, wanted, hint


def checked(value: Any, kind: Any, key: str, source: str) -> Any:
    """Return the value as its field holds it.

    Args:
        value: From YAML or the command line.
        kind: The annotation of the field; its numbers have a :class:`Range` as in ``Annotated[int, Range(least=1)]``.
        key: The field's key, such as ``schedule.lr``.
        source: The source of the value, for the message.

    Raises:
        RecipeError: The value has another type, is out of range, or is not a finite number.
    """
    try:
        return _fit(value, kind, key)
    except Misfit as misfit:
        raise RecipeError(f"{source}: {misfit}") from None


def shown(value: Any) -> str:
    """Return the value as YAML spells it, shortened."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    try:
        text = repr(value) if isinstance(value, str | list | dict) else str(value)
    except (RecursionError, ValueError):  # an endless list; a whole number of thousands of digits
        return f"a {type(value).__name__} that is too long"
    return text if len(text) <= 60 else text[:57] + "..."


def _fit(value: Any, kind: Any, key: str) -> Any:
    origin, of = get_origin(kind), get_args(kind)
    if origin is Annotated:
        fitted = _fit(value, of[0], key)
        for bound in of[1:]:
            if not _keeps(fitted, bound):
                raise Misfit(key, value, description(kind))
        return fitted
    if origin in (Union, types.UnionType):
        return _one_of(value, of, key)
    if origin is Literal:
        if not isinstance(value, str) or value not in of:
            hint = nearest(str(value), of, listed=False) if isinstance(value, str) else ""
            raise Misfit(key, value, f"one of {', '.join(of)}", hint)
        return value
    if origin is tuple and get_origin(of[0]) is Annotated:  # a range of pixel values
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise Misfit(key, value, description(kind))
        return tuple(_elements(value, of[0], key))
    if origin is tuple:
        return tuple(_elements(_pair(value, key), of[0], key))
    if origin is list:
        if not isinstance(value, list):
            raise Misfit(key, value, f"a list of {description(of[0])}")
        return _elements(value, of[0], key)
    if origin is dict:
        if not isinstance(value, dict):
            raise Misfit(key, value, f"a mapping of {description(of[0])} to {description(of[1])}")
        return {_fit(k, of[0], f"a key of {key}"): _fit(v, of[1], f"{key}.{k}") for k, v in value.items()}
    return _plain(value, key) if kind is Any else _scalar(value, kind, key)


def _scalar(value: Any, kind: Any, key: str) -> Any:
    """Return a bool, int, float, str or None."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and not _is_finite(value):
        raise Misfit(key, value, "a finite number")
    if kind is float and number:
        return float(value)
    if kind is int and number and value == int(value):
        return int(value)
    if kind is str and isinstance(value, str) and not _is_encodable(value):
        raise Misfit(key, value, "text without NUL characters and halves of surrogate pairs")
    if kind in (bool, str, type(None)) and type(value) is kind:
        return value
    # YAML converts yes, no, on, off, dates and numbers unless they are in quotes.
    quotes = "" if kind is not str or isinstance(value, list | dict | None) else " (put it in quotes)"
    raise Misfit(key, value, description(kind) + quotes)


def _is_encodable(text: str) -> bool:
    """Return whether a path of the operating system may hold a text; command lines may hold bytes that aren't UTF-8."""
    try:
        return b"\0" not in text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond the largest float
        return False


def _keeps(value: Any, bound: Range | Length) -> bool:
    """Return whether a number, each number of a pair, or the length of a list or mapping is within a bound."""
    if isinstance(bound, Length):
        return bound.holds(len(value))
    return all(bound.holds(number) for number in (value if isinstance(value, tuple) else (value,)))


def _one_of(value: Any, kinds: tuple[Any, ...], key: str) -> Any:
    """Return the value as the first kind that it fits."""
    misfits = []
    for kind in kinds:
        try:
            return _fit(value, kind, key)
        except Misfit as misfit:
            misfits.append(misfit)
    # A fault inside a list tells more than the fact that a list is not text.
    telling = [misfit for misfit in misfits if misfit.key != key or "quotes" in misfit.wanted]
    inner = max(telling, key=lambda misfit: misfit.key.count("["), default=None)
    wanted = dict.fromkeys(misfit.wanted for misfit in misfits)
    if "a finite number" in wanted:
        wanted = {"a finite number": None}
    raise inner or Misfit(key, value, " or ".join(wanted), max(misfit.hint for misfit in misfits))


def _elements(values: Any, kind: Any, key: str) -> list[Any]:
    return [_fit(value, kind, f"{key}[{number}]") for number, value in enumerate(values)]


def _pair(value: Any, key: str) -> list[Any]:
    """Return height and width of ``[128, 160]`` or of ``128x160``."""
    sides = value.lower().split("x") if isinstance(value, str) else value
    if not isinstance(sides, list | tuple) or len(sides) != 2:
        raise Misfit(key, value, "height and width, such as 128x160 or [128, 160]")
    if isinstance(value, str):
        if not all(side.strip().isdecimal() for side in sides):
            raise Misfit(key, value, "height and width, such as 128x160 or [128, 160]")
        return [int(side) for side in sides]
    return list(sides)


def _plain(value: Any, key: str) -> Any:
    """Return the value if JSON could hold it, so that a recipe can be written and read back equal; else raise."""
    if isinstance(value, list):
        return [_plain(element, f"{key}[{number}]") for number, element in enumerate(value)]
    if isinstance(value, dict):
        return {_scalar(k, str, f"a key of {key}"): _plain(v, f"{key}.{k}") for k, v in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        raise Misfit(key, value, "a finite number")
    if value is not None and not isinstance(value, bool | int | float | str):
        raise Misfit(key, value, "a number, text (put it in quotes), true, false, null, a list or a mapping")
    return value


def accepts_text(kind: Any) -> bool:
    """Return whether a field may hold any text."""
    return kind is str or str in get_args(kind)


def description(kind: Any) -> str:
    """Return a type's description for a message."""
    origin, of = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return " ".join([description(of[0]), *(str(bound) for bound in of[1:])])
    if origin in (Union, types.UnionType):
        return " or ".join(description(member) for member in of)
    if origin is tuple:
        # The bounds of a size follow; those of a range of pixel values stand at its two numbers.
        is_range = get_origin(of[0]) is Annotated
        return (
            f"a pair such as [0, 4095], each {description(of[0])}"
            if is_range
            else "height and width such as 360x480, each"
        )
    if origin is list:
        return f"a list of {description(of[0])}"
    if origin is Literal:
        return f"one of {', '.join(of)}"
    if origin is dict:
        return f"a mapping of {description(of[0])} to {description(of[1])}"
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text", type(None): "null"}
    return names.get(kind, "a value")

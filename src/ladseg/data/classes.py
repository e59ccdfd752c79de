"""Class names and their colours: from a list, or from the class files of common tools."""

import colorsys
import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ladseg.data.text import read_text
from ladseg.errors import DataError, first_words

Color = tuple[int, int, int]

# The first line of a labelme file: the label of ignored pixels, which has no class id.
LABELME_IGNORE = "__ignore__"
NAME_COLUMNS = ("name", "class", "class_name", "classname", "label", "category")
ID_COLUMNS = ("id", "idx", "index", "value", "pixel value", "pixel_value", "class_id", "train_id", "label_id")
COLOR_COLUMNS = (("r", "g", "b"), ("red", "green", "blue"))
# Keys that hold the classes in the YAML and JSON files of other tools.
YAML_KEYS = ("names", "classes", "class_names", "labels", "id2label")


@dataclass(frozen=True)
class Row:
    """One class as a file gives it.

    Attributes:
        place: The line's position, for messages.
        name: The class.
        id: Its id, if the file gives one.
        color: Its colour, if the file gives one.
    """

    place: str
    name: str
    id: int | None = None
    color: Color | None = None


def read_classes(classes: list[str] | str) -> tuple[tuple[str, ...], tuple[Color, ...] | None]:
    """Read class names in the order of their ids, and their colours if the source gives them.

    Args:
        classes: The names, or a file of them: one name per line (optionally after its id, or as labelme writes it),
            CVAT's ``name:r,g,b::``, CamVid's ``r g b name``, a CSV file with the column name and optionally id or
            r, g, b, or a list or mapping in YAML or JSON.

    Raises:
        DataError: The file is missing or empty, a name occurs twice, or a line has none of these forms.
    """
    if not isinstance(classes, str):
        rows = [Row(f"data.classes: entry {number}", name) for number, name in enumerate(classes, 1)]
        where = f"data.classes {classes}"
    else:
        path = Path(classes)
        if not classes or not path.is_file():
            raise DataError(
                f"data.classes '{classes}' is not a file; give the class names as a list, or a file of one a line"
            )
        rows = _in_order(_read_file(path))
        where = str(path)
    if not rows:
        raise DataError(f"data.classes '{classes}' names no class; give one name a line, in the order of the class ids")
    _refuse_repeated(rows)
    if len(rows) == 1:
        raise DataError(
            f"{where}: one class can't be learned, as every pixel has it; name what is around it too: "
            f"classes: [background, {rows[0].name}], with label_map: {{0: 0, 255: 1}} and ignore_index: null if masks "
            "hold 0 and 255"
        )
    colors = [row.color for row in rows if row.color is not None]
    if colors and len(colors) < len(rows):
        lacking = next(row for row in rows if row.color is None)
        raise DataError(f"{lacking.place} '{lacking.name}' has no colour, but other classes have; give all or none")
    return tuple(row.name for row in rows), tuple(colors) or None


def _refuse_repeated(rows: Sequence[Row]) -> None:
    first: dict[str, Row] = {}
    for row in rows:
        if row.name in first:
            raise DataError(f"{row.place}: class '{row.name}' stands twice; each class id needs a name of its own")
        first[row.name] = row


def _in_order(rows: list[Row]) -> list[Row]:
    """Order the rows by their ids, which must be 0, 1, 2 and so on; rows without ids are already in order."""
    numbered = [row for row in rows if row.id is not None]
    if not numbered:
        return rows
    if len(numbered) < len(rows):
        lacking = next(row for row in rows if row.id is None)
        raise DataError(f"{lacking.place} '{lacking.name}' has no id, but other classes have; give all or none")
    ordered = sorted(numbered, key=lambda row: row.id or 0)
    for expected, row in enumerate(ordered):
        if row.id != expected:
            raise DataError(
                f"{row.place} gives '{row.name}' the id {row.id} where {expected} is next; ids run 0, 1, 2 ... without "
                "a gap: name what the missing id stands for (such as background), or give data.classes as names alone "
                "and data.label_map from mask values to 0, 1, 2 ..."
            )
    return ordered


def _read_file(path: Path) -> list[Row]:
    text = read_text(path)
    if path.suffix.lower() == ".csv":
        return _read_csv(path, text)
    if path.suffix.lower() in (".yaml", ".yml", ".json"):
        return _read_yaml(path, text)
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
    if lines and all(re.match(r"- \S", line) for _, line in lines):
        return _read_yaml(path, text)
    for parse in (_cvat, _color_first, _id_first):
        found = [parse(line) for _, line in lines]
        if lines and all(found):
            return [
                Row(f"{path}: line {number}", *parsed)
                for (number, _), parsed in zip(lines, found, strict=True)
                if parsed is not None
            ]
    if lines and lines[0][1] == LABELME_IGNORE:
        lines = lines[1:]
    for number, line in lines:
        _refuse_odd(path, number, line)
    return [Row(f"{path}: line {number}", line) for number, line in lines]


Parsed = tuple[str, int | None, Color | None]


def _cvat(line: str) -> Parsed | None:
    """Parse ``name:r,g,b:parts:actions`` of CVAT's labelmap.txt."""
    fit = re.fullmatch(r"([^:]+):(\d+),(\d+),(\d+)(:[^:]*){0,2}", line)
    return (fit[1].strip(), None, _color(fit.groups()[1:4])) if fit else None


def _color_first(line: str) -> Parsed | None:
    """Parse CamVid's ``r g b name``, or ``name r g b``."""
    fit = re.fullmatch(r"(\d+)[\s,]+(\d+)[\s,]+(\d+)[\s,]+(\D.*)", line)
    if fit:
        return fit[4].strip(), None, _color(fit.groups()[:3])
    fit = re.fullmatch(r"(.*?\S)[\s,]+(\d+)[\s,]+(\d+)[\s,]+(\d+)", line)
    return (fit[1].strip(" ,"), None, _color(fit.groups()[1:4])) if fit else None


def _id_first(line: str) -> Parsed | None:
    """Parse ``0 name``, ``0: name``, ``0, name`` and the like."""
    fit = re.fullmatch(r"(\d+)\s*(?:[:,;=.)]\s*|\s)(\D.*)", line)
    return (fit[2].strip(), int(fit[1]), None) if fit else None


def _color(words: Sequence[str | Any]) -> Color:
    red, green, blue = (int(word) for word in words)
    return red, green, blue


def _refuse_odd(path: Path, number: int, line: str) -> None:
    """Refuse a line that is not a plain class name but some other tool's format."""
    odd = (
        (line in (LABELME_IGNORE, "---", "...") or line.startswith(("//", "%", ";")), "is not a class name"),
        (re.match(r"[\[{(]\s*$|[\"'].*[\"'],?$|\[.*[,\]]$|- \S|<\?", line), "looks like code, JSON, XML or YAML"),
        (re.search(r"[,;:={]\s*$", line), "ends in the middle"),
        (re.search(r"[:=\t|]", line), "holds more than a name"),
        (re.match(r"\d+\W", line), "starts with a number, and other lines do not"),
    )
    for found, what in odd:
        if found:
            raise DataError(
                f"{path}: line {number} '{line[:60]}' {what}; give one class name a line in the order of the ids, "
                "or a CSV file with the columns id,name or name,r,g,b"
            )


def _read_yaml(path: Path, text: str) -> list[Row]:
    """Read a list of names or a mapping of ids to names, at the top or below a customary key."""
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise DataError(f"{path}: can't be read as YAML ({first_words(error)})") from None
    if isinstance(content, dict):
        content = next((content[key] for key in YAML_KEYS if key in content), content)
    place = f"{path}: class"
    if isinstance(content, list) and all(isinstance(name, str) and name.strip() for name in content):
        return [Row(f"{place} {number}", name.strip()) for number, name in enumerate(content, 1)]
    if isinstance(content, dict) and content:
        ids = {str(key): name for key, name in content.items()}
        if all(key.isdigit() and isinstance(name, str) for key, name in ids.items()):
            return [Row(f"{place} {key}", name.strip(), int(key)) for key, name in ids.items()]
    odd = next((name for name in content if not isinstance(name, str)), "") if isinstance(content, list) else ""
    found = f" (it holds {odd!r}; put names that YAML takes for something else in quotes)" if odd != "" else ""
    raise DataError(f"{path}: neither a list of class names nor a mapping of ids to names{found}")


def _read_csv(path: Path, text: str) -> list[Row]:
    reader = csv.reader(text.splitlines())
    rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    rows = [(number, row) for number, row in rows if any(row) and not row[0].startswith("#")]
    if not rows:
        return []
    columns = _columns([cell.lower() for cell in rows[0][1]])
    if columns is not None:
        rows = rows[1:]
    else:
        columns = _columns_without_heading([row for _, row in rows])
    return [_csv_row(path, number, row, columns) for number, row in rows]


# The columns of the name, the id and the colour.
Columns = tuple[int, int | None, tuple[int, int, int] | None]


def _columns(heading: list[str]) -> Columns | None:
    """Find the columns by their headings; return None if the first row is not a heading."""
    name = next((heading.index(word) for word in NAME_COLUMNS if word in heading), None)
    number = next((heading.index(word) for word in ID_COLUMNS if word in heading), None)
    colors = next((words for words in COLOR_COLUMNS if set(words) <= set(heading)), None)
    if name is None and colors is not None:
        name = next((place for place, word in enumerate(heading) if word not in colors and place != number), None)
    if name is None or (number is None and colors is None and len(heading) > 1):
        return None
    return name, number, None if colors is None else (heading.index(colors[0]), *map(heading.index, colors[1:]))  # type: ignore[return-value]


def _columns_without_heading(rows: list[list[str]]) -> Columns:
    """Find the columns by their content: name; id,name; name,id; or name,r,g,b."""
    wide = max(map(len, rows))
    if wide == 1:
        return 0, None, None
    if wide == 2:
        return (1, 0, None) if rows[0][0].isdigit() else (0, 1, None)
    return (1, 0, (2, 3, 4)) if wide == 5 and rows[0][0].isdigit() else (0, None, (1, 2, 3))


def _csv_row(path: Path, number: int, row: list[str], columns: Columns) -> Row:
    name, id_place, color_places = columns
    wanted = [name, *([] if id_place is None else [id_place]), *(color_places or ())]
    if len(row) > max(wanted) and row[name]:
        numbers = [row[place] for place in wanted[1:]]
        parts = [row[place] for place in color_places or ()]
        if all(cell.isdigit() for cell in numbers) and all(int(cell) <= 255 for cell in parts):
            return Row(
                f"{path}: row {number}",
                row[name],
                None if id_place is None else int(row[id_place]),
                None if color_places is None else _color(parts),
            )
    raise DataError(
        f"{path}: row {number} '{','.join(row)}' is not name,r,g,b with colours of 0..255, id,name or a name alone"
    )


def palette(count: int) -> tuple[Color, ...]:
    """Return distinct colours, each a function of its index: hues a golden section apart, lightness alternating."""
    colors = []
    for index in range(count):
        lightness = (0.55, 0.38, 0.72)[index % 3]
        red, green, blue = colorsys.hls_to_rgb((0.58 + index * 0.618034) % 1.0, lightness, 0.65)
        colors.append((round(255 * red), round(255 * green), round(255 * blue)))
    return tuple(colors)

"""Class names and their colours: from a list, a text file or a CSV file."""

import colorsys
import csv
from pathlib import Path

from ladseg.data.text import read_text
from ladseg.errors import DataError

Color = tuple[int, int, int]


def read_classes(classes: list[str] | str) -> tuple[tuple[str, ...], tuple[Color, ...] | None]:
    """Class names in the order of their ids, and their colours where the source gives them.

    Args:
        classes: The names; or a text file with one a line; or a CSV file with the columns name, r, g, b (0..255).

    Raises:
        DataError: No such file, no name in it, or a row that is not name, r, g, b.
    """
    if not isinstance(classes, str):
        names, colors = tuple(classes), None
    else:
        path = Path(classes)
        if not classes or not path.is_file():
            raise DataError(
                f"data.classes '{classes}' is no file; give the class names as a list, or a file of one a line"
            )
        names, colors = _read_csv(path) if path.suffix.lower() == ".csv" else (_read_lines(path), None)
    if not names:
        raise DataError(f"data.classes '{classes}' names no class; give one name a line, in the order of the class ids")
    return names, colors


def _read_lines(path: Path) -> tuple[str, ...]:
    return tuple(name for line in read_text(path).splitlines() if (name := line.strip()))


def _read_csv(path: Path) -> tuple[tuple[str, ...], tuple[Color, ...]]:
    rows = [[cell.strip() for cell in row] for row in csv.reader(read_text(path).splitlines()) if any(row)]
    if rows and len(rows[0]) == 4 and not rows[0][1].isdigit():
        rows = rows[1:]  # the heading
    for row in rows:
        if len(row) != 4 or not all(cell.isdigit() and int(cell) <= 255 for cell in row[1:]):
            raise DataError(f"{path}: row '{','.join(row)}' is not name,r,g,b with colours of 0..255")
    return tuple(row[0] for row in rows), tuple((int(row[1]), int(row[2]), int(row[3])) for row in rows)


def palette(count: int) -> tuple[Color, ...]:
    """Distinct colours, the same ones for the same position: hues a golden section apart, lightness in turns."""
    colors = []
    for index in range(count):
        lightness = (0.55, 0.38, 0.72)[index % 3]
        red, green, blue = colorsys.hls_to_rgb((0.58 + index * 0.618034) % 1.0, lightness, 0.65)
        colors.append((round(255 * red), round(255 * green), round(255 * blue)))
    return tuple(colors)

"""SVG plots that take their colours from the HTML page, for light and dark screens and for paper."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

# Placeholders in matplotlib's output, which become the page's text colour and its CSS variables --s0, --s1, ...
TEXT = "#010203"
SERIES = tuple(f"#a1b2{number:02x}" for number in range(10))
DASHES = ("-", "--", ":")
# Width of a plot in inches; a phone shows it at about this size.
WIDTH = 4.6
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "ladseg",  # makes equal runs give equal pages
    "font.size": 10,
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": TEXT,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "legend.frameon": False,
    "grid.color": TEXT,
    "grid.alpha": 0.15,
}
# The largest numbers of classes whose names fit along an axis, and whose shares fit into the cells.
NAMED, NUMBERED = 30, 20
# RGB colour of heat maps, whose opacity shows the value on any background.
HEAT = (0x09, 0x69, 0xDA)


def curves(
    name: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    label: str,
    log: bool = False,
    colors: Sequence[int] = range(len(SERIES)),
) -> str:
    """Draw lines over training steps.

    Args:
        name: Name of the figure, unique in the page.
        series: (step, value) pairs by name.
        label: Label of the vertical axis.
        log: Whether the vertical axis is logarithmic, if all values are positive.
        colors: Index of each line's colour on the page; lines of equal colour differ in their dashes.
    """
    with rc_context(STYLE):
        figure, axes = empty_figure(3.0)
        for number, (title, points) in enumerate(series.items()):
            color, dash = SERIES[colors[number % len(colors)]], DASHES[number // len(colors) % len(DASHES)]
            marker = "o" if len(points) < 12 else None
            axes.plot(*zip(*points, strict=True), label=title, color=color, linestyle=dash, marker=marker, markersize=3)
        if log and all(value > 0 for points in series.values() for _, value in points):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(_PlainNumbers())
            axes.yaxis.set_minor_formatter(_PlainNumbers())
        axes.set_xlabel("training step")
        axes.set_ylabel(label)
        axes.grid(visible=True)
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.2), ncols=3, fontsize=9, borderaxespad=0)
        return svg_of(figure, name)


def heat_map(name: str, counts: np.ndarray, class_names: Sequence[str]) -> str:
    """Draw a confusion matrix, each row as shares of the label's pixels, in per cent where there is room.

    Args:
        name: Name of the figure, unique in the page.
        counts: ``(C, C)``, row = label.
        class_names: Class names, which are written along the axes if they fit.
    """
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    pixels = np.empty((*shares.shape, 4), dtype=np.uint8)
    pixels[..., :3], pixels[..., 3] = HEAT, np.rint(255 * np.sqrt(shares))
    with rc_context(STYLE):
        figure, axes = empty_figure(4.4)
        axes.imshow(pixels, interpolation="nearest")
        axes.set_xlabel("predicted")
        axes.set_ylabel("label")
        if len(class_names) <= NUMBERED:
            _write_numbers(axes, 100 * shares)
        if len(class_names) <= NAMED:
            places = range(len(class_names))
            axes.set_xticks(places, class_names, rotation=90, fontsize=8)
            axes.set_yticks(places, class_names, fontsize=8)
        return svg_of(figure, name)


def _write_numbers(axes: Any, percents: np.ndarray) -> None:
    """Write the whole per cent of each cell that has any; white on dark cells."""
    size = min(8.0, 80 / len(percents))
    for (row, column), value in np.ndenumerate(percents):
        if value >= 0.5:
            color = "white" if value >= 45 else TEXT
            axes.text(column, row, f"{value:.0f}", color=color, fontsize=size, ha="center", va="center")


class _PlainNumbers(LogFormatter):
    """Writes 0.5 and 20 instead of powers of ten, which are hard to read on a phone."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def empty_figure(height: float) -> tuple[Figure, Any]:
    """Return a figure of the page's width and its axes; use it under ``rc_context(STYLE)``."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure, figure.subplots()


def svg_of(figure: Figure, name: str) -> str:
    """Return the SVG element with ids that are unique in the page, and the page's colours."""
    memory = io.StringIO()
    figure.savefig(memory, format="svg", transparent=True, metadata={"Date": None})
    text = memory.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|"#|url\(#)', rf"\1{name}-", text)
    text = re.sub(
        r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true">', text, count=1, flags=re.DOTALL
    )
    text = text.replace(TEXT, "currentColor")
    for number, color in enumerate(SERIES):
        text = text.replace(color, f"var(--s{number})")
    return text

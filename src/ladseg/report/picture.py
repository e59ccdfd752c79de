"""A picture of images, labels and predictions side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from ladseg.files import write_atomically


@dataclass(frozen=True)
class Panel:
    """One column.

    Attributes:
        title: Heading of the column.
        maps: One map per row: an image ``(3, H, W)`` uint8, class ids ``(H, W)`` integer, or a float map ``(H, W)``.
    """

    title: str
    maps: Sequence[Tensor]


def save_picture(
    path: Path,
    panels: Sequence[Panel],
    class_names: Sequence[str],
    colors: Sequence[tuple[int, int, int]],
    caption: str,
) -> None:
    """Draw the panels side by side, with a legend of the classes and a caption below, as a PNG.

    Ids outside the classes (ignored pixels) are black. Float maps are grey, each scaled to its own range.
    """
    rows, columns = len(panels[0].maps), len(panels)
    height, width = panels[0].maps[0].shape[-2:]
    cell = 2.6
    body = rows * cell * height / width
    legend_lines = -(-len(class_names) // 10)
    below = 0.3 * legend_lines + 0.5
    figure = Figure(figsize=(columns * cell, body + 0.45 + below), dpi=110, facecolor="white")
    axes = figure.subplots(rows, columns, squeeze=False)
    figure.subplots_adjust(
        left=0.005,
        right=0.995,
        wspace=0.03,
        hspace=0.04,
        top=1 - 0.45 / (body + 0.45 + below),
        bottom=below / (body + 0.45 + below),
    )
    lookup = color_table(colors)
    for column, panel in enumerate(panels):
        axes[0][column].set_title(panel.title, fontsize=9)
        for row, values in enumerate(panel.maps):
            axis = axes[row][column]
            axis.set_axis_off()
            axis.imshow(_pixels(values.numpy(), lookup), cmap="gray", interpolation="nearest")
    patches = [
        Patch(facecolor="#{:02x}{:02x}{:02x}".format(*color), edgecolor="#888", label=name)
        for name, color in zip(class_names, colors, strict=True)
    ]
    figure.legend(
        handles=patches,
        loc="lower center",
        ncols=min(10, len(patches)),
        fontsize=8,
        frameon=False,
        bbox_to_anchor=(0.5, 0.3 / (body + 0.45 + below)),
        handlelength=1.0,
        columnspacing=1.2,
    )
    figure.text(0.5, 0.1 / (body + 0.45 + below), caption, ha="center", fontsize=8)
    write_atomically(path, lambda temporary: figure.savefig(temporary, metadata={"Software": "ladseg"}))


def color_table(colors: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Return the colour of each class id as ``(256, 3)`` uint8; ids outside the classes are black."""
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(colors)] = colors
    return table


def _pixels(values: np.ndarray, lookup: np.ndarray) -> np.ndarray:
    if values.ndim == 3:
        return values.transpose(1, 2, 0)
    return values if np.issubdtype(values.dtype, np.floating) else lookup[values]

"""A comparison of methods as a plot of accuracy against total training compute."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ladseg.files import write_atomically
from ladseg.results import ComparisonResults, MethodRow

# The least distance between labels, as a share of the plot's height.
GAP = 0.045


def save_compare_plot(path: Path, comparison: ComparisonResults) -> None:
    """Draw mean mIoU with its standard deviation against total training compute, one point per method.

    The dashed line is the plain curve; a method above it gains more than longer training.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    unit = comparison.methods[0].macs
    rows = [row for row in comparison.methods if row.mean is not None]
    points = [(row.macs / unit, 100 * (row.mean or 0)) for row in rows]
    figure = Figure(figsize=(8, max(4.5, 0.3 * len(rows))), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    plain = sorted(point for row, point in zip(rows, points, strict=True) if row.teacher is None)
    axes.plot(*zip(*plain, strict=True), color="0.6", linestyle="--", zorder=1)
    for row, (x, y) in zip(rows, points, strict=True):
        axes.errorbar(x, y, 100 * (row.std or 0), fmt="o", color=_color(row), capsize=3, elinewidth=0.8, alpha=0.8)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("total training compute, teacher included (student alone = 1)")
    axes.set_ylabel("mIoU, % (± standard deviation over seeds)")
    axes.grid(alpha=0.3)
    axes.set_title(f"{comparison.name}: {comparison.student}, seeds {', '.join(map(str, comparison.seeds))}")
    _label(axes, rows, points)
    write_atomically(path, figure.savefig)


def _color(row: MethodRow) -> str:
    return "tab:red" if row.name.startswith("lad") else "0.3" if row.teacher is None else "tab:blue"


def _label(axes: Any, rows: Sequence[MethodRow], points: Sequence[tuple[float, float]]) -> None:
    """Write the names beside the plot, each as near to the height of its point as the other names allow."""
    low, high = axes.get_ylim()
    order = sorted(range(len(rows)), key=lambda index: points[index][1])
    heights = spread([(points[index][1] - low) / (high - low) for index in order], GAP)
    for index, height in zip(order, heights, strict=True):
        axes.annotate(
            f"{rows[index].name}  {points[index][1]:.1f}",
            points[index],
            xytext=(1.06, height),
            textcoords="axes fraction",
            verticalalignment="center",
            fontsize=8,
            color=_color(rows[index]),
            # The line starts at the middle of the name's left side, so that it does not cross a name.
            arrowprops={
                "arrowstyle": "-",
                "color": "0.8",
                "linewidth": 0.6,
                "shrinkA": 0,
                "shrinkB": 3,
                "relpos": (0, 0.5),
            },
            annotation_clip=False,
        )


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Return ascending positions, moved up until they are ``gap`` apart, then all shifted to keep their mean."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + gap) if moved else place)
    back = sum(moved) / len(moved) - sum(places) / len(places) if places else 0.0
    return [place - back for place in moved]

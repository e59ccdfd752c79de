"""A comparison of methods as a plot of accuracy against total training compute."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context

from ladseg.files import write_atomically
from ladseg.report.svg_figures import SERIES, STYLE, TEXT, empty_figure, svg_of
from ladseg.results import ComparisonResults, MethodRow

# The least distance between labels, as a share of the plot's height.
GAP = 0.055


def save_compare_plot(path: Path, comparison: ComparisonResults) -> None:
    """Draw the plot of :func:`compare_svg` as a picture for other documents."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, max(4.5, 0.3 * len(comparison.methods))), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    _draw(axes, comparison, {row.name: _color(row) for row in comparison.methods}, "0.6")
    axes.set_title(f"{comparison.name}: {comparison.student}, seeds {', '.join(map(str, comparison.seeds))}")
    write_atomically(path, figure.savefig)


def compare_svg(comparison: ComparisonResults, colors: Mapping[str, int]) -> str:
    """Draw mean mIoU with its standard deviation against total training compute, a point a method, as SVG for the page.

    The dashed line is the plain curve; a method above it is ahead of longer training.

    Args:
        comparison: The figures.
        colors: Number of each method's colour on the page.
    """
    with rc_context(STYLE):
        figure, axes = empty_figure(max(3.4, 0.2 * len(comparison.methods)))
        _draw(axes, comparison, {name: SERIES[number] for name, number in colors.items()}, TEXT)
        return svg_of(figure, "compute")


def has_plain_curve(comparison: ComparisonResults) -> bool:
    """Return whether the student alone was trained at several lengths, so that there is a line to draw."""
    return sum(row.teacher is None and row.mean is not None for row in comparison.methods) > 1


def _draw(axes: Any, comparison: ComparisonResults, colors: Mapping[str, str], line: str) -> None:
    unit = comparison.methods[0].macs
    rows = [row for row in comparison.methods if row.mean is not None]
    points = [(row.macs / unit, 100 * (row.mean or 0)) for row in rows]
    if has_plain_curve(comparison):
        plain = sorted(point for row, point in zip(rows, points, strict=True) if row.teacher is None)
        axes.plot(*zip(*plain, strict=True), color=line, linestyle="--", linewidth=1, alpha=0.6, zorder=1)
    for row, (x, y) in zip(rows, points, strict=True):
        axes.errorbar(
            x, y, 100 * (row.std or 0), fmt="o", markersize=5, color=colors[row.name], capsize=3, elinewidth=0.8
        )
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("training compute (student alone = 1)")
    axes.set_ylabel("mIoU, % (± standard deviation)")
    axes.grid(visible=True, alpha=0.2)
    _label(axes, rows, points, colors, line)


def _color(row: MethodRow) -> str:
    return "tab:red" if row.name.startswith("lad") else "0.3" if row.teacher is None else "tab:blue"


def _label(
    axes: Any,
    rows: Sequence[MethodRow],
    points: Sequence[tuple[float, float]],
    colors: Mapping[str, str],
    line: str,
) -> None:
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
            fontsize=9,
            color=colors[rows[index].name],
            # The line starts at the middle of the name's left side, so that it does not cross a name.
            arrowprops={
                "arrowstyle": "-",
                "color": line,
                "alpha": 0.4,
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

"""Table 9 as a plot: mIoU of teacher and student by the strength of the noise."""

import textwrap
from pathlib import Path
from typing import Any

from ladseg.files import write_atomically
from ladseg.report.reproduced import ReproducedTable, alpha_of, halves

LINES = {"teacher": "tab:blue", "student": "tab:red"}
# The most characters in a line of the title.
WIDTH = 110


def save_noise_plot(path: Path, table: ReproducedTable) -> None:
    """Write :func:`noise_figure` as a PNG."""
    write_atomically(path, noise_figure(table).savefig)


def noise_figure(table: ReproducedTable) -> Any:
    """Draw both halves of Table 9 side by side, ours solid and, unless trained in miniature, the paper's dashed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    for axes, (name, rows) in zip(figure.subplots(1, 2, sharey=True), halves(table.rows), strict=True):
        for who, color in LINES.items():
            theirs = [(alpha_of(r.method), r.paper.teacher if who == "teacher" else r.paper.val) for r in rows]
            found = [(alpha_of(r.method), r.ours.teacher if who == "teacher" else r.ours.mean) for r in rows if r.ours]
            ours = [(alpha, 100 * value) for alpha, value in found if value is not None]
            if not table.remark:
                axes.plot(*zip(*theirs, strict=True), color=color, linestyle="--", marker="o", label=f"{who}, paper")
            if ours:
                axes.plot(*zip(*ours, strict=True), color=color, marker="s", label=f"{who}, ours")
        # The values include 0, so the axis is linear near it.
        axes.set_xscale("symlog", linthresh=1e-3)
        axes.set_xticks([0, 1e-3, 1e-2, 1e-1, 1], ["0", "0.001", "0.01", "0.1", "1"])
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("alpha")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize=8)
    figure.axes[0].set_ylabel("mIoU, %")
    figure.suptitle(textwrap.fill(table.heading, WIDTH), fontsize=9)
    return figure

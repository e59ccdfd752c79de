"""Figure 4, the contributions of image and label to a class, as numbers and as a picture."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ladseg.files import write_atomically
from ladseg.report.page import file_uri, machine, render
from ladseg.report.sheet import Sheet
from ladseg.results import Environment

COLUMNS = ("teacher", "label % (LayerCAM)", "label % (integrated)", "images", "mIoU", "without label", "without image")
LEGEND = (
    "Label: its share, relative to the image's, of the class's LayerCAM maps at the input layers, and of integrated "
    "gradients; each a mean over images (docs/reproduce.md says how they are computed). mIoU: of the teacher on val, "
    "%, with both inputs, with zeros as the label, and with the mean colour as the image."
)


@dataclass(frozen=True)
class TeacherShares:
    """The contributions to one teacher's predictions of the class.

    Attributes:
        name: The kind of label on which it was trained.
        method: Name of its method.
        shares_of_label: The label's share of the LayerCAM maps in each image.
        integrated_shares_of_label: The label's share of integrated gradients in each image.
        mean_iou: mIoU on val; this and the next two are in 0..1.
        mean_iou_without_label: mIoU with zeros as the label's channel.
        mean_iou_without_image: mIoU with the mean colour as the image.
    """

    name: str
    method: str
    shares_of_label: list[float]
    integrated_shares_of_label: list[float]
    mean_iou: float
    mean_iou_without_label: float | None
    mean_iou_without_image: float | None

    @property
    def share_of_label(self) -> float:
        """The mean of the label's shares of the maps."""
        return statistics.mean(self.shares_of_label)

    @property
    def integrated_share_of_label(self) -> float:
        """The mean of the label's shares of integrated gradients."""
        return statistics.mean(self.integrated_shares_of_label)


@dataclass(frozen=True)
class FigureResults:
    """The numbers of Figure 4.

    Attributes:
        title: Its title.
        remark: A caveat about its numbers; empty for a full reproduction.
        class_name: The class.
        teachers: The teacher of the noised label, and that of the clean one.
        environment: The software and machine.
    """

    title: str
    remark: str
    class_name: str
    teachers: list[TeacherShares]
    environment: Environment

    @property
    def heading(self) -> str:
        """The title, with the remark."""
        return f"{self.title}. {self.remark}" if self.remark else self.title

    @property
    def sheet(self) -> Sheet:
        """The numbers as a table."""
        return Sheet(f"Contributions to class '{self.class_name}'", COLUMNS, [_line(one) for one in self.teachers])


@dataclass(frozen=True)
class Strip:
    """One row of the picture.

    Attributes:
        image: ``(H, W, 3)`` uint8.
        label: ``(H, W)``, whether a pixel has the class.
        maps: The maps ``(h, w)`` of image and label for each teacher.
    """

    image: np.ndarray
    label: np.ndarray
    maps: Sequence[tuple[np.ndarray, np.ndarray]]


def _line(one: TeacherShares) -> list[str]:
    shares = [f"{100 * share:.1f}" for share in (one.share_of_label, one.integrated_share_of_label)]
    scores = (one.mean_iou, one.mean_iou_without_label, one.mean_iou_without_image)
    cells = ["" if score is None else f"{100 * score:.1f}" for score in scores]
    return [one.name, *shares, str(len(one.shares_of_label)), *cells]


def figure_markdown(figure: FigureResults) -> str:
    """Return the numbers in Markdown."""
    made = f"Made by `{figure.environment.command}`. {machine(figure.environment)}\n"
    return "\n".join([f"# {figure.heading}\n", f"## {figure.sheet.markdown()}", f"{LEGEND}\n", made])


def figure_page(figure: FigureResults, picture: Path) -> str:
    """Return picture and numbers as a self-contained page."""
    return render(
        "reproduced.html",
        title=figure.title,
        remark=figure.remark,
        sheets=[figure.sheet],
        legend=LEGEND,
        differences=[],
        plot=file_uri(picture),
        command=figure.environment.command,
        machine=machine(figure.environment),
    )


def save_contributions(path: Path, figure: FigureResults, strips: Sequence[Strip]) -> None:
    """Draw one row per image: image, label, and the maps of each teacher's two inputs.

    The two maps of a teacher have the same scale, so that their colours are comparable; red is high.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    titles = ["image", f"label: {figure.class_name}"]
    for one in figure.teachers:
        label = 100 * one.share_of_label
        titles += [
            f"teacher of the {one.name}:\n{part} %" for part in (f"image {100 - label:.0f}", f"label {label:.0f}")
        ]
    height, width = strips[0].label.shape
    cell = 2.0
    size = (len(titles) * cell, len(strips) * cell * height / width + 1.2)
    drawn = Figure(figsize=size, layout="constrained", dpi=130)
    FigureCanvasAgg(drawn)
    grid = drawn.subplots(len(strips), len(titles), squeeze=False)
    for axes, strip in zip(grid, strips, strict=True):
        gray = strip.image.mean(2)
        axes[0].imshow(strip.image)
        axes[1].imshow(strip.label, cmap="gray", vmin=0, vmax=1)
        for column, pair in enumerate(strip.maps):
            top = max(float(map_.max()) for map_ in pair) or 1.0
            for offset, map_ in enumerate(pair):
                axis = axes[2 + 2 * column + offset]
                axis.imshow(gray, cmap="gray", vmin=0, vmax=255)
                # The square root keeps weak contributions visible beside a few strong ones.
                strength = np.sqrt(map_ / top)
                extent = (-0.5, width - 0.5, height - 0.5, -0.5)
                axis.imshow(strength, cmap="jet", vmin=0, vmax=1, alpha=0.55, extent=extent, interpolation="bilinear")
    for axis in grid.flat:
        axis.set_axis_off()
    for axis, title in zip(grid[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    measured = len(figure.teachers[0].shares_of_label)
    share = (
        f"Shares of the LayerCAM maps: means over {measured} images. Red is much; a teacher's two maps share a scale."
    )
    drawn.suptitle("\n".join(filter(None, [figure.title, figure.remark, share])), fontsize=10)
    write_atomically(path, drawn.savefig)

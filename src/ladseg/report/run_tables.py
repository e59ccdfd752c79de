"""The results of a run and of an evaluation as tables for the terminal."""

import math

from rich.box import SIMPLE

from ladseg.report.sheet import PlainTable
from ladseg.results import EvaluationResults, RunResults

# A teacher that loses fewer points of mIoU than this without an input does not use that input.
IGNORES_INPUT = 1.0
# The most classes whose confusion matrix fits a terminal; of more classes, the number of largest confusions to list.
SQUARE = 21
ROLES = {"baseline": "student alone", "teacher": "teacher", "student": "LAD student"}


def results_table(results: RunResults) -> PlainTable:
    """Return a table with one row per network; a test split's column replaces that of the parameters."""
    test = results.images.test
    table = PlainTable(
        title=f"{results.name}, seed {results.seed}",
        caption="mIoU: best evaluation on val, whose weights are kept; last: the last step\n"
        + ("time: training steps; parameters: those in use when it runs" if test is None else "")
        + (f"test: the kept weights on {test:,} images of the test split" if test is not None else ""),
        caption_justify="left",
        box=SIMPLE,
        show_edge=False,
        pad_edge=False,
    )
    for heading in ("network", "sees", "mIoU %", "last %", "time s", "parameters" if test is None else "test %"):
        table.add_column(heading, justify="left" if heading in ("network", "sees") else "right", no_wrap=True)
    for key, row in results.networks.items():
        end = f"{row.parameters:,}" if test is None else percent(row.test_mean_iou)
        scores = percent(row.mean_iou), percent(row.last_mean_iou)
        table.add_row(role(key, results), row.sees, *scores, f"{row.seconds:.0f}", end)
    return table


def percent(value: float | None) -> str:
    """Return a score in per cent, or a dash for one that is not known."""
    return "-" if value is None else f"{100 * value:.2f}"


def role(key: str, results: RunResults) -> str:
    """Return the name of a network of the run in tables and pictures."""
    if key == "student" and not results.label_assisted:
        return "distilled student"
    if key == "teacher" and not results.label_assisted:
        return "classic teacher"
    return ROLES[key]


def teacher_remark(results: RunResults) -> str | None:
    """Return a sentence about how much the teacher uses each input; None without a label-assisted teacher.

    Section 4.2 warns of a teacher that copies its label and ignores the image. A teacher that ignores the label teaches
    like a classic one.
    """
    teacher = results.networks.get("teacher")
    if teacher is None or teacher.mean_iou_without_label is None or teacher.mean_iou_without_image is None:
        return None
    both, image, label = (
        100 * value for value in (teacher.mean_iou, teacher.mean_iou_without_label, teacher.mean_iou_without_image)
    )
    if both - image < IGNORES_INPUT:
        meaning = "it does not use its label yet, so it teaches as a teacher without one would"
    elif both - label < IGNORES_INPUT:
        meaning = "it has taken the shortcut, copies the label and ignores the image: make the noise stronger"
    else:
        meaning = f"it uses both, the label for {both - image:.2f} points and the image for {both - label:.2f}"
    alone = f"from the image alone {image:.2f}, from the label alone {label:.2f}"
    return f"The teacher has {both:.2f} % mIoU, {alone}: {meaning}."


def start_remark(results: RunResults) -> str | None:
    """Return a sentence on the students that no step has made better than they were; None without any."""
    rows = results.networks
    names = [role(key, results) for key in results.students if rows[key].best_step == 0 < rows[key].steps]
    if not names:
        return None
    return f"Kept of the {' and the '.join(names)} is its start, step 0: no later evaluation on val was better."


def pull_remark(results: RunResults) -> str | None:
    """Return a sentence on how hard distillation pulled at the student; None where that was not measured."""
    student = results.networks.get("student")
    if student is None or student.gradient_ratio is None:
        return None
    return (
        f"Distillation pulled {student.gradient_ratio:.1f} times as hard as the label (norm of the gradient on the "
        "student's logits, median of the logged steps); distill.weight sets it."
    )


def iou_table(measured: EvaluationResults) -> PlainTable:
    """Return a table of the IoU and boundary IoU of each class, their means and the pixel accuracy."""
    table = PlainTable("class")
    for head in ("IoU %", "boundary IoU %"):
        table.add_column(head, justify="right")
    for name, *values in zip(measured.class_names, measured.iou, measured.boundary_iou, strict=True):
        table.add_row(name, *("-" if math.isnan(value) else f"{100 * value:.2f}" for value in values))
    table.add_section()
    table.add_row("mean", f"{100 * measured.mean_iou:.2f}", f"{100 * measured.mean_boundary_iou:.2f}")
    table.add_row("pixel accuracy", f"{100 * measured.pixel_accuracy:.2f}", "")
    return table


def iou_remarks(measured: EvaluationResults, boundary: float) -> list[str]:
    """Return what the table of IoUs does not say; ``boundary`` is the boundaries' width as a share of the diagonal."""
    lines = [f"boundary: pixels within {100 * boundary:g} % of the image's diagonal of an edge"]
    if any(map(math.isnan, measured.iou)):
        lines.append("-: in no label and no prediction, left out of the mean")
    return lines


def confusion_table(measured: EvaluationResults) -> PlainTable:
    """Return the confusion matrix in per cent of each class's labelled pixels, or its largest entries if too large."""
    names, counts = measured.class_names, measured.confusion
    shares = [[100 * value / max(sum(row), 1) for value in row] for row in counts]
    if len(names) <= SQUARE:
        table = PlainTable("label", title="Per cent of the label's pixels predicted as", pad_edge=False)
        for number in range(len(names)):
            table.add_column(str(number), justify="right")
        for number, (name, row) in enumerate(zip(names, shares, strict=True)):
            table.add_row(f"{number} {name}", *(f"{value:.1f}" if value >= 0.05 else "" for value in row))
        return table
    table = PlainTable("label", "predicted", title="The largest confusions, per cent of the label's pixels")
    table.add_column("%", justify="right")
    pairs = [(share, i, j) for i, row in enumerate(shares) for j, share in enumerate(row) if i != j and share]
    for share, i, j in sorted(pairs, reverse=True)[:SQUARE]:
        table.add_row(names[i], names[j], f"{share:.1f}")
    return table

"""The figures of a run in the terminal."""

from typing import Any

from rich.table import Table

# Points of mIoU below which a teacher that loses one of its inputs has lost nothing worth the name.
IGNORES_INPUT = 1.0

# The most classes whose confusion fits a terminal as a square, and the rows of the list for more.
SQUARE = 21

ROLES = {"baseline": "student alone", "teacher": "teacher", "student": "LAD student"}


def results_table(results: dict[str, Any]) -> Table:
    """One row a network; ``results`` as :func:`ladseg.studies.train` returns them."""
    table = Table(
        title=f"{results['name']}, seed {results['seed']}",
        caption="mIoU: best evaluation on val, whose weights are kept\ntime: training steps; "
        "parameters: those in use when it runs",
    )
    for heading in ("network", "sees", "mIoU %", "time s", "parameters"):
        table.add_column(heading, justify="left" if heading in ("network", "sees") else "right", no_wrap=True)
    for key, row in results["networks"].items():
        table.add_row(
            role(key, results),
            row["sees"],
            f"{100 * row['mean_iou']:.2f}",
            f"{row['seconds']:.0f}",
            f"{row['parameters']:,}",
        )
    return table


def role(key: str, results: dict[str, Any]) -> str:
    """What a network of the run is called in tables and pictures."""
    if key == "student" and not results["label_assisted"]:
        return "distilled student"
    if key == "teacher" and not results["label_assisted"]:
        return "classic teacher"
    return ROLES[key]


def verdict(results: dict[str, Any]) -> str:
    """One sentence: what the distillation changed, how sure that is, and what one run can't say.

    Better or worse is only said of a difference whose interval leaves out zero.
    """
    networks = results["networks"]
    if "student" not in networks:
        return f"The student alone has {100 * networks['baseline']['mean_iou']:.2f} % mIoU; nothing was distilled."
    student = 100 * networks["student"]["mean_iou"]
    if "baseline" not in networks:
        return (
            f"The distilled student has {student:.2f} % mIoU; baseline was off, so there is nothing to compare it with."
        )
    alone = 100 * networks["baseline"]["mean_iou"]
    word = "better" if student > alone else "worse" if student < alone else "neither better nor worse"
    points = f"{student - alone:+.2f} points"
    if results.get("difference"):
        low, high = (100 * value for value in results["difference"]["interval"])
        word = f"not clearly {word}" if low <= 0 <= high and student != alone else word
        points += f", 95 % interval {low:+.2f} to {high:+.2f} over the validation images"
    return (
        f"The distilled student is {word} than the student alone: {student:.2f} against {alone:.2f} % mIoU "
        f"({points}; one seed, so repeat with other seeds before relying on it)."
    )


def teacher_remark(results: dict[str, Any]) -> str | None:
    """What each input is to the teacher, in words; None for a run without a label-assisted one.

    Section 4.2's fault is a teacher that copies its label and ignores the image; one that ignores the label is a
    classic teacher.
    """
    teacher = results["networks"].get("teacher", {})
    if "mean_iou_without_label" not in teacher:
        return None
    both, image, label = (
        100 * teacher[key] for key in ("mean_iou", "mean_iou_without_label", "mean_iou_without_image")
    )
    if both - image < IGNORES_INPUT:
        meaning = "it does not use its label yet, so it teaches as a teacher without one would"
    elif both - label < IGNORES_INPUT:
        meaning = "it has taken the shortcut, copies the label and ignores the image: make the noise stronger"
    else:
        meaning = f"it uses both, the label for {both - image:.2f} points and the image for {both - label:.2f}"
    alone = f"from the image alone {image:.2f}, from the label alone {label:.2f}"
    return f"The teacher has {both:.2f} % mIoU, {alone}: {meaning}."


def iou_table(measured: dict[str, Any]) -> Table:
    """Per-class figures and the means, as :func:`ladseg.commands.evaluate` returns them."""
    title = f"{measured['weights']} on {measured['images']} images"
    caption = (
        "'-': in no label and no prediction, left out of the mean\nboundary: within 2 % of the diagonal of an edge"
    )
    table = Table("class", title=title, caption=caption)
    for head in ("IoU %", "boundary IoU %"):
        table.add_column(head, justify="right")
    for name, *values in zip(measured["class_names"], measured["iou"], measured["boundary_iou"], strict=True):
        table.add_row(name, *("-" if value is None else f"{100 * value:.2f}" for value in values))
    table.add_section()
    table.add_row("mean", f"{100 * measured['mean_iou']:.2f}", f"{100 * measured['mean_boundary_iou']:.2f}")
    table.add_row("pixel accuracy", f"{100 * measured['pixel_accuracy']:.2f}", "")
    return table


def confusion_table(measured: dict[str, Any]) -> Table:
    """What share of each class's labelled pixels is taken for which class; for many classes the largest errors."""
    names, counts = measured["class_names"], measured["confusion"]
    shares = [[100 * value / max(sum(row), 1) for value in row] for row in counts]
    if len(names) <= SQUARE:
        table = Table("label", title="Per cent of the label's pixels predicted as", pad_edge=False)
        for number in range(len(names)):
            table.add_column(str(number), justify="right")
        for number, (name, row) in enumerate(zip(names, shares, strict=True)):
            table.add_row(f"{number} {name}", *(f"{value:.1f}" if value >= 0.05 else "" for value in row))
        return table
    table = Table("label", "predicted", title="The largest confusions, per cent of the label's pixels")
    table.add_column("%", justify="right")
    pairs = [(share, i, j) for i, row in enumerate(shares) for j, share in enumerate(row) if i != j and share]
    for share, i, j in sorted(pairs, reverse=True)[:SQUARE]:
        table.add_row(names[i], names[j], f"{share:.1f}")
    return table

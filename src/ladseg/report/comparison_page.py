"""A comparison as one self-contained HTML page."""

from pathlib import Path
from typing import Any

from ladseg.report.comparison_tables import LEGEND, difference_words, sheets
from ladseg.report.page import file_uri, machine, render


def comparison_page(comparison: dict[str, Any], plot: Path, recipe: str) -> str:
    """The page; it loads nothing and needs no script.

    Args:
        comparison: As :func:`ladseg.comparison.compare` returns it.
        plot: The PNG of :func:`ladseg.delivery.save_compare_plot`.
        recipe: What the methods share, as YAML.
    """
    return render(
        "comparison.html",
        name=comparison["name"],
        verdict=comparison_verdict(comparison),
        sheets=sheets(comparison),
        legend=LEGEND,
        plot=file_uri(plot),
        command=comparison["environment"]["command"],
        machine=machine(comparison["environment"]),
        recipe=recipe,
    )


def comparison_verdict(comparison: dict[str, Any]) -> list[str]:
    """What the figures say, in sentences: which method leads, and whether help beats longer training."""
    rows = {row["name"]: row for row in comparison["methods"] if row["mean"] is not None}
    if not rows:
        return ["No cell has finished yet."]
    best = max(rows.values(), key=lambda row: row["mean"])
    seeds = len(best["mean_iou"])
    lead = (
        f"'{best['name']}' has the highest mean, {100 * best['mean']:.2f} % mIoU over {seeds} seed{'s' * (seeds > 1)}"
    )
    against = difference_words(best["difference"])
    sentences = [f"{lead}; against the student alone {against} points." if against else f"{lead}."]
    if {"lad", "none-long"} <= set(rows):
        sentences.append(_against_long(rows["lad"], rows["none-long"]))
    return sentences


def _against_long(lad: dict[str, Any], longer: dict[str, Any]) -> str:
    """A word for the difference, which an interval that holds zero takes back."""
    paired = lad.get("against_long")
    gap = paired["mean"] if paired else lad["mean"] - longer["mean"]
    word = "is worth more than" if gap > 0 else "does not make up for"
    if paired and paired["low"] is not None and paired["low"] <= 0 <= paired["high"]:
        word = "can't be told apart from"
    points = difference_words(paired) if paired else f"{100 * gap:+.2f}"
    return (
        f"Label-assisted distillation (lad) {word} plain training with the same total compute (none-long) here: "
        f"{points} points of mean mIoU{' (95 % by the seeds)' if '[' in points else ''}."
    )

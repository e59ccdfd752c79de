"""A comparison as one self-contained HTML page."""

from pathlib import Path

from ladseg.report.comparison_tables import comparison_sheets, format_difference, legend, power_remark, verdict_lines
from ladseg.report.page import file_uri, machine, render
from ladseg.report.verdict import NO_DIFFERENCE, word_of
from ladseg.results import ComparisonResults, MethodRow


def comparison_page(comparison: ComparisonResults, plot: Path, recipe: str) -> str:
    """Return the page; it loads nothing and needs no script.

    Args:
        comparison: The results.
        plot: The PNG of :func:`ladseg.report.comparison_plot.save_compare_plot`.
        recipe: The recipe that the methods share, as YAML.
    """
    return render(
        "comparison.html",
        name=comparison.name,
        summary=comparison_summary(comparison),
        sheets=comparison_sheets(comparison),
        legend=legend(comparison),
        plot=file_uri(plot),
        command=comparison.environment.command,
        machine=machine(comparison.environment),
        recipe=recipe,
    )


def comparison_summary(comparison: ComparisonResults) -> list[str]:
    """Return sentences about which method leads, and whether LAD is better than longer training."""
    finished = {row.name: row for row in comparison.methods if row.mean is not None}
    if not finished:
        return ["No cell has finished yet."]
    best = max(finished.values(), key=_mean)
    seeds = len(best.mean_iou)
    lead = f"'{best.name}' has the highest mean, {100 * _mean(best):.2f} % mIoU over {seeds} seed{'s' * (seeds > 1)}"
    against = format_difference(best.difference)
    sentences = [f"{lead}; against the student alone {against} points." if against else f"{lead}."]
    if {"lad", "none-long"} <= set(finished):
        sentences.append(_against_long(finished["lad"], finished["none-long"]))
    sentences += [_worth(row) for row in finished.values() if row.gain_at_equal_total is not None]
    return [*sentences, *verdict_lines(comparison), *filter(None, [power_remark(comparison)])]


def _worth(row: MethodRow) -> str:
    """Return a sentence about a method's gains over the plain curve."""
    total, margin = row.gain_at_equal_total, row.gain_at_equal_marginal
    assert total is not None
    sentence = f"'{row.name}' is {100 * total:+.2f} points from the plain student of equal total compute"
    if margin is not None:
        sentence += f", and {100 * margin:+.2f} from that of one more student's compute"
    if row.break_even_students is None:
        return f"{sentence}; its teacher does not pay off here, for any number of students."
    if row.break_even_students == 1:
        return f"{sentence}; its teacher pays off with the first student."
    return f"{sentence}; its teacher pays off from {row.break_even_students} students on."


def _against_long(lad: MethodRow, longer: MethodRow) -> str:
    """Return a sentence about the difference, which is not shown if its interval contains zero."""
    paired = lad.against_long
    gap = paired.mean if paired else _mean(lad) - _mean(longer)
    interval = None if paired is None else paired.interval
    word = "is worth more than" if gap > 0 else "does not make up for"
    if word_of((), (), gap, interval, len(lad.mean_iou)) == NO_DIFFERENCE:
        word = "can't be told apart from"
    points = format_difference(paired) if paired else f"{100 * gap:+.2f}"
    return (
        f"Label-assisted distillation (lad) {word} plain training with the same total compute (none-long) here: "
        f"{points} points of mean mIoU{' (95 % by the seeds)' if '[' in points else ''}."
    )


def _mean(row: MethodRow) -> float:
    assert row.mean is not None
    return row.mean

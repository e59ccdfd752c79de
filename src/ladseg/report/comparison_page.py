"""A comparison as one self-contained HTML page, which links to the pages of its runs."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ladseg.report.comparison_plot import compare_svg, has_plain_curve
from ladseg.report.comparison_tables import (
    MORE_SEEDS,
    comparison_sheets,
    existing_teachers,
    format_difference,
    legend,
    power_remark,
    verdict_lines,
)
from ladseg.report.page import file_uri, machine, render
from ladseg.report.sheet import Sheet
from ladseg.report.svg_figures import SERIES, curves
from ladseg.report.verdict import NOT_LEARNED, STILL_IMPROVING, plain_of_equal_compute
from ladseg.results import ComparisonResults, MethodRow, RunResults, Sample, cell_folder


@dataclass(frozen=True)
class CellRecord:
    """A finished run of a comparison.

    Attributes:
        results: Its figures.
        folder: Its folder.
        samples: Its sample images.
        report: Whether its own page lies in its folder.
    """

    results: RunResults
    folder: Path
    samples: Sequence[Sample]
    report: bool


@dataclass(frozen=True)
class ComparisonRecord:
    """The content of a comparison's folder.

    Attributes:
        results: ``results.json``.
        cells: The finished runs by method and seed.
        recipe: What the methods share, as YAML.
    """

    results: ComparisonResults
    cells: Mapping[str, Mapping[int, CellRecord]]
    recipe: str


def comparison_page(comparison: ComparisonRecord) -> str:
    """Return the page; it loads nothing and needs no script."""
    results = comparison.results
    sheets = comparison_sheets(results)
    colors = {row.name: number % len(SERIES) for number, row in enumerate(results.methods)}
    classes, samples = _classes(comparison), list(_samples(comparison))
    lines, existing = _curves(comparison), existing_teachers(results)
    sections = {
        "compute": "Accuracy against compute",
        "figures": "Figures",
        "seeds": "Seeds",
        "classes": "Classes",
        "curves": "Learning curves",
        "samples": "Samples",
        "repeat": "To repeat it",
    }
    shown = {
        "compute": any(row.mean is not None for row in results.methods),
        "seeds": bool(results.seeds),
        "classes": classes is not None,
        "curves": bool(lines),
        "samples": bool(samples),
    }
    return render(
        "comparison.html",
        name=results.name,
        sections={key: title for key, title in sections.items() if shown.get(key, True)},
        summary=comparison_summary(results),
        verdicts=verdict_lines(results),
        power=power_remark(results),
        sheets=sheets,
        legend=" ".join(filter(None, (legend(sheets), existing))),
        existing=existing,
        plot=compare_svg(results, colors) if shown["compute"] else None,
        has_line=has_plain_curve(results),
        seeds=results.seeds,
        by_seed=list(_seeds(comparison)),
        classes=classes,
        curves=curves("miou", lines, "mIoU, %", colors=[colors[name] for name in lines]) if lines else None,
        samples=samples,
        command=results.environment.command,
        machine=machine(results.environment),
        recipe=comparison.recipe,
    )


def _seeds(comparison: ComparisonRecord) -> Iterator[dict[str, Any]]:
    """Return a row a method: the mIoU of each seed, with the address of the run's own page."""
    results = comparison.results
    for row in results.methods:
        cells = comparison.cells.get(row.name, {})
        yield {
            "name": row.name,
            "cells": [
                {
                    "score": row.mean_iou.get(seed),
                    "address": quote(f"{cell_folder(Path(), row.name, seed).as_posix()}/report.html")
                    if seed in cells and cells[seed].report
                    else None,
                }
                for seed in results.seeds
            ],
        }


def _classes(comparison: ComparisonRecord) -> Sheet | None:
    """Return the mean IoU over the seeds of each class, a column a method; None without the runs' figures."""
    methods = {name: list(cells.values()) for name, cells in comparison.cells.items() if cells}
    if not methods:
        return None
    names = next(iter(methods.values()))[0].results.class_names
    rows = []
    for number, name in enumerate(names):
        values = [[cell.results.delivered.iou[number] for cell in cells] for cells in methods.values()]
        known = [[iou for iou in column if not math.isnan(iou)] for column in values]
        rows.append([name, *(f"{100 * statistics.mean(column):.2f}" if column else "-" for column in known)])
    return Sheet("Classes", ["class", *methods], rows)


def _curves(comparison: ComparisonRecord) -> dict[str, list[tuple[float, float]]]:
    """Return the mean mIoU over the seeds while each method's student was trained, at the steps that all seeds have."""
    lines = {}
    for name, cells in comparison.cells.items():
        seeds = [dict(cell.results.delivered.validation_curve or []) for cell in cells.values()]
        steps = sorted(set.intersection(*map(set, seeds))) if seeds else []
        if steps:
            lines[name] = [(float(step), 100 * statistics.mean(seed[step] for seed in seeds)) for step in steps]
    return lines


def _samples(comparison: ComparisonRecord) -> Iterator[dict[str, Any]]:
    """Return images spread evenly over the validation split, with the prediction of each method's first seed."""
    first = {name: next(iter(cells.values())) for name, cells in comparison.cells.items() if cells}
    spread = {name: {s.name: s for s in cell.samples if s.group == "spread"} for name, cell in first.items()}
    for image in next(iter(spread.values()), {}):
        with_it = {name: samples[image] for name, samples in spread.items() if image in samples}
        pictures = []
        for number, (name, sample) in enumerate(with_it.items()):
            folder, delivered = first[name].folder / "samples", "student" if "student" in sample.files else "baseline"
            score = sample.mean_iou[delivered]
            title = name if math.isnan(score) else f"{name}  {100 * score:.1f}"
            kinds = {"image": "image", "label": "label"} if number == 0 else {}
            pictures += [
                {"uri": file_uri(folder / sample.files[kind]), "title": text, "alt": f"{image}: {text}"}
                for kind, text in {**kinds, delivered: title}.items()
            ]
        yield {"name": image, "pictures": pictures}


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
    return sentences


def _worth(row: MethodRow) -> str:
    """Return a sentence about a method's gains over the plain curve."""
    total, margin = row.gain_at_equal_total, row.gain_at_equal_marginal
    assert total is not None
    sentence = f"'{row.name}' is {100 * total:+.2f} points from {plain_of_equal_compute(row)}"
    seeds = row.gain_seeds or len(row.mean_iou)
    if missing := _missing(row, row.interval_t, seeds):
        return f"{sentence}, but nothing is shown yet: {missing}."
    if row.teacher is None or row.teacher_existed:
        return f"{sentence}."
    if margin is not None:
        sentence += f", and {100 * margin:+.2f} from that of one more student's compute"
    if row.break_even_students == 1:
        return f"{sentence}; its teacher pays off with the first student."
    # For further students, the gain at the margin decides.
    if missing := _missing(row, row.marginal_interval_t, seeds):
        return f"{sentence}; it is not shown yet whether its teacher pays off with more students: {missing}."
    if row.break_even_students is None:
        return f"{sentence}; its teacher does not pay off here, for any number of students."
    return f"{sentence}; its teacher pays off from {row.break_even_students} students on."


def _missing(row: MethodRow, interval: tuple[float, float] | None, seeds: int) -> str | None:
    """Return what would show a method's gain, and why it is not shown yet; None if it is shown.

    Args:
        row: The method.
        interval: The 95 % interval of the gain.
        seeds: Number of seeds over which the gain is a mean.
    """
    if row.verdict is not None and row.verdict.word in (NOT_LEARNED, STILL_IMPROVING):
        return f"the verdict is '{row.verdict.word}', so train longer"
    if seeds < 2 or interval is None:
        return f"{'one seed has' if seeds else 'no seed has finished both, so there is'} no interval; use {MORE_SEEDS}"
    if interval[0] <= 0 <= interval[1]:
        return "the 95 % interval contains zero, and more seeds would narrow it"
    return None


def _against_long(lad: MethodRow, longer: MethodRow) -> str:
    """Return a sentence about the difference, with what would show it if it is not shown yet."""
    paired = lad.against_long
    gap = paired.mean if paired else _mean(lad) - _mean(longer)
    interval = None if paired is None else paired.interval
    missing = _missing(lad, interval, len(lad.mean_iou.keys() & longer.mean_iou.keys()))
    word = "is worth more than" if gap > 0 else "does not make up for"
    if missing:
        word = "can't be told apart from"
    points = format_difference(paired) if paired else f"{100 * gap:+.2f}"
    compute = "compute" if lad.teacher_existed else "total compute"
    return (
        f"Label-assisted distillation (lad) {word} plain training with the same {compute} (none-long) here: "
        f"{points} points of mean mIoU{' (95 % by the seeds)' if '[' in points else ''}"
        f"{f'; {missing}' if missing else ''}."
    )


def _mean(row: MethodRow) -> float:
    assert row.mean is not None
    return row.mean

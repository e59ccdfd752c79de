"""A run as one self-contained HTML page, with its results and their uncertainty."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote

import numpy as np
import yaml

from ladseg.report.next_steps import next_steps
from ladseg.report.numbers import gmacs
from ladseg.report.page import file_uri, machine, render
from ladseg.report.run_tables import pull_remark, role, start_remark, teacher_remark
from ladseg.report.svg_figures import curves, heat_map
from ladseg.report.verdict import run_verdict
from ladseg.results import OTHER_STUDENT, Environment, RunResults, Sample, to_json

# Indices of the networks' colours, equal in the whole page.
SERIES = {"baseline": 6, "student": 0, "teacher": 1}
NOT_TERMS = {"step", "lr", "seconds", "images_per_second", "gradient_ratio"}
LARGEST = 10
GROUPS = {
    "gained": "Where the student gained most",
    "lost": "Where the student lost most",
    "worst": "The worst of the delivered network",
    "spread": "Spread evenly, not picked",
}
# What may lie in a run's folder, and in that of a training.
FILES = {
    "student.safetensors": "the network to ship",
    **dict.fromkeys(OTHER_STUDENT.values(), "the student that is not delivered"),
    "teacher.safetensors": "the teacher, for the next student",
    "results.json": "all figures",
    "recipe.yaml": "the recipe, every value resolved",
    "environment.json": "versions, machine, command",
    "picture.png": "frames spread evenly, by all networks",
}
TRAINING_FILES = {
    "log.txt": "log",
    "metrics.jsonl": "every loss term",
    "val.npz": "confusion, counts of each image",
}


@dataclass(frozen=True)
class RunRecord:
    """The content of a run's folder.

    Attributes:
        results: ``results.json``.
        metrics: Lines of ``metrics.jsonl`` by training.
        confusions: ``(C, C)`` counts on the validation split by training, row = label.
        samples: ``samples.json``.
        folder: The run's folder.
        recipe: ``recipe.yaml``.
        environment: ``environment.json``.
    """

    results: RunResults
    metrics: Mapping[str, Sequence[dict[str, float]]]
    confusions: Mapping[str, np.ndarray]
    samples: Sequence[Sample]
    folder: Path
    recipe: str
    environment: Environment


def run_page(run: RunRecord) -> str:
    """Return the page; it loads nothing and needs no script."""
    results, recipe, students = run.results, yaml.safe_load(run.recipe), run.results.students
    pair = len(students) == 2
    teacher, samples = _teacher(results), list(_samples(run))
    return render(
        "run.html",
        sections=_sections(teacher is not None, bool(samples)),
        name=results.name,
        subject=_subject(results, recipe),
        summary=run_verdict(results).sentence,
        start=start_remark(results),
        uncertainty=uncertainty(results),
        val_images=results.images.val,
        test_images=results.images.test,
        networks=list(_networks(results)),
        class_columns=[{"role": role(key, results), "series": SERIES[key]} for key in students],
        class_differences=pair,
        classes=list(_classes(results, students)),
        teacher=teacher,
        samples=samples,
        legend_of_difference=any("difference" in sample.files for sample in run.samples),
        noised=any("noised" in sample.files for sample in run.samples),
        legend=[
            {"name": name, "color": color} for name, color in zip(results.class_names, results.colors, strict=True)
        ],
        plots=list(_plots(run)),
        confusions=list(_confusions(run, students)),
        heat_maps=list(_heat_maps(run, students)),
        costs=_costs(results),
        cost_notes=_cost_notes(results),
        next_steps=next_steps(results, run.folder, recipe),
        files=list(_files(run)),
        delivered=_delivered(results),
        machine=machine(run.environment),
        command=run.environment.command,
        repeat=_repeat(recipe),
        recipe=run.recipe,
        environment=json.dumps(to_json(run.environment), indent=2),
    )


def uncertainty(results: RunResults) -> str | None:
    """Return what the interval of the difference shows, and what it does not; None without a difference."""
    if results.difference is None:
        return None
    if results.difference.interval is None:
        return f"The difference has no interval: {results.difference.no_interval}. {_compute(results)}"
    low, high = (100 * value for value in results.difference.interval)
    if low > 0 or high < 0:
        sure = "is more than the choice of these images explains"
    else:
        sure = "could be due to the choice of these images"
    return (
        f"Drawn again from the same {results.images.val} validation images, the difference lies between "
        f"{low:+.2f} and {high:+.2f} points in 95 of 100 cases (paired bootstrap): it {sure}. What another seed would "
        f"have given is not in that interval. {_compute(results)}"
    )


def _compute(results: RunResults) -> str:
    networks = results.networks
    if "teacher" not in networks:
        return "The student taught itself; no teacher was trained."
    if not networks["teacher"].steps:
        return "The teacher was finished already and was not trained for this student."
    times = (networks["student"].seconds + networks["teacher"].seconds) / networks["baseline"].seconds
    return (
        f"Teacher and distilled student together were trained {times:.1f} times as long as the student alone; "
        "'ladseg compare' shows, over several seeds, what the plain network gains from that time."
    )


def _subject(results: RunResults, recipe: dict[str, Any]) -> str:
    """Return a sentence about the networks, the method and the data."""
    crop, data, what = results.crop, recipe["data"], results.delivered.model
    if "student" in results.networks:
        distill = recipe["distill"]
        methods = " and ".join(part["method"] for part in (distill if isinstance(distill, list) else [distill]))
        what += f", distilled by {methods} from {_teacher_kind(results)},"
    return (
        f"{what} on {results.images.train:,} images of '{PurePath(data['root'] or results.name).name}' (layout "
        f"{data['layout']}, {len(results.class_names)} classes); crops of {crop[0]} x {crop[1]}, "
        f"{results.iterations:,} steps, seed {results.seed}."
    )


def _sections(teacher: bool, samples: bool) -> dict[str, str]:
    """Return the sections of the page by their anchors."""
    sections = {
        "networks": "Networks",
        "classes": "Classes",
        "inputs": "Which inputs the teacher uses",
        "samples": "Samples",
        "curves": "Learning curves",
        "confusion": "Confusion",
        "cost": "Details and cost",
        "next": "What next",
        "files": "Files",
        "repeat": "To repeat it",
    }
    shown = {"inputs": teacher, "samples": samples}
    return {key: title for key, title in sections.items() if shown.get(key, True)}


def _files(run: RunRecord) -> Iterator[dict[str, str]]:
    """Return the files of the run: relative addresses, so that the folder may move."""
    listed = [(name, name, what) for name, what in FILES.items()]
    for key, row in run.results.networks.items():
        listed += [(f"{row.folder or key}/{file}", f"{key}/{file}", what) for file, what in TRAINING_FILES.items()]
    for path, name, what in listed:
        if (run.folder / path).is_file():
            yield {"address": quote(path), "name": name, "what": what}


def _teacher_kind(results: RunResults) -> str:
    if "teacher" not in results.networks:
        return "what it was itself earlier"
    return f"{'a label-assisted' if results.label_assisted else 'a classic'} {results.networks['teacher'].model}"


def _networks(results: RunResults) -> Iterator[dict[str, Any]]:
    alone = results.networks.get("baseline")
    for key, row in results.networks.items():
        yield {
            "row": row,
            "role": role(key, results),
            "series": SERIES[key],
            "delivered": key == results.delivers,
            "points": None if alone is None or key == "baseline" else 100 * (row.mean_iou - alone.mean_iou),
        }


def _costs(results: RunResults) -> list[tuple[str, list[str]]]:
    """Return one row per cost and one column per network, so that the table fits a phone."""
    rows = list(results.networks.values())
    peaks = [row.peak_memory for row in rows]
    memory = ("peak memory", ["-" if peak is None else f"{peak / 2**30:.2f} GiB" for peak in peaks])
    return [
        ("model", [row.model for row in rows]),
        ("sees", [row.sees for row in rows]),
        ("pixel accuracy", [f"{100 * row.pixel_accuracy:.2f} %" for row in rows]),
        ("steps", [f"{row.steps:,}" for row in rows]),
        ("precision", [row.precision for row in rows]),
        ("training", [_duration(row.seconds + (row.first_stage_seconds or 0)) for row in rows]),
        *([memory] if any(peaks) else []),
        ("parameters", [f"{row.parameters:,}" for row in rows]),
        ("GMACs", [gmacs(row.macs) for row in rows]),
    ]


def _classes(results: RunResults, students: list[str]) -> Iterator[dict[str, Any]]:
    rows = [results.networks[key].iou for key in students]
    for name, color, *iou in zip(results.class_names, results.colors, *rows, strict=True):
        points = 100 * (iou[-1] - iou[0])
        shown = None if len(iou) < 2 or math.isnan(points) else points
        yield {"name": name, "color": color, "iou": [None if math.isnan(x) else x for x in iou], "points": shown}


def _teacher(results: RunResults) -> dict[str, Any] | None:
    row = results.networks.get("teacher")
    if row is None or row.mean_kl_between_draws is None:
        return None
    return {
        "remark": teacher_remark(results),
        "inputs": [
            ("image and noised label", row.mean_iou),
            ("the image, zeros for the label", row.mean_iou_without_label),
            ("the noised label, the mean colour for the image", row.mean_iou_without_image),
        ],
        "stability": (
            f"Between draws of the noise its predictions differ by a mean KL divergence of "
            f"{_hundredths(row.mean_kl_between_draws)} x 10^-2 nats per pixel (the paper's Table 8, on Cityscapes: 6.8 "
            "and 3.4 x 10^-2 without the consistency loss, 3.4 and 2.1 x 10^-2 with it). With fixed class weights, "
            "only the pixel noise differs from draw to draw."
        ),
    }


def _hundredths(value: float) -> str:
    return "less than 0.001" if 0 < 100 * value < 0.001 else f"{100 * value:.3g}"


def _samples(run: RunRecord) -> Iterator[dict[str, Any]]:
    changed = any(sample.group == "gained" for sample in run.samples)
    for group, title in GROUPS.items():
        listed = [sample for sample in run.samples if sample.group == group]
        if listed and not (changed and group == "spread"):  # which are there for a comparison
            yield {"title": title, "samples": [_sample(run, sample) for sample in listed]}


def _sample(run: RunRecord, sample: Sample) -> dict[str, Any]:
    titles = {"image": "image", "label": "label", "noised": "noised label", "difference": "where they differ"}
    titles |= {key: role(key, run.results) for key in run.results.networks}
    order = ["image", "label", "noised", "teacher", "baseline", "student", "difference"]
    known = {titles[key]: value for key, value in sample.mean_iou.items() if not math.isnan(value)}
    scores = ", ".join(f"{title} {100 * value:.1f}" for title, value in known.items())
    return {
        "name": sample.name,
        "scores": f"mIoU of this image: {scores} %" if scores else "",
        "pictures": [
            {
                "uri": file_uri(run.folder / "samples" / sample.files[kind]),
                "title": titles[kind],
                "alt": f"{sample.name}: {titles[kind]}",
            }
            for kind in order
            if kind in sample.files
        ],
    }


def _plots(run: RunRecord) -> Iterator[dict[str, str]]:
    scores = {
        role(key, run.results): [(line["step"], 100 * line["score"]) for line in lines if line.get("score") is not None]
        for key, lines in run.metrics.items()
        if lines
    }
    yield {
        "title": "mIoU on the validation images",
        "alt": "mIoU against training steps; the table of networks has the final values",
        "svg": curves("miou", scores, "mIoU, %", colors=[SERIES[key] for key, lines in run.metrics.items() if lines]),
    }
    for key, lines in run.metrics.items():
        if not lines:
            continue
        terms = sorted({term for line in lines if "score" not in line for term in line} - NOT_TERMS)
        series = {term: [(line["step"], line[term]) for line in lines if term in line] for term in terms}
        title = f"{role(key, run.results)}: the terms of its loss"
        yield {"title": title, "alt": f"{title}, against training steps", "svg": curves(key, series, "loss", log=True)}
    remark = pull_remark(run.results)
    lines = [line for line in run.metrics.get("student", ()) if line.get("gradient_ratio") is not None]
    if remark is not None and lines:
        pull = {"distillation / label": [(line["step"], line["gradient_ratio"]) for line in lines]}
        yield {"title": remark, "alt": remark, "svg": curves("pull", pull, "ratio of gradients", log=True)}


def _confusions(run: RunRecord, students: list[str]) -> Iterator[dict[str, Any]]:
    """Return the largest confusions of either student, and how distillation changed them."""
    shares = [run.confusions[key] / np.maximum(run.confusions[key].sum(1, keepdims=True), 1) for key in students]
    largest = np.maximum.reduce(shares)
    np.fill_diagonal(largest, 0)
    names = run.results.class_names
    for place in np.argsort(-largest, axis=None, kind="stable")[:LARGEST]:
        label, prediction = np.unravel_index(place, largest.shape)
        values = [float(share[label, prediction]) for share in shares]
        if max(values) > 0:
            yield {
                "label": names[label],
                "prediction": names[prediction],
                "shares": values,
                "points": 100 * (values[-1] - values[0]),
            }


def _heat_maps(run: RunRecord, students: list[str]) -> Iterator[dict[str, str]]:
    for key in students:
        title = f"{role(key, run.results)}: confusion"
        svg = heat_map(f"heat-{key}", run.confusions[key], run.results.class_names)
        yield {"title": title, "alt": f"{title} matrix; the table above has its largest entries", "svg": svg}


def _cost_notes(results: RunResults) -> str:
    crop, peaks = results.crop, [row.peak_memory for row in results.networks.values()]
    memory = " Peak memory: of the device, or on a CPU of the whole process" if any(peaks) else ""
    unwatched = "; '-' if it was not measured" if memory and None in peaks else ""
    return (
        f"Training: time in training steps, without evaluations.{memory}{unwatched}{'.' if memory else ''} "
        "Parameters: those that prediction uses. GMACs: 10^9 multiply-accumulates of one prediction at "
        f"{crop[0]} x {crop[1]}."
    )


def _delivered(results: RunResults) -> str:
    prediction = results.prediction
    height, width = prediction.size
    return (
        f"The delivered student.safetensors predicts one image of {height} x {width} in "
        f"{1e3 * prediction.seconds:.1f} ms on this {'GPU' if prediction.device == 'cuda' else 'CPU'} (median, "
        "float32), the same as without distillation."
    )


def _repeat(recipe: dict[str, Any]) -> str:
    """Return the command that repeats the run from the recipe below on another machine."""
    classes = " --data.classes <its file of classes>" if isinstance(recipe["data"]["classes"], str) else ""
    return f"ladseg train recipe.yaml --data.root <the data set's folder>{classes} --out <another folder>"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"

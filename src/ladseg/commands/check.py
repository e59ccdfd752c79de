"""Check a data set, given its folder or a recipe."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import yaml

from ladseg.data import Report, SegmentationDataset, find_split, open_dataset, survey
from ladseg.data.bands import shown
from ladseg.data.check_report import SHOWN
from ladseg.data.detect import detect
from ladseg.data.guess import guess_section
from ladseg.data.pairs import evenly_spread
from ladseg.data.statistics import channel_statistics
from ladseg.data.unlabelled import UNLABELLED
from ladseg.errors import DataError, RecipeError, printable
from ladseg.recipe import Data
from ladseg.recipe_files import load_recipe, make_recipe, recipe_names
from ladseg.report.check_page import PageSample, check_page

# Number of pairs of each split that the page shows.
SAMPLES = 6


def data_of(recipe_or_folder: str, overrides: list[str]) -> Data:
    """Return the data section of a recipe, or one that is guessed from a folder's files.

    Raises:
        UserError: The argument is neither a recipe nor a folder that a layout recognises.
    """
    folder = Path(recipe_or_folder)
    if folder.is_dir():
        return make_recipe({"data": _section_of(folder, overrides)}, overrides).data
    if folder.suffix in (".yaml", ".yml") or recipe_or_folder in recipe_names():
        return load_recipe(recipe_or_folder, overrides).data
    raise RecipeError(f"{recipe_or_folder}: no such folder or recipe; 'ladseg recipes' lists the ready ones")


def _section_of(folder: Path, overrides: list[str]) -> dict[str, object]:
    """Return the guessed data section of a folder; values that the user gives are not guessed."""
    named = {word.split("=")[0] for word in overrides}
    if "--data.layout" in named:
        return {"root": str(folder)}
    try:
        return dataclasses.asdict(detect(folder))
    except DataError:
        if "--data.classes" not in named:
            raise
        return dataclasses.asdict(guess_section(folder))


def check(recipe_or_folder: str, overrides: list[str], splits: list[str]) -> tuple[Data, Report]:
    """Read the splits of a data set, and report on them.

    Args:
        recipe_or_folder: A recipe, or a data set's folder.
        overrides: ``--data.KEY VALUE`` arguments.
        splits: The splits to read.

    Returns:
        The data section, with the range of values found in 16-bit images, and the report. Other than three channels
        that use different numbers of bits have a range each.

    Raises:
        UserError: The data set cannot be read at all.
    """
    data = data_of(recipe_or_folder, overrides)
    report = survey(data, splits if data.unlabelled is None else [*splits, UNLABELLED])
    if data.value_range is None:
        ranges = report.of_channels
        own = data.channels != 3 and len(ranges) == data.channels and len(set(ranges)) > 1
        data = dataclasses.replace(data, value_range=ranges if own else report.value_range)
    return data, report


def page(data: Data, report: Report) -> str:
    """Return the report as HTML, with samples spread evenly over each split, except unreadable ones."""
    samples = []
    for split in report.splits:
        listing, spec = find_split(data, split.name)
        dataset = SegmentationDataset(listing.pairs, spec)
        for index in evenly_spread(len(dataset), SAMPLES):
            try:
                image, label = dataset.read(index)
            except DataError:
                continue  # the findings name it
            if image.shape[1:] == label.shape:
                samples.append(
                    PageSample(split.name, printable(Path(str(dataset.pairs[index][0])).name), shown(image), label)
                )
    return check_page(report, samples)


def stats_yaml(data: Data) -> str:
    """Return mean and standard deviation of the training split's channels as lines of a recipe.

    Raises:
        DataError: A file can't be read.
    """
    mean, std = channel_statistics(open_dataset(data, "train"))
    lines = [] if data.channels == 3 else [f"  channels: {data.channels}"]
    lines += [] if data.value_range is None else [f"  value_range: {json.dumps(data.value_range)}"]
    lines += [
        f"  {key}: [{', '.join(f'{value:.6f}' for value in values)}]" for key, values in (("mean", mean), ("std", std))
    ]
    return "\n".join(["data:", *lines]) + "\n"


def as_json(report: Report) -> str:
    """Return the report as JSON, with the number of files and the first few files of each finding."""
    values: dict[str, Any] = dataclasses.asdict(dataclasses.replace(report, contents={}))
    del values["contents"]
    for finding in values["findings"]:
        finding["count"] = len(finding["files"])
        finding["files"] = finding["files"][:SHOWN]
    return json.dumps({"exit_code": report.level, "pairs": report.pairs, **values}, indent=2)


def data_yaml(data: Data) -> str:
    """Return the data section as YAML, without keys at their default."""
    plain = dataclasses.asdict(Data())
    section = {key: value for key, value in dataclasses.asdict(data).items() if value != plain[key] or key == "layout"}
    if data.value_range is not None:
        section["value_range"] = json.loads(json.dumps(data.value_range))  # YAML has no tuples either
    return yaml.safe_dump({"data": section}, sort_keys=False, default_flow_style=None, width=100)

"""The report of a finished run, from what lies in its folder."""

import json
from pathlib import Path
from typing import Any

from ladseg.errors import RecipeError
from ladseg.files import write_text
from ladseg.report.comparison_page import comparison_page
from ladseg.report.run_page import RunRecord, run_page
from ladseg.runs.samples import INDEX
from ladseg.runs.validation import load_counts

FILE = "report.html"


def write_report(folder: Path) -> Path:
    """Write ``report.html`` into the folder of a run or a comparison; neither data nor weights are needed.

    Returns:
        The file.

    Raises:
        RecipeError: The folder holds no finished run, or one of a version that kept less.
    """
    results = _results(folder)
    if "methods" in results:
        page = comparison_page(results, folder / "results.png", _recipe(folder))
    else:
        page = run_page(_record(folder, results))
    write_text(folder / FILE, page)
    return folder / FILE


def _results(folder: Path) -> dict[str, Any]:
    path = folder / "results.json"
    if not path.is_file():
        raise RecipeError(f"{folder}: no results.json, so no finished run; give the folder of one")
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if not {"prediction", "methods"} & set(results):
        raise RecipeError(
            f"{folder}: made by an older ladseg, which kept less than the report shows; run 'ladseg train' on it "
            "again, which trains nothing anew"
        )
    return results


def _record(folder: Path, results: dict[str, Any]) -> RunRecord:
    folders = {key: folder / row["folder"] for key, row in results["networks"].items()}
    samples = folder / "samples"
    return RunRecord(
        results,
        {key: _lines(place / "metrics.jsonl") for key, place in folders.items()},
        {key: load_counts(place).matrix.counts.numpy() for key, place in folders.items()},
        json.loads((samples / INDEX).read_text(encoding="utf-8")),
        samples,
        _recipe(folder),
        json.loads((folder / "environment.json").read_text(encoding="utf-8")),
    )


def _lines(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _recipe(folder: Path) -> str:
    return (folder / "recipe.yaml").read_text(encoding="utf-8")

"""Write the tables, plot and report of a finished run or comparison."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ladseg.files import write_text
from ladseg.report.comparison_tables import compare_latex, compare_markdown
from ladseg.results import (
    RESULTS,
    ComparisonResults,
    Environment,
    RunResults,
    Sample,
    read_if_complete,
    read_json,
    read_results,
    write_json,
)

# Drawing and measuring code is imported only where needed, because a finished run reprints its table without it.
if TYPE_CHECKING:
    from ladseg.report.run_page import RunRecord

FILE = "report.html"


def write_report(folder: Path) -> Path:
    """Write ``report.html`` into the folder of a run or a comparison; neither data nor weights are needed.

    Returns:
        The file.

    Raises:
        RecipeError: The folder holds no finished run, or one of an older version that recorded less.
    """
    results = read_results(folder)
    if isinstance(results, ComparisonResults):
        from ladseg.report.comparison_page import comparison_page

        page = comparison_page(results, folder / "results.png", _recipe(folder))
    else:
        from ladseg.report.run_page import run_page

        page = run_page(_record(folder, results))
    write_text(folder / FILE, page)
    return folder / FILE


def update_report(folder: Path) -> Path:
    """Return the report of a folder, and write it first unless it is newer than the results."""
    report = folder / FILE
    is_new = report.is_file() and report.stat().st_mtime_ns >= (folder / RESULTS).stat().st_mtime_ns
    return report if is_new else write_report(folder)


def write_comparison(folder: Path, results: ComparisonResults) -> None:
    """Write the results, tables and plot of a comparison into its folder, unless they exist."""
    files = [folder / f"results.{suffix}" for suffix in ("md", "tex", "png")]
    if read_if_complete(ComparisonResults, folder / RESULTS) == results and all(file.is_file() for file in files):
        return
    from ladseg.report.comparison_plot import save_compare_plot

    write_json(folder / RESULTS, results)
    write_text(folder / "results.md", compare_markdown(results))
    write_text(folder / "results.tex", compare_latex(results))
    save_compare_plot(folder / "results.png", results)


def _record(folder: Path, results: RunResults) -> "RunRecord":
    from ladseg.report.run_page import RunRecord
    from ladseg.runs.pictures import INDEX
    from ladseg.runs.validation import load_evaluation

    folders = {key: folder / (row.folder or key) for key, row in results.networks.items()}
    samples = folder / "samples"
    return RunRecord(
        results,
        {key: _read_lines(place / "metrics.jsonl") for key, place in folders.items()},
        {key: load_evaluation(place).matrix.counts.numpy() for key, place in folders.items()},
        read_json(list[Sample], samples / INDEX),
        samples,
        _recipe(folder),
        read_json(Environment, folder / "environment.json"),
    )


def _read_lines(path: Path) -> list[dict[str, float]]:
    if not path.is_file():  # a finished teacher has no metrics here
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _recipe(folder: Path) -> str:
    return (folder / "recipe.yaml").read_text(encoding="utf-8")

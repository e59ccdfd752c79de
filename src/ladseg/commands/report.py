"""Write the tables, plot and report of a finished run or comparison."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ladseg.errors import RecipeError, UserError
from ladseg.files import write_text
from ladseg.report.comparison_tables import compare_latex, compare_markdown
from ladseg.results import (
    RESULTS,
    ComparisonResults,
    Environment,
    RunResults,
    Sample,
    cell_folder,
    read_if_complete,
    read_json,
    read_results,
    write_json,
)
from ladseg.runs.parts import (
    COUNTS,
    ENVIRONMENT,
    RECIPE,
    SAMPLE_LIST,
    SAMPLES,
    fault_of,
    first_fault,
    read_counts,
    shown_parts,
)

# Drawing and measuring code is imported only where needed, because a finished run reprints its table without it.
if TYPE_CHECKING:
    from ladseg.report.comparison_page import CellRecord, ComparisonRecord
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
        write_comparison(folder, results)  # its tables and its plot, where they are missing or spoilt
        from ladseg.report.comparison_page import comparison_page

        page = comparison_page(_comparison_record(folder, results))
    else:
        from ladseg.report.run_page import run_page

        page = run_page(_record(folder, results))
    write_text(folder / FILE, page)
    return folder / FILE


def update_report(folder: Path) -> Path:
    """Return the report of a folder, and write it first unless it is newer than the results."""
    report = folder / FILE
    is_new = fault_of(report) is None and report.stat().st_mtime_ns >= (folder / RESULTS).stat().st_mtime_ns
    return report if is_new else write_report(folder)


def write_comparison(folder: Path, results: ComparisonResults) -> None:
    """Write the results, tables and plot of a comparison into its folder, unless they exist."""
    files = [folder / f"results.{suffix}" for suffix in ("md", "tex", "png")]
    if read_if_complete(ComparisonResults, folder / RESULTS) == results and not any(map(fault_of, files)):
        return
    from ladseg.report.comparison_plot import save_compare_plot

    write_json(folder / RESULTS, results)
    write_text(folder / "results.md", compare_markdown(results))
    write_text(folder / "results.tex", compare_latex(results))
    save_compare_plot(folder / "results.png", results)


def _comparison_record(folder: Path, results: ComparisonResults) -> "ComparisonRecord":
    from ladseg.report.comparison_page import ComparisonRecord

    cells: dict[str, dict[int, CellRecord]] = {}
    for row in results.methods:
        found = {seed: _cell_record(cell_folder(folder, row.name, seed)) for seed in row.mean_iou}
        cells[row.name] = {seed: cell for seed, cell in found.items() if cell is not None}
    return ComparisonRecord(results, cells, _recipe(folder))


def _cell_record(folder: Path) -> "CellRecord | None":
    """Return a run of a comparison, and see to its own page; None if it is not there, as in a copy of a part."""
    from ladseg.report.comparison_page import CellRecord

    results = read_if_complete(RunResults, folder / RESULTS)
    if results is None:
        return None
    with suppress(UserError, OSError):  # an older version kept less, or a training's folder was removed
        update_report(folder)
    samples = read_if_complete(list[Sample], folder / SAMPLES / SAMPLE_LIST) or []
    return CellRecord(results, folder, samples, (folder / FILE).is_file())


def _record(folder: Path, results: RunResults) -> "RunRecord":
    from ladseg.report.run_page import RunRecord
    from ladseg.training import read_metrics

    fault = first_fault(shown_parts(folder, results), results)
    if fault is not None:
        raise RecipeError(f"{fault}; start the command that made the run again, which makes the file again")
    folders = {key: folder / (row.folder or key) for key, row in results.networks.items()}
    return RunRecord(
        results,
        {key: read_metrics(place / "metrics.jsonl") for key, place in folders.items()},
        {key: read_counts(place / COUNTS)[0] for key, place in folders.items()},
        read_json(list[Sample], folder / SAMPLES / SAMPLE_LIST),
        folder,
        _recipe(folder),
        read_json(Environment, folder / ENVIRONMENT),
    )


def _recipe(folder: Path) -> str:
    fault = fault_of(folder / RECIPE)
    if fault is not None:
        raise RecipeError(f"{folder / RECIPE}: {fault}; start the command that made the folder again, which repairs it")
    return (folder / RECIPE).read_text(encoding="utf-8")

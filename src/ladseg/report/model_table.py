"""The networks as a table, for the terminal and for docs/models.md."""

from rich.box import SIMPLE

from ladseg.models.describe import ModelFacts
from ladseg.report.numbers import gmacs
from ladseg.report.sheet import PlainTable, Sheet

COLUMNS = ("name", "parameters", "training adds", "GMACs", "stride", "source")
TIME_COLUMNS = ("predict ms", "train ms", "ms / GMAC")
# The columns that hold text.
TEXTS = ("name", "source")

# Seconds per image of prediction and of a training step, by network.
Times = dict[str, tuple[float, float]]


def models_table(facts: list[ModelFacts], times: Times, title: str) -> PlainTable:
    """Return a table for the terminal with one row per network."""
    table = PlainTable(title=title, title_justify="left", box=SIMPLE, show_edge=False, pad_edge=False)
    for column in (*COLUMNS, *(TIME_COLUMNS if times else ())):
        table.add_column(
            column, justify="left" if column in TEXTS else "right", no_wrap=column == "name", overflow="fold"
        )
    for row in facts:
        table.add_row(*_cells(row, times))
    return table


def models_markdown(facts: list[ModelFacts], times: Times, title: str) -> str:
    """Return the same in Markdown, with a column that names the training-only parts."""
    columns = (*COLUMNS, *(TIME_COLUMNS if times else ()), "training-only parts")
    return Sheet(title, columns, [[*_cells(row, times), row.training_only] for row in facts]).markdown()


def _cells(facts: ModelFacts, times: Times) -> list[str]:
    cells = [
        facts.name,
        f"{facts.parameters:,}",
        f"{facts.training_parameters:,}",
        gmacs(facts.macs),
        str(facts.stride),
        facts.source,
    ]
    if facts.name in times:
        predict, train = times[facts.name]
        cells += [f"{1e3 * predict:.1f}", f"{1e3 * train:.1f}", f"{1e12 * predict / facts.macs:.2f}"]
    return cells

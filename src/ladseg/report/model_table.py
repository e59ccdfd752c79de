"""The networks as a table, for the terminal and for docs/models.md."""

from rich.table import Table

from ladseg.models.describe import ModelFacts

COLUMNS = ("name", "parameters", "training adds", "GMACs", "stride", "source")
TIME_COLUMNS = ("predict ms", "train ms", "ms / GMAC")
WORDS = ("name", "source")

# (prediction, training step an image), seconds
Times = dict[str, tuple[float, float]]


def models_table(facts: list[ModelFacts], times: Times, title: str) -> Table:
    """One row a network."""
    table = Table(title=title)
    for column in (*COLUMNS, *(TIME_COLUMNS if times else ())):
        table.add_column(column, justify="left" if column in WORDS else "right", no_wrap=column == "name")
    for row in facts:
        table.add_row(*_cells(row, times))
    return table


def models_markdown(facts: list[ModelFacts], times: Times, title: str) -> str:
    """The same as a Markdown table under its title, and what the training-only parts are."""
    columns = (*COLUMNS, *(TIME_COLUMNS if times else ()), "training-only parts")
    rows = [[*_cells(row, times), row.training_only] for row in facts]
    lines = [columns, ["---"] * len(columns), *rows]
    return f"{title}\n\n" + "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _cells(facts: ModelFacts, times: Times) -> list[str]:
    cells = [
        facts.name,
        f"{facts.parameters:,}",
        f"{facts.training_parameters:,}",
        f"{facts.macs / 1e9:.2f}",
        str(facts.stride),
        facts.source,
    ]
    if facts.name in times:
        predict, train = times[facts.name]
        cells += [f"{1e3 * predict:.1f}", f"{1e3 * train:.1f}", f"{1e12 * predict / facts.macs:.2f}"]
    return cells

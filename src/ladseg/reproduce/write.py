"""Write a reproduced table as JSON, Markdown, LaTeX and a page, with a plot of Table 9."""

from pathlib import Path

from ladseg.files import write_text
from ladseg.report.reproduced import ReproducedTable, reproduced_latex, reproduced_markdown, reproduced_page
from ladseg.results import write_json


def write_table(folder: Path, table: ReproducedTable) -> list[Path]:
    """Write the files of a table, named after it, and return them."""
    stem = folder / table.name
    plot = None
    if table.name == "table-9":
        from ladseg.report.noise_plot import save_noise_plot

        plot = stem.with_suffix(".png")
        save_noise_plot(plot, table)
    write_json(stem.with_suffix(".json"), table)
    texts = {
        ".md": reproduced_markdown(table),
        ".tex": reproduced_latex(table),
        ".html": reproduced_page(table, plot),
    }
    for suffix, text in texts.items():
        write_text(stem.with_suffix(suffix), text)
    return [stem.with_suffix(suffix) for suffix in (".json", *texts)] + ([plot] if plot else [])

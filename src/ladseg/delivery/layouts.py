"""The layouts in words, for ``ladseg data``."""

from collections.abc import Iterable

from rich.table import Table

from ladseg.data.layouts.layout import Layout


def layouts_table(layouts: Iterable[Layout]) -> Table:
    """One row a layout."""
    table = Table("layout", "data set", caption="'ladseg data NAME' shows tree, ids and source")
    table.add_column("classes", justify="right")
    table.add_column("published pairs")
    table.add_column("recipe")
    for layout in layouts:
        table.add_row(
            layout.name,
            layout.title,
            str(layout.spec.num_classes) if layout.spec else "yours",
            ", ".join(f"{split} {count:,}" for split, count in (layout.published or {}).items()),
            layout.recipe or "-",
        )
    return table


def layout_page(layout: Layout) -> str:
    """Everything that is known of one layout, in plain text."""
    lines = [f"{layout.name}: {layout.title}", "", "On disk, below data.root:", *_indented(layout.tree)]
    lines += ["", "Masks:", *_indented(layout.ids)]
    if layout.published:
        lines += ["", "Pairs: " + ", ".join(f"{split} {count:,}" for split, count in layout.published.items())]
    if layout.spec:
        lines += ["", f"Classes ({layout.spec.num_classes}): " + ", ".join(layout.spec.class_names)]
    lines += ["", "Source:", *_indented(layout.source)]
    if layout.recipe:
        lines += ["", f"Recipe: ladseg recipes {layout.recipe} > mine.yaml"]
    return "\n".join(lines)


def _indented(text: str) -> list[str]:
    return [f"  {line}" for line in text.splitlines()]

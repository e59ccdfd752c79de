"""Layouts of data sets as text, for ``ladseg data``."""

from collections.abc import Iterable

from ladseg.data.layouts.layout import Layout
from ladseg.recipe_files import load_recipe


def layouts_list(layouts: Iterable[Layout]) -> str:
    """Return one line per layout with name, title, number of classes and published numbers of pairs."""
    rows = []
    for layout in layouts:
        classes = f"{layout.spec.num_classes} classes" if layout.spec else ""
        rows.append((layout.name, layout.title, classes, _pairs(layout)))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def _pairs(layout: Layout) -> str:
    return ", ".join(f"{split} {count:,}" for split, count in (layout.published or {}).items())


def layout_page(layout: Layout) -> str:
    """Return a description of one layout with its tree, ids, classes, source and recipe."""
    lines = [f"{layout.name}: {layout.title}", "", "On disk, below data.root:", *_indented(layout.tree)]
    lines += ["", "Masks:", *_indented(layout.ids)]
    if layout.published:
        lines += ["", f"Pairs: {_pairs(layout)}"]
    if layout.spec:
        lines += ["", f"Classes ({layout.spec.num_classes}): " + ", ".join(layout.spec.class_names)]
    lines += ["", "Source:", *_indented(layout.source)]
    if layout.recipe:
        schedule = load_recipe(layout.recipe).schedule
        height, width = schedule.crop
        lines += [
            "",
            f"Recipe: {layout.recipe}, with crops of {height}x{width}, {schedule.iterations:,} iterations, "
            f"batches of {schedule.batch_size}",
            f"  ladseg recipes {layout.recipe} > mine.yaml",
        ]
    return "\n".join(lines)


def _indented(text: str) -> list[str]:
    return [f"  {line}" for line in text.splitlines()]

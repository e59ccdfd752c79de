"""Layouts of data sets as text, for ``ladseg data``."""

import re
from collections.abc import Iterable, Iterator

from ladseg.data.layouts.layout import Layout
from ladseg.folding import folded
from ladseg.recipe_files import load_recipe
from ladseg.report.sheet import PlainTable

HANG = 2


def layouts_table(layouts: Iterable[Layout]) -> PlainTable:
    """Return a table of each layout's name, title, number of classes and published numbers of pairs."""
    table = PlainTable(box=None, pad_edge=False)
    table.add_column("layout", no_wrap=True)
    table.add_column("content")
    table.add_column("classes", justify="right", no_wrap=True)
    table.add_column("published pairs")
    for layout in layouts:
        table.add_row(layout.name, layout.title, str(layout.spec.num_classes) if layout.spec else "", _pairs(layout))
    return table


def _pairs(layout: Layout) -> str:
    return ", ".join(f"{split} {count:,}" for split, count in (layout.published or {}).items())


def layout_page(layout: Layout, width: int) -> str:
    """Return a description of one layout with its tree, ids, classes, source and recipe, folded to a width."""
    parts = [
        folded(f"{layout.name}: {layout.title}", width, HANG),
        ["On disk, below data.root:", *_tree(layout.tree, width)],
    ]
    parts.append(["Masks:", *folded("  " + " ".join(layout.ids.splitlines()), width)])
    if layout.published:
        parts.append(folded(f"Pairs: {_pairs(layout)}", width, HANG))
    if layout.spec:
        names = ", ".join(layout.spec.class_names)
        parts.append(folded(f"Classes ({layout.spec.num_classes}): {names}", width, HANG))
    parts.append(
        ["Source:", *(part for line in layout.source.splitlines() for part in folded(f"  {line}", width, HANG))]
    )
    if layout.recipe:
        schedule = load_recipe(layout.recipe).schedule
        height, length = schedule.crop
        text = f"Recipe: {layout.recipe}, with crops of {height}x{length}, {schedule.iterations:,} iterations, "
        parts.append(folded(f"{text}batches of {schedule.batch_size}", width, HANG))
        parts[-1].append(f"  ladseg recipes {layout.recipe} > mine.yaml")
    return "\n\n".join("\n".join(lines) for lines in parts)


def _tree(text: str, width: int) -> Iterator[str]:
    """Indent the lines of a tree; of one that is too wide, what stands behind its last gap goes below it."""
    for line in text.splitlines():
        if 2 + len(line) <= width:
            yield f"  {line}"
            continue
        first, *remark = re.split(r"(?<=\S) {2,}(?!.*\S {2,})", line)
        yield from folded(f"  {first}", width, HANG)
        for part in remark:
            yield from folded(f"      {part}", width, HANG)

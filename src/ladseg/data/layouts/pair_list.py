"""Pairs from a list: lines of image and mask, or a CSV file."""

import csv
import io
import os
from collections import Counter
from pathlib import Path

from ladseg.data.layouts.layout import Layout, absence, if_absent, if_absent_test, own_val, spellings
from ladseg.data.pairs import Fault, Listing
from ladseg.data.text import read_text
from ladseg.errors import DataError
from ladseg.recipe import Data

HEADINGS = {"image", "mask", "split"}


def _find(data: Data, split: str) -> Listing:
    return _listed(data, split, one_for_all=False)


def _find_all(data: Data) -> Listing:
    """Find the pairs of the training split, or of a list without splits."""
    if "{split}" in (data.pairs or ""):
        for path in (Path(data.root) / (data.pairs or "").replace("{split}", word) for word in spellings("val")):
            if os.path.isfile(path):
                raise own_val(path)
    return _listed(data, "train", one_for_all=True)


def _listed(data: Data, split: str, one_for_all: bool) -> Listing:
    if not data.pairs:
        raise DataError("data.pairs is empty; give the list of pairs, such as {split}.txt or pairs.csv")
    root = Path(data.root)
    lists = [root / data.pairs.replace("{split}", word) for word in spellings(split)]
    path = next(filter(os.path.isfile, lists), lists[0])
    if "{split}" in data.pairs and not one_for_all and not os.path.isfile(path):
        raise DataError(f"{path}: no such list of pairs; {if_absent(split)}")
    text = read_text(path, "a list of pairs")
    rows = _csv_rows(text, path, split, one_for_all) if path.suffix.lower() == ".csv" else _text_rows(text, path)
    if not rows:
        raise DataError(f"{path}: no pair of split '{split}' in it; give image and mask a line")
    if not one_for_all and "{split}" not in data.pairs and path.suffix.lower() != ".csv":
        raise DataError(
            f"{path}: one list for all splits; write data.pairs with {{split}} in it, or a CSV with a split column, "
            f"or {if_absent(split)}"
        )
    pairs, faults = [], []
    for image, mask in rows:
        found = root / image, root / mask
        lost = next((file for file in found if not os.path.exists(file)), None)
        if lost is not None:
            faults.append(Fault("listed file missing", str(lost), f"{absence(lost)}, but {path} names it"))
        else:
            pairs.append(found)
    return Listing(pairs, tuple(faults))


def _csv_rows(text: str, path: Path, split: str, one_for_all: bool) -> list[tuple[str, str]]:
    rows = [
        [cell.strip() for cell in row] for row in csv.reader(io.StringIO(text)) if any(cell.strip() for cell in row)
    ]
    heading = [cell.lower() for cell in rows[0]] if rows else []
    if {"image", "mask"} <= set(heading):
        columns = {name: heading.index(name) for name in HEADINGS & set(heading)}
        rows = rows[1:]
    else:
        columns = {"image": 0, "mask": 1, **({"split": 2} if rows and len(rows[0]) > 2 else {})}
    words = spellings(split)
    if one_for_all and "split" in columns:
        of_splits = {row[columns["split"]] for row in rows if len(row) > columns["split"]}
        if of_splits & set(spellings("val")):
            raise own_val(f"in {path}")
    if not one_for_all and "split" not in columns and not any(word in path.name for word in words):
        raise DataError(
            f"{path}: no column says the split; add one named split, or write one list a split, or {if_absent(split)}"
        )
    found, others = [], Counter[str]()
    for number, row in enumerate(rows, 1):
        if len(row) <= max(columns.values()):
            raise DataError(f"{path}: row {number} '{','.join(row)}' has too few columns; they are image,mask,split")
        if "split" not in columns or row[columns["split"]] in words:
            found.append((row[columns["image"]], row[columns["mask"]]))
        else:
            others[row[columns["split"]]] += 1
    if not found and others:
        listed = ", ".join(f"'{word}' ({count:,} rows)" for word, count in others.most_common(8))
        other = if_absent_test(split) or f"write {words[0]}"
        raise DataError(f"{path}: no row of split '{split}'; its column of splits has {listed}; {other}")
    return found


def _text_rows(text: str, path: Path) -> list[tuple[str, str]]:
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        words = line.strip().split("\t") if "\t" in line.strip() else line.split()
        if len(words) != 2:
            raise DataError(
                f"{path}: line {number} '{line.strip()[:80]}' is not an image and a mask; names with spaces need a tab "
                "between the two, or a CSV file"
            )
        found.append((words[0].strip(), words[1].strip()))
    return found


PAIR_LIST = Layout(
    name="list",
    title="pairs from a list",
    tree="""\
{split}.txt     image and mask a line, relative to data.root; a tab between them where names have spaces
pairs.csv       columns image,mask,split; or one CSV a split without the third
  data: {pairs: "{split}.txt"}""",
    ids="As for the layout 'folder'.",
    source="yours",
    find=_find,
    find_all=_find_all,
    recognises=lambda root: False,
)

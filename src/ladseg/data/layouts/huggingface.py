"""Hugging Face datasets on disk: folders of ``save_to_disk``, and parquet files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ladseg.data.layouts.layout import Layout, if_absent_test, spellings
from ladseg.data.pairs import Blob, Listing, Source
from ladseg.errors import DataError, FileError, first_words
from ladseg.recipe import Data

IMAGE_COLUMNS = ("image", "pixel_values", "img")
LABEL_COLUMNS = ("label", "annotation", "mask", "labels", "annotations", "semantic_mask")


class TablePairs(Sequence[tuple[Source, Source]]):
    """The rows of a table whose columns hold image files; the table stays on disk."""

    def __init__(self, table: Any, image: str, label: str, name: str) -> None:
        self._table, self._columns, self._name = table, (image, label), name

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> tuple[Source, Source]:  # type: ignore[override]
        row = self._table[int(index)]
        image, label = (self._source(row[column], column, index) for column in self._columns)
        return image, label

    def _source(self, cell: Any, column: str, index: int) -> Source:
        name = f"{self._name}, row {index}, {column}"
        if not isinstance(cell, dict) or not (cell.get("bytes") or cell.get("path")):
            raise FileError(name, "no image file in this cell", "both columns need the Image feature")
        return Blob(name, cell["bytes"]) if cell.get("bytes") else Path(cell["path"])


def _find(data: Data, split: str) -> Listing:
    root = Path(data.root)
    table, name = _open(root, split)
    image = _column(table, IMAGE_COLUMNS, name, "images")
    label = _column(table, LABEL_COLUMNS, name, "masks")
    if not len(table):
        raise DataError(f"{name}: empty split")
    from datasets import Image

    for column in (image, label):
        table = table.cast_column(column, Image(decode=False))
    return Listing(TablePairs(table.select_columns([image, label]), image, label, name))


def _open(root: Path, split: str) -> tuple[Any, str]:
    try:
        from datasets import Dataset, DatasetDict, load_from_disk
    except ImportError:
        raise DataError("layout 'huggingface' needs Hugging Face datasets; pip install 'ladseg[huggingface]'") from None
    words = spellings(split)
    try:
        for word in words:
            patterns = (f"{word}*.parquet", f"data/{word}*.parquet", f"{word}/*.parquet")
            files = sorted(str(path) for pattern in patterns for path in root.glob(pattern))
            if files:
                return Dataset.from_parquet(list(files)), files[0]
        tables: Any = load_from_disk(str(root))
    except Exception as error:  # datasets and arrow raise what they like on broken files
        reason = first_words(error)
        raise DataError(
            f"{root}: neither parquet files of split '{split}' nor a load_from_disk folder ({reason}); "
            + (if_absent_test(split) or "'ladseg data huggingface' shows both")
        ) from None
    if not isinstance(tables, DatasetDict):
        raise DataError(f"{root}: one table without splits; save a DatasetDict with train and validation")
    for word in words:
        if word in tables:
            return tables[word], f"{root}/{word}"
    raise DataError(f"{root}: no split '{split}'; it has {', '.join(map(str, tables))}")


def _column(table: Any, known: tuple[str, ...], name: str, what: str) -> str:
    for column in known:
        if column in table.column_names:
            return column
    raise DataError(f"{name}: no column of {what} ({', '.join(known)}); it has {', '.join(table.column_names)}")


HUGGINGFACE = Layout(
    name="huggingface",
    title="Hugging Face datasets on disk",
    tree="""\
a folder that save_to_disk wrote from a DatasetDict, or
{train,validation}-*.parquet                                                 (also in data/)
with the columns image and label, annotation or mask, of the Image feature""",
    ids="As for the layout 'folder'.",
    source="https://huggingface.co/datasets; pip install 'ladseg[huggingface]'",
    find=_find,
    recognises=lambda root: (
        (root / "dataset_dict.json").is_file()
        or any(root.glob("train*.parquet"))
        or any(root.glob("data/train*.parquet"))
    ),
)

"""A name in a user's list that the operating system refuses is a missing file of that name, in one line."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ladseg.data import check_dataset
from ladseg.errors import DataError
from ladseg.recipe import Data
from tests.data.miniatures import Miniature, coco_json, pair_csv, pair_lists, voc

# Names, and what the message says of why there is no such file.
NAMES = {
    "too long": ("x" * 300, "File name too long"),
    "too deep": ("/".join(["x" * 200] * 30), "File name too long"),
    "NUL": ("a\0b", "embedded null byte"),
    "half a surrogate pair": ("a\ud800", "surrogates not allowed"),
    "a loop of links": ("loop", "Too many levels of symbolic links"),
    "below a file": ("file/x", ""),
    "missing": ("gone", ""),
}


def in_coco(root: Path, name: str) -> None:
    file = root / "annotations/instances_train2017.json"
    content = json.loads(file.read_text())
    content["images"].append({"id": 9, "file_name": name})
    file.write_text(json.dumps(content))


def in_text(root: Path, name: str) -> None:
    with (root / "train.txt").open("a") as file:
        file.write(f"pictures/c.jpg\t{name}\n")


def in_csv(root: Path, name: str) -> None:
    with (root / "pairs.csv").open("a", newline="") as file:
        csv.writer(file).writerow(["train", "truth/c.png", name])


def in_voc(root: Path, name: str) -> None:
    (file,) = root.rglob("ImageSets/Segmentation/train.txt")
    file.write_text(f"{file.read_text()}{name}\n")


LISTS: dict[str, tuple[Callable[[Path], Miniature], Callable[[Path, str], None]]] = {
    "coco": (coco_json, in_coco),
    "lines": (pair_lists, in_text),
    "csv": (pair_csv, in_csv),
    "voc": (voc, in_voc),
}


# A file of UTF-8 can't hold half a surrogate pair, and VOC's names have no suffix.
IMPOSSIBLE = {(kind, "half a surrogate pair") for kind in ("lines", "csv", "voc")} | {("voc", "a loop of links")}


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in LISTS for name in NAMES if (kind, name) not in IMPOSSIBLE]
)
def test_it_is_a_missing_file(kind: str, name: str, tmp_path: Path) -> None:
    make, add = LISTS[kind]
    data = Data(root=str(tmp_path), **make(tmp_path).data)
    for folder in (".", "train2017"):
        if (tmp_path / folder).is_dir():
            (tmp_path / folder / "loop").symlink_to("loop")
            (tmp_path / folder / "file").write_text("")
    text, why = NAMES[name]
    add(tmp_path, text)
    with pytest.raises(DataError, match=r"no such (file|image)") as caught:
        check_dataset(data)
    assert why in str(caught.value)
    assert str(caught.value).isprintable()

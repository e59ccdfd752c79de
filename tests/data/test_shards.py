"""Shards against Python's own tar reader, GNU tar and the folder of the same files."""

import io
import os
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ladseg.data import open_dataset, survey, train_loader
from ladseg.data.cache import fingerprint
from ladseg.data.detect import detect
from ladseg.data.layouts.shards import find_shards
from ladseg.errors import DataError, FileError
from ladseg.recipe import Data

CLASSES = ["a", "b", "c"]


def picture(seed: int, kind: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(seed)
    shape, high = ((24, 32, 3), 256) if kind == "RGB" else ((24, 32), 3)
    return Image.fromarray(rng.integers(0, high, shape).astype(np.uint8))


def encoded(image: Image.Image, suffix: str) -> bytes:
    file = io.BytesIO()
    image.save(file, {".jpg": "JPEG", ".png": "PNG", ".bmp": "BMP"}[suffix])
    return file.getvalue()


def archive(path: Path, files: Mapping[str, bytes], form: int = tarfile.PAX_FORMAT) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def files_of(*keys: str) -> dict[str, bytes]:
    found = {}
    for key in keys:
        found[f"{key}.jpg"] = encoded(picture(hash(key) % 1000), ".jpg")
        found[f"{key}.png"] = encoded(picture(hash(key) % 1000, "L"), ".png")
    return found


def test_gnu_tar_packs_a_folder_that_reads_the_same_from_shards(tmp_path: Path) -> None:
    """The commands of docs/data.md, on a folder; samples and batches are those of the folder."""
    for split, count in (("train", 7), ("val", 2)):
        for kind in ("images", "masks"):
            (tmp_path / f"tree/{kind}/{split}").mkdir(parents=True)
        for at in range(count):
            (tmp_path / f"tree/images/{split}/f{at}.jpg").write_bytes(encoded(picture(at), ".jpg"))
            (tmp_path / f"tree/masks/{split}/f{at}.png").write_bytes(encoded(picture(at, "L"), ".png"))
    page = (Path(__file__).parents[2] / "docs/data.md").read_text()
    commands = page.split("    cd my_data\n")[1].split("\n\n")[0].replace("-l 2000", "-l 4")
    subprocess.run(["bash", "-euc", commands], cwd=tmp_path / "tree", check=True)
    names = sorted(path.name for path in (tmp_path / "shards").iterdir())
    assert names == [f"train-000{n}.tar" for n in ("000", "001", "002", "003")] + ["val-000000.tar"]
    packed = Data(layout="shards", root=str(tmp_path / "shards"), classes=CLASSES)
    plain = Data(layout="folder", root=str(tmp_path / "tree"), classes=CLASSES)
    there, here = open_dataset(packed, "train"), open_dataset(plain, "train")
    assert len(there) == len(here) == 7
    for index in range(7):
        assert all(torch.equal(x, y) for x, y in zip(there.read(index), here.read(index), strict=True))
    options = {"crop": (16, 16), "batch_size": 2, "seed": 3, "mean": [0.5] * 3, "std": [0.2] * 3}
    for workers in (0, 2):
        batches = [list(train_loader(x, **options, start_step=1, steps=5, workers=workers)) for x in (there, here)]
        for one, other in zip(*batches, strict=True):
            assert all(torch.equal(one[key], other[key]) for key in one)
    digests = [[x.contents[split].digest for split in ("train", "val")] for x in (survey(packed), survey(plain))]
    assert digests[0] == digests[1], "the contents do not depend on how the files are packed"
    assert detect(tmp_path / "shards").layout == "shards"


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_places_are_those_of_tarfile(form: int, tmp_path: Path) -> None:
    name = "folder/" + "long-" * 40 + "ü" if form != tarfile.USTAR_FORMAT else "folder/short"
    files = files_of(name, "other")
    archive(tmp_path / "train-0.tar", files, form)
    found = find_shards(tmp_path, "train")
    assert found is not None
    for image, mask in found.pairs:
        for member in (image, mask):
            inside = str(member).removeprefix(f"{tmp_path}/train-0.tar/")
            assert member.read_bytes() == files[inside]
    assert found.pairs[-1] == found.pairs[len(found.pairs) - 1]


@pytest.mark.parametrize(
    ("names", "pairs", "faults"),
    [
        (["a.jpg", "a.png"], [("a.jpg", "a.png")], []),
        (["a.png", "a.mask.png"], [("a.png", "a.mask.png")], []),
        (["a.image.png", "a.label.png"], [("a.image.png", "a.label.png")], []),
        (["a.image.png", "a.png"], [("a.image.png", "a.png")], []),
        (["a.jpg", "a.seg.png", "a.json", "a.txt"], [("a.jpg", "a.seg.png")], []),
        (["a.jpg", "a.png", "a.depth.png"], [("a.jpg", "a.png")], []),
        (["a.rf.1f2.jpg", "a.rf.1f2.png"], [("a.rf.1f2.jpg", "a.rf.1f2.png")], []),
        (["x/a.jpg", "x/a.png", "y/a.jpg", "y/a.png"], [("x/a.jpg", "x/a.png"), ("y/a.jpg", "y/a.png")], []),
        (["a.JPG", "a.PNG"], [("a.JPG", "a.PNG")], []),
        (["._a.jpg", "a.jpg", "a.png"], [("a.jpg", "a.png")], []),
        (["a.jpg", "a.png", "b.jpg"], [("a.jpg", "a.png")], ["image without mask"]),
        (["a.jpg", "a.png", "b.png"], [("a.jpg", "a.png")], ["image without mask"]),
        (["a.jpg", "a.png", "b.mask.png"], [("a.jpg", "a.png")], ["mask without image"]),
        (["a.jpg", "a.png", "a.jpeg"], [("a.jpg", "a.png")], ["two files of one name"]),
        (["a.jpg", "a.png", "a.mask.png"], [("a.jpg", "a.mask.png")], []),
    ],
)
def test_names(names: list[str], pairs: list[tuple[str, str]], faults: list[str], tmp_path: Path) -> None:
    archive(tmp_path / "train.tar", dict.fromkeys(names, b"x"))
    found = find_shards(tmp_path, "train")
    assert found is not None
    prefix = f"{tmp_path}/train.tar/"
    assert [tuple(str(source).removeprefix(prefix) for source in pair) for pair in found.pairs] == pairs
    assert [fault.kind for fault in found.faults] == faults


def test_a_sample_in_two_shards_is_a_fault(tmp_path: Path) -> None:
    archive(tmp_path / "train-0.tar", files_of("a", "b"))
    archive(tmp_path / "train-1.tar", files_of("a", "c"))
    found = find_shards(tmp_path, "train")
    assert found is not None
    assert len(found.pairs) == 3
    assert [fault.kind for fault in found.faults] == ["two files of one name"] * 2


def test_bad_archives_are_one_line(tmp_path: Path) -> None:
    data = Data(layout="shards", root=str(tmp_path), classes=CLASSES)
    with pytest.raises(DataError, match=r"no train\*.tar in it"):
        open_dataset(data, "train")
    (tmp_path / "train-0.tar.gz").write_bytes(b"")
    with pytest.raises(DataError, match=r"train-0.tar.gz: compressed"):
        open_dataset(data, "train")
    archive(tmp_path / "train-0.tar", {"images/a.jpg": b"x", "notes.txt": b"x"})
    with pytest.raises(DataError, match="no image and mask of one name"):
        open_dataset(data, "train")
    (tmp_path / "train-0.tar").write_bytes(b"no archive" * 100)
    with pytest.raises(DataError, match=r"train-0.tar: can't be read as a tar archive"):
        open_dataset(data, "train")
    archive(tmp_path / "train-0.tar", files_of("a", "b"))
    whole = (tmp_path / "train-0.tar").read_bytes()
    end = whole.index(b"IEND") - 5
    (tmp_path / "train-0.tar").write_bytes(whole[:end])
    with pytest.raises(DataError, match=r"can't be read as a tar archive \(it ends within a.png"):
        open_dataset(data, "train")


def test_an_archive_that_is_exchanged_is_noticed(tmp_path: Path) -> None:
    data = Data(layout="shards", root=str(tmp_path), classes=CLASSES)
    archive(tmp_path / "train-0.tar", files_of("a", "b"))
    dataset = open_dataset(data, "train")
    before = fingerprint(dataset)
    files = files_of("a", "b")
    files["a.png"] = encoded(picture(77, "L"), ".png")
    archive(tmp_path / "train-0.tar", files)
    assert fingerprint(open_dataset(data, "train")) != before
    (tmp_path / "train-1.tar").write_bytes((tmp_path / "train-0.tar").read_bytes())
    os.truncate(tmp_path / "train-0.tar", 600)
    with pytest.raises(FileError, match=r"train-0.tar/a.jpg: can't be read as an image \(the archive ends before"):
        dataset.read(0)


def test_coco_stuff_comes_in_shards_too(tmp_path: Path) -> None:
    mask = Image.fromarray(np.array([[0, 181, 255, 1]], np.uint8).repeat(4, 0))
    image = Image.new("RGB", (4, 4))
    for split in ("train", "val"):
        archive(tmp_path / f"{split}-0.tar", {"9.jpg": encoded(image, ".jpg"), "9.png": encoded(mask, ".png")})
    dataset = open_dataset(Data(layout="coco_stuff_164k", root=str(tmp_path)), "train")
    assert dataset.read(0)[1][0].tolist() == [0, 170, 255, 1]
    assert dataset.spec.num_classes == 171

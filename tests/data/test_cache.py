"""Decoded samples are those that decoding gives, stay with their files, and are refused where there is no room."""

import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ladseg.data import cache as cache_module
from ladseg.data import keep_decoded, open_dataset, train_loader
from ladseg.errors import DataError
from ladseg.recipe import Data
from tests.data.miniatures import huggingface


@pytest.fixture(autouse=True)
def folder(data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # One image of another size, so that places in the file are not multiples of one number.
    for kind, array in (("images", np.full((9, 7, 3), 40, np.uint8)), ("masks", np.full((9, 7), 11, np.uint8))):
        Image.fromarray(array).save(tmp_path / kind / "train/2.png")
    return tmp_path / "cache/ladseg"


@pytest.mark.parametrize("where", ["ram", "disk"])
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same(where: str, workers: int, data: Data) -> None:
    plain = open_dataset(data, "train")
    kept = keep_decoded(plain, where)
    for index in range(len(plain)):
        assert all(torch.equal(a, b) for a, b in zip(plain.read(index), kept.read(index), strict=True))
    options = {"crop": (12, 14), "batch_size": 4, "seed": 3, "start_step": 0, "steps": 4, "workers": workers}
    options |= {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    for ours, theirs in zip(train_loader(plain, **options), train_loader(kept, **options), strict=True):  # type: ignore[arg-type]
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_file_is_made_once_and_anew_when_a_mask_or_its_meaning_changes(data: Data, folder: Path) -> None:
    def labels(section: Data) -> list[list[list[int]]]:
        kept = keep_decoded(open_dataset(section, "train"), "disk")
        return [kept.read(index)[1].tolist() for index in range(5)]

    first = labels(data)
    (made,) = folder.iterdir()
    written = made.stat().st_mtime_ns
    assert labels(data) == first
    assert [path.stat().st_mtime_ns for path in folder.iterdir()] == [written]
    mask = Path(data.root) / "masks/train/0.png"
    Image.fromarray(np.full((16, 20), 2, np.uint8)).save(mask)
    os.utime(mask, ns=(1, 1))
    assert labels(data)[0] == [[2] * 20] * 16
    assert len(list(folder.iterdir())) == 2
    assert labels(replace(data, label_map={2: 0}))[0] == [[0] * 20] * 16
    assert len(list(folder.iterdir())) == 3


def test_the_file_is_not_sent_to_other_processes(data: Data) -> None:
    kept = keep_decoded(open_dataset(data, "train"), "disk")
    sent = pickle.dumps(kept)
    assert len(sent) < 5000
    assert torch.equal(pickle.loads(sent).read(3)[0], kept.read(3)[0])


def test_tables_are_kept_too(tmp_path: Path) -> None:
    made = huggingface(tmp_path / "table")
    plain = open_dataset(Data(root=str(tmp_path / "table/saved"), **made.data), "train")
    kept = keep_decoded(plain, "disk")
    assert torch.equal(kept.read(1)[0], plain.read(1)[0])


@pytest.mark.parametrize("where", ["ram", "disk"])
def test_without_room_it_is_refused(where: str, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "free_memory", lambda: 1000)
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(DataError, match=r"data.cache: about 0.0 GB decoded, but 0.0 GB of (memory|disk)"):
        keep_decoded(open_dataset(data, "train"), where)

"""Files that go bad after the check: one line that names them, from any number of loader processes."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from ladseg.data import eval_loader, keep_decoded, open_dataset, train_loader
from ladseg.data.cache import cache_folder
from ladseg.data.read import read_mask
from ladseg.errors import DataError, FileError, UserError
from ladseg.recipe import Data

PLAIN = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}


def resized(name: str, size: tuple[int, int]) -> Callable[[Path], object]:
    return lambda root: Image.open(root / name).resize(size, Image.Resampling.NEAREST).save(root / name)


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "an image is cut off": (
        lambda r: (r / "images/train/3.png").write_bytes((r / "images/train/3.png").read_bytes()[:100]),
        "images/train/3.png: can't be read as an image",
    ),
    "an image is gone": (lambda r: (r / "images/train/3.png").unlink(), "3.png: can't be read as an image .*no such f"),
    "a mask is text": (lambda r: (r / "masks/train/3.png").write_text("x"), "train/3.png: can't be read as a mask"),
    "a mask is in colour": (
        lambda r: Image.fromarray(np.arange(960, dtype=np.uint8).reshape(16, 20, 3)).save(r / "masks/train/3.png"),
        "masks/train/3.png: mask is in colour",
    ),
    "a mask shrinks": (resized("masks/train/3.png", (10, 8)), "masks/train/3.png: mask is 10x8 but its image .* 20x16"),
    "a mask grows": (resized("masks/train/3.png", (40, 32)), "masks/train/3.png: mask is 40x32 but its image .* 20x16"),
    "an image grows": (resized("images/train/3.png", (40, 32)), "mask is 20x16 but its image .*3.png is 40x32"),
}  # fmt: skip


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", SPOILT)
def test_a_file_that_goes_bad_is_one_line(name: str, workers: int, data: Data) -> None:
    spoil, words = SPOILT[name]
    dataset = open_dataset(data, "train")
    batches = train_loader(
        dataset, crop=(12, 14), batch_size=5, seed=0, start_step=0, steps=2, workers=workers, **PLAIN
    )
    assert len(list(batches)) == len(batches) == 2
    spoil(Path(data.root))
    for spoilt in (batches, eval_loader(dataset, workers=workers, **PLAIN)):
        with pytest.raises(FileError, match=words) as caught:
            list(spoilt)
        assert "\n" not in str(caught.value)
        assert "it may have changed since it was checked" in str(caught.value)


def test_an_error_about_a_file_survives_the_way_between_processes() -> None:
    error = FileError("a.png", "can't be read", "replace it")
    sent = pickle.loads(pickle.dumps(error))
    assert (str(sent), sent.file, sent.what, sent.hint) == (str(error), "a.png", "can't be read", "replace it")


def test_a_loader_process_that_the_system_kills_is_one_line(data: Data, tmp_path: Path) -> None:
    """In a process of its own, since torch's handler of SIGCHLD may interrupt whatever runs."""
    script = f"""
import os, signal
from ladseg.data import open_dataset, train_loader
from ladseg.errors import DataError
from ladseg.recipe import Data
dataset = open_dataset(Data(root={data.root!r}, classes=["a", "b", "c"], ignore_index=11), "train")
type(dataset).read = lambda self, index: os.kill(os.getpid(), signal.SIGKILL)
try:
    options = dict(crop=(8, 8), batch_size=2, seed=0, mean=(0,) * 3, std=(1,) * 3, start_step=0, steps=2)
    list(train_loader(dataset, workers=1, **options))
except DataError as error:
    print("one line:", error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.startswith("one line: a loader process ended"), done.stdout + done.stderr
    assert "fewer data.workers" in done.stdout


CACHES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut off": lambda content: content[: len(content) // 2],
    "cut off by a sample": lambda content: content[1280:],
    "zeros": lambda content: bytes(len(content)),
    "another end": lambda content: content[:-20] + b"\xff" * 20,
    "text": lambda content: b"no cache" * 20,
    "longer": lambda content: b"x" * 64 + content,
}


@pytest.mark.parametrize("name", CACHES)
def test_a_spoilt_cache_file_is_made_again(
    name: str, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    plain = open_dataset(data, "train")
    keep_decoded(plain, "disk")
    (path,) = cache_folder().iterdir()
    good = path.read_bytes()
    path.write_bytes(CACHES[name](good))
    kept = keep_decoded(plain, "disk")
    assert kept.read(4)[1].tolist() == plain.read(4)[1].tolist()
    assert path.read_bytes() == good


def test_what_stands_in_the_place_of_the_cache(data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    plain = open_dataset(data, "train")
    keep_decoded(plain, "disk")
    (path,) = cache_folder().iterdir()
    good = path.read_bytes()
    # A link that somebody has planted is replaced, not followed.
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for target in (victim, tmp_path / "nowhere", path):
        path.unlink()
        path.symlink_to(target)
        keep_decoded(plain, "disk")
        assert (path.read_bytes(), path.is_symlink(), victim.read_text()) == (good, False, "mine")
        assert not (tmp_path / "nowhere").exists()
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match=r"decoded-\w+.bin: is a folder, but a file of this name is to be written"):
        keep_decoded(plain, "disk")
    path.rmdir()
    cache_folder().rmdir()
    cache_folder().write_text("x")
    with pytest.raises(UserError, match=r"cache/ladseg: this folder can't be made \((File exists|Not a directory)\)"):
        keep_decoded(plain, "disk")


def test_what_a_killed_run_has_left_in_the_cache_is_removed(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cache_folder().mkdir(parents=True)
    old, new, other = (cache_folder() / name for name in (f".d.7-{'a' * 8}.tmp.bin", f".d.8-{'b' * 8}.tmp.bin", "mine"))
    for path in (old, new, other):
        path.write_text("x")
    os.utime(old, (1, 1))
    os.utime(other, (1, 1))
    keep_decoded(open_dataset(data, "train"), "disk")
    assert [path.exists() for path in (old, new, other)] == [False, True, True]


STRUCT = {"Boundaries": 1, "Other": 2}
MATS: dict[str, tuple[dict[str, object], str]] = {
    "struct": ({"S": STRUCT}, "S of this Matlab file is not a matrix of class ids but a struct of 1x1"),
    "string": ({"S": "road"}, "but a string of 1;"),
    "cell": ({"S": np.array([[1, "a"]], dtype=object)}, "but a cell array of 1x2"),
    "three dimensions": ({"S": np.zeros((4, 5, 3))}, "but an array of 4x5x3"),
    "complex": ({"S": np.full((4, 5), 1j)}, "but a complex matrix of 4x5"),
    "empty": ({"S": np.zeros((0, 0))}, "not a matrix of class ids"),
    "names that are a string": ({"S": np.zeros((4, 5, 3)), "names": "x"}, "not a matrix of class ids"),
    "GTcls a number": ({"GTcls": 3.0}, "GTcls of this Matlab file is not a struct with a field Segmentation"),
    "GTcls a string": ({"GTcls": "x"}, "GTcls of this Matlab file is not a struct|not a matrix"),
    "GTcls with no field": ({"GTcls": STRUCT}, "GTcls of this Matlab file is not a struct with a field Segmentation"),
    "GTcls of a cell": ({"GTcls": {"Segmentation": np.array([[1, "a"]], dtype=object)}}, "but a cell array of 1x2"),
    "nothing of ours": ({"T": 1}, "no label map in this Matlab file"),
}


@pytest.mark.parametrize("name", MATS)
def test_matlab_files_of_another_content_are_one_line(name: str, tmp_path: Path) -> None:
    content, words = MATS[name]
    savemat(tmp_path / "a.mat", content)
    with pytest.raises(FileError, match=words) as caught:
        read_mask(tmp_path / "a.mat")
    assert "\n" not in str(caught.value)


def test_masks_of_another_size_are_no_samples(data: Data) -> None:
    resized("masks/train/0.png", (10, 8))(Path(data.root))
    with pytest.raises(DataError, match="mask is 10x8"):
        open_dataset(data, "train").read(0)

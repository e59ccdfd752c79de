"""A result belongs to the data it was made of: other contents are refused, other places are not."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ladseg.cli import main
from ladseg.data import Checked, survey
from ladseg.recipe import Data


def lay(root: Path) -> Path:
    for seed, name in enumerate(["train/a", "train/b", "train/c", "val/d", "val/e"]):
        for kind in ("images", "masks"):
            (root / kind / name).parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        Image.fromarray(rng.integers(0, 256, (16, 20, 3), dtype=np.uint8)).save(root / f"images/{name}.png")
        Image.fromarray(rng.integers(0, 2, (16, 20), dtype=np.uint8)).save(root / f"masks/{name}.png")
    (root / "classes.txt").write_text("ground\nthing\n")
    return root


def corrected(name: str) -> Callable[[Path], object]:
    return lambda root: Image.fromarray(1 - np.array(Image.open(root / name))).save(root / name)


def removed(name: str) -> Callable[[Path], object]:
    return lambda root: [(root / kind / name).unlink() for kind in ("images", "masks")]


def added(root: Path) -> None:
    for kind in ("images", "masks"):
        shutil.copy(root / kind / "train/a.png", root / kind / "train/z.png")


def moved_to_val(root: Path) -> None:
    for kind in ("images", "masks"):
        (root / kind / "train/c.png").rename(root / kind / "val/c.png")


# What changes, and what the refusal names.
CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a mask is corrected": (corrected("masks/train/b.png"), "train: 1 mask changed (images/train/b.png)"),
    "an image is retouched": (
        lambda r: Image.new("RGB", (20, 16), (9, 9, 9)).save(r / "images/train/b.png"),
        "train: 1 image changed (images/train/b.png)",
    ),
    "a pair is removed": (removed("train/b.png"), "train: 1 pair gone (images/train/b.png)"),
    "a pair is added": (added, "train: 1 pair new (images/train/z.png)"),
    "a pair goes to val": (
        moved_to_val,
        "train: 1 pair gone (images/train/c.png); val: 1 pair new (images/val/c.png)",
    ),
    "a mask to validate on is corrected": (corrected("masks/val/d.png"), "val: 1 mask changed"),
    "three masks are corrected": (
        lambda r: [corrected(f"masks/train/{name}.png")(r) for name in "abc"],
        "train: 3 masks changed (images/train/a.png, images/train/b.png and 1 more)",
    ),
    "classes change places": (
        lambda r: (r / "classes.txt").write_text("thing\nground\n"),
        "train: what its masks mean has changed; val: what its masks mean",
    ),
    "two pairs swap names": (
        lambda r: [
            (r / kind / f"train/{old}.png").rename(r / kind / f"train/{new}.png")
            for kind in ("images", "masks")
            for old, new in (("a", "x"), ("b", "a"), ("x", "b"))
        ],
        "train: 2 images changed (images/train/a.png, images/train/b.png), 2 masks changed",
    ),
}

# What may change, since no result depends on it.
SAME: dict[str, Callable[[Path], object]] = {
    "nothing": lambda root: None,
    "times": lambda root: [os.utime(path, ns=(1, 1)) for path in root.rglob("*.png")],
    "files beside": lambda root: (root / "images/train/notes.txt").write_text("x"),
    "comments in the list of classes": lambda root: (root / "classes.txt").write_text("# two\nground\nthing\n"),
}


def words(root: Path, out: Path, iterations: int = 2) -> list[str]:
    values = {
        "data.root": root,
        "data.classes": root / "classes.txt",
        "data.ignore_index": 255,
        "student.model": "pspnet@test_resnet",
        "distill.method": "none",
        "schedule.iterations": iterations,
        "schedule.save_every": 1,
        "schedule.batch_size": 2,
        "schedule.crop": "[16, 16]",
        "keep_checkpoints": "true",  # without them an unfinished run would have nothing of the old data
        "out": out,
    }
    return ["train", "demo", *(word for key, value in values.items() for word in (f"--{key}", str(value)))]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, and a run on it that has finished."""
    root = tmp_path_factory.mktemp("trained")
    lay(root / "data")
    assert main(words(root / "data", root / "run")) == 0
    return root


def copied(trained: Path, to: Path, unfinished: bool) -> Path:
    """The data set and the run at another place; the run as it was before its training ended."""
    shutil.copytree(trained, to / "at", dirs_exist_ok=True)
    recipe = to / "at/run/recipe.yaml"
    recipe.write_text(recipe.read_text().replace(str(trained), str(to / "at")))
    if unfinished:
        for path in ("results.json", "baseline/result.json", "student.safetensors"):
            (to / "at/run" / path).unlink()
    return to / "at"


@pytest.mark.parametrize("unfinished", [False, True])
@pytest.mark.parametrize("name", CHANGES)
def test_other_contents_are_refused(
    name: str, unfinished: bool, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, message = CHANGES[name]
    root = copied(trained, tmp_path, unfinished)
    change(root / "data")
    capsys.readouterr()
    assert main(words(root / "data", root / "run")) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert message in error
    assert "restore the files to go on, or train anew with another --name or --out" in error


@pytest.mark.parametrize("name", SAME)
def test_a_data_set_may_move(name: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And so may the times of its files: the run goes on, and its figures are the same."""
    root = copied(trained, tmp_path, unfinished=False)
    SAME[name](root / "data")
    before = json.loads((root / "run/results.json").read_text())
    assert main(words(root / "data", root / "run")) == 0
    after = json.loads((root / "run/results.json").read_text())
    assert after["networks"] == before["networks"]


def test_before_anything_is_trained_data_may_change(trained: Path, tmp_path: Path) -> None:
    root = copied(trained, tmp_path, unfinished=True)
    shutil.rmtree(root / "run/baseline")
    corrected("masks/train/b.png")(root / "data")
    assert main(words(root / "data", root / "run", iterations=2)) == 0


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"files": 1, "contents": 2}', "\x00" * 50])
def test_a_spoilt_record_does_not_hide_the_change(
    content: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The trainings know their data themselves."""
    root = copied(trained, tmp_path, unfinished=False)
    (root / "run/checked.json").write_text(content)
    assert main(words(root / "data", root / "run")) == 0
    (root / "run/checked.json").write_text(content)
    corrected("masks/train/b.png")(root / "data")
    capsys.readouterr()
    assert main(words(root / "data", root / "run")) == 2
    assert "holds a training with data.train" in capsys.readouterr().err


def test_comparisons_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = lay(tmp_path / "data")
    command = ["compare", *words(root, tmp_path / "run", 1)[1:], "--methods", "kd", "--seeds", "0"]
    assert main(command) == 0
    corrected("masks/val/d.png")(root)
    capsys.readouterr()
    assert main(command) == 2
    assert "val: 1 mask changed" in capsys.readouterr().err


def test_the_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    root = lay(tmp_path / "data")
    for kind in ("images", "masks"):
        os.rename(root / f"{kind}/train/a.png", os.fsencode(root / f"{kind}/train") + b"/caf\xe9.png")
    report = survey(Data(root=str(root), classes=["a", "b"]))
    checked = Checked({"train": "x"}, report.contents, (0, 4095))
    (tmp_path / "checked.json").write_text(checked.to_json(), encoding="utf-8")
    assert Checked.read(tmp_path / "checked.json") == checked
    assert list(report.contents["train"].pairs) == [
        "images/train/b.png",
        "images/train/c.png",
        r"images/train/caf\xe9.png",
    ]
    assert report.contents["train"].digest != report.contents["val"].digest

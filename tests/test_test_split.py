"""``data.test``: a split that nothing is selected on is measured beside val."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from ladseg.cli import main
from ladseg.data import find_split, write_demo_scenes
from ladseg.errors import DataError, RecipeError
from ladseg.recipe import Data
from ladseg.recipe_files import load_recipe, make_recipe
from ladseg.report.run_tables import results_table
from ladseg.results import ImageCounts, read_results
from ladseg.runs.finished import open_splits
from tests.data.miniatures import MINIATURES, Miniature, camvid, pair_lists
from tests.made_results import network_row, run_results
from tests.test_command_line import SMALL


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Scenes whose test split are those of another seed."""
    root, other = tmp_path / "scenes", tmp_path / "other"
    write_demo_scenes(root, train=8, val=3, size=(32, 48))
    write_demo_scenes(other, train=2, val=5, size=(32, 48), seed=1)
    for kind in ("images", "masks"):
        shutil.copytree(other / kind / "val", root / kind / "test")
    return root


def words_for(scenes: Path) -> list[str]:
    values = {"data.root": str(scenes), "data.classes": str(scenes / "classes.txt"), **SMALL}
    return [word for key, value in values.items() for word in (f"--{key}", value)]


def test_a_run_tells_test_beside_val_and_selects_on_val(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = words_for(scenes)
    assert main(["train", "demo", *words, "--data.test", "test", "--out", str(tmp_path / "run")]) == 0
    assert "test %" in capsys.readouterr().out
    assert main(["train", "demo", *words, "--out", str(tmp_path / "without")]) == 0
    run, without = (read_results(tmp_path / name) for name in ("run", "without"))
    assert run.images == ImageCounts(8, 3, 5)
    page = (tmp_path / "run/report.html").read_text()
    for key, row in run.networks.items():
        same = without.networks[key]
        assert (row.mean_iou, row.best_step, same.test_mean_iou) == (same.mean_iou, same.best_step, None)
        assert row.test_mean_iou is not None
        assert f"{100 * row.test_mean_iou:.2f}" in page
    # By another way: the delivered file on the split.
    figures = tmp_path / "test.json"
    file = str(tmp_path / "run/student.safetensors")
    assert main(["eval", file, "--data", str(scenes), "--split", "test", "--json", str(figures)]) == 0
    measured = json.loads(figures.read_text())
    assert measured["images"] == 5
    assert measured["mean_iou"] == pytest.approx(run.delivered.test_mean_iou)


@pytest.mark.parametrize("split", ["train", "val", ""])
def test_it_is_a_split_of_its_own(split: str) -> None:
    with pytest.raises(RecipeError, match="names a split that is neither train nor val"):
        make_recipe({"data": {"test": split}})


def test_a_split_that_is_not_there_is_told_before_training(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(scenes / "masks/test")
    words = [*words_for(scenes), "--data.test", "test", "--out", str(tmp_path / "run")]
    assert main(["train", "demo", *words]) == 2
    message = capsys.readouterr().err
    assert "masks/test: no such folder" in message
    assert message.endswith("; name a split that is there, or leave data.test out\n")


def one_list(root: Path) -> Miniature:
    """Pairs of all splits in one list, which is divided."""
    made = pair_lists(root)
    return replace(made, data={**made.data, "pairs": "train.txt", "val_fraction": 0.5})


def one_pattern(root: Path) -> Miniature:
    """Images and masks of all splits in one place, which are divided."""
    made = pair_lists(root)
    patterns = {"images": "pictures/{stem}.jpg", "masks": "truth/{stem}.png", "pairs": None, "layout": "folder"}
    return replace(made, data={**made.data, **patterns, "val_fraction": 0.5})


DIVIDED = {"one list": one_list, "one pattern": one_pattern}


@pytest.mark.parametrize("name", [*MINIATURES, *DIVIDED])
def test_an_absent_test_split_is_not_to_be_had_by_dividing(name: str, tmp_path: Path) -> None:
    """data.val_fraction makes train and val alone."""
    made = {**MINIATURES, **DIVIDED}[name](tmp_path)
    data = Data(root=str(tmp_path / made.extra.get("below", "")), **made.data, test="tset")
    with pytest.raises(DataError) as caught:
        find_split(data, "tset")
    assert "val_fraction" not in str(caught.value)
    assert re.search("; it has |name a split that is there, or leave data.test out$", str(caught.value))


def test_train_alone_is_divided(scenes: Path) -> None:
    shutil.rmtree(scenes / "images/val")
    shutil.rmtree(scenes / "masks/val")
    data = Data(root=str(scenes), classes=str(scenes / "classes.txt"), val_fraction=0.25, test="test")
    assert [len(find_split(data, split)[0].pairs) for split in ("train", "val", "test")] == [6, 2, 5]
    with pytest.raises(DataError):
        find_split(data, "elsewhere")


def test_the_published_test_split_of_camvid_is_one(tmp_path: Path) -> None:
    camvid(tmp_path)
    recipe = load_recipe("camvid_segnet", ["--data.test", "test", "--data.root", str(tmp_path)])
    found = open_splits(recipe.data)
    assert [(split, len(dataset)) for split, dataset in found.items()] == [("train", 2), ("val", 1), ("test", 1)]


def test_the_table_fits_80_columns_with_and_without(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {
        "baseline": network_row(0.5, test_mean_iou=0.41),
        "teacher": network_row(0.6, sees="image + noised label", last_mean_iou=None, test_mean_iou=0.42),
        "student": network_row(0.55, test_mean_iou=0.43),
    }
    for images in (ImageCounts(8, 4), ImageCounts(8, 4, 233)):
        Console(width=80).print(results_table(run_results(rows, images=images, label_assisted=False)))
        printed = capsys.readouterr().out
        assert "…" not in printed
        assert re.search(r"60\.00 +- ", printed)
        assert ("43.00" in printed) == (images.test is not None)


@pytest.mark.parametrize("split", ["", ".", "..", "/", "val/", "../val", "*", "va?", "[tv]*"])
@pytest.mark.parametrize("layout", [{}, {"images": "images/{split}/{stem}.png", "masks": "masks/{split}/{stem}.png"}])
def test_a_word_that_finds_several_splits_names_none(split: str, layout: dict[str, str], scenes: Path) -> None:
    data = Data(root=str(scenes), classes=str(scenes / "classes.txt"), **layout)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="does not name one split; give its name, such as val or test"):
        find_split(data, split)


def test_a_split_may_be_called_as_images_without_masks_are(scenes: Path) -> None:
    data = Data(root=str(scenes), classes=str(scenes / "classes.txt"), test="unlabelled")
    with pytest.raises(DataError, match=r"no images/unlabelled and masks/unlabelled in it.* leave data\.test out"):
        find_split(data, "unlabelled")
    for kind in ("images", "masks"):
        (scenes / kind / "test").rename(scenes / kind / "unlabelled")
    assert len(find_split(data, "unlabelled")[0].pairs) == 5

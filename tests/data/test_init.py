"""``ladseg init``: folders as people have them become recipes that find every pair and read every mask."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from ladseg.cli import main
from ladseg.commands.init import propose_recipe
from ladseg.data import find_split, open_dataset, survey
from ladseg.data.detect import detect, detect_all
from ladseg.data.guess import guess_section
from ladseg.errors import DataError
from ladseg.recipe_files import make_recipe
from tests.data.miniatures import MINIATURES, camvid, grey, image

RED, BLUE, BLACK, GREY = (200, 0, 0), (0, 0, 200), (0, 0, 0), (9, 9, 9)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def halves(first: Any, second: Any) -> np.ndarray:
    """A mask 40 wide and 36 high, three quarters of it the first value."""
    first, second = np.array(first), np.array(second)
    mask = np.broadcast_to(first, (36, 40, *first.shape)).copy()
    mask[:, 30:] = second
    return mask


def lay(root: Path, image: str, mask: str, pixels: np.ndarray, names: list[str]) -> None:
    """Write images and masks; their patterns have {stem}, and {split} where a name has one before its slash."""
    for seed, name in enumerate(names):
        split, _, stem = name.rpartition("/")
        picture = np.random.default_rng(seed).integers(0, 256, (36, 40, 3))
        save(root / image.format(split=split, stem=stem), picture)
        save(root / mask.format(split=split, stem=stem), pixels)


SPLITS = ["train/a", "train/b", "train/c", "val/d"]
FLAT = [f"{number:03d}" for number in range(10)]
VIDEOS = [f"v{number // 4}_{number % 4:04d}" for number in range(24)]

# How images and masks lie and are called; the guess.
TREES: dict[str, tuple[str, str, list[str], dict[str, Any]]] = {
    "customary": ("images/{split}/{stem}.png", "masks/{split}/{stem}.png", SPLITS, {}),
    "customary without val": ("images/train/{stem}.png", "masks/train/{stem}.png", FLAT, {"val_fraction": 0.2}),
    "flat": ("images/{stem}.png", "masks/{stem}.png", FLAT, {"val_fraction": 0.2}),
    "flat, with videos": ("images/{stem}.png", "labels/{stem}.png", VIDEOS,
                          {"val_fraction": 0.2, "group": "{stem_prefix}"}),
    "flat, with an ending": ("images/{stem}.png", "masks/{stem}_mask.png", FLAT,
                             {"images": "images/{stem}.png", "masks": "masks/{stem}_mask.png", "val_fraction": 0.2}),
    "CamVid as Kaggle has it": ("{split}/{stem}.png", "{split}_labels/{stem}_L.png", SPLITS,
                                {"images": "{split}/{stem}.png", "masks": "{split}_labels/{stem}_L.png"}),
    "Carvana": ("train/{stem}.jpg", "train_masks/{stem}_mask.gif", FLAT,
                {"images": "train/{stem}.jpg", "masks": "train_masks/{stem}_mask.gif", "val_fraction": 0.2}),
    "in one folder": ("{stem}.jpg", "{stem}-gt.png", FLAT,
                      {"images": "{stem}.jpg", "masks": "{stem}-gt.png", "val_fraction": 0.2}),
    "in one folder a split": ("data/{split}/{stem}.png", "data/{split}/{stem}_seg.png", SPLITS,
                              {"images": "data/{split}/{stem}.png", "masks": "data/{split}/{stem}_seg.png"}),
    "folders of other names": ("rgb/{stem}.png", "gt/{stem}.png", FLAT,
                               {"images": "rgb/{stem}.png", "masks": "gt/{stem}.png", "val_fraction": 0.2}),
}  # fmt: skip


@pytest.mark.parametrize("name", TREES)
def test_trees_are_guessed_and_every_pair_is_found(name: str, tmp_path: Path) -> None:
    image, mask, names, keys = TREES[name]
    lay(tmp_path, image, mask, halves(0, 1), names)
    data = detect(tmp_path)
    assert {key: getattr(data, key) for key in ("images", "masks", "val_fraction", "group")} == {
        **dict.fromkeys(("images", "masks", "val_fraction", "group")),
        **keys,
    }
    pairs = [pair for split in ("train", "val") for pair in open_dataset(data, split).pairs]
    expected = []
    for each in names:
        split, _, stem = each.rpartition("/")
        expected.append(tuple(f"{tmp_path}/{pattern.format(split=split, stem=stem)}" for pattern in (image, mask)))
    assert sorted((str(a), str(b)) for a, b in pairs) == sorted(expected)


def csv(root: Path, *rows: str) -> None:
    (root / "class_dict.csv").write_text("\n".join(["name,r,g,b", *rows]) + "\n")


def jpeg_colors() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (36, 40, 3))


# Mask, what else is written, the keys guessed, and the label's values from left to right.
MASKS: dict[str, tuple[np.ndarray, Callable[[Path], object], dict[str, Any], list[int]]] = {
    "ids": (halves(0, 2), lambda root: None,
            {"classes": ["class 0", "class 1", "class 2"], "ignore_index": 255}, [0, 2]),
    "ids with 255": (halves(1, 255), lambda root: None, {"classes": ["class 0", "class 1"]}, [1, 255]),
    "0 and 255": (halves(0, 255), lambda root: None,
                  {"classes": ["background", "foreground"], "label_map": {0: 0, 255: 1}, "ignore_index": None}, [0, 1]),
    "ids far apart": (halves(7, 200), lambda root: None,
                      {"classes": ["class 7", "class 200"], "label_map": {7: 0, 200: 1}}, [0, 1]),
    "ids with a void row": (halves(0, 2), lambda root: (root / "classes.txt").write_text("road\ncar\nvoid\n"),
                            {"classes": ["road", "car"], "ignore_index": 2}, [0, 255]),
    "ids with a void row that is first": (
        halves(0, 2), lambda root: (root / "classes.txt").write_text("void\nroad\ncar\n"),
        {"classes": ["road", "car"], "label_map": {0: 255, 1: 0, 2: 1}}, [255, 1]),
    "colours": (halves(BLACK, RED), lambda root: None,
                {"classes": ["background", "color c80000"], "colors": [[0, 0, 0], [200, 0, 0]]}, [0, 1]),
    "colours of VOC": (halves((128, 0, 0), (0, 128, 0)), lambda root: None,
                       {"classes": ["aeroplane", "bicycle"], "colors": [[128, 0, 0], [0, 128, 0]]}, [0, 1]),
    "colours with a void row": (
        halves(BLUE, GREY), lambda root: csv(root, "Void,9,9,9", "car,200,0,0", "sea,0,0,200"),
        {"classes": ["car", "sea"], "colors": [[200, 0, 0], [0, 0, 200], [9, 9, 9]], "ignore_index": 2}, [1, 255]),
    "colours with a void row, and one that no row names": (
        halves(BLUE, GREY), lambda root: csv(root, "Void,9,9,9", "car,200,0,0", "tree,1,2,3"),
        {"classes": ["car", "tree", "color 0000c8"], "colors": [[200, 0, 0], [1, 2, 3], [0, 0, 200], [9, 9, 9]]},
        [2, 255]),
    "colours with a background row": (
        halves(BLACK, RED), lambda root: csv(root, "background,0,0,0", "car,200,0,0"), {"ignore_index": 255}, [0, 1]),
}  # fmt: skip


@pytest.mark.parametrize("name", MASKS)
def test_values_and_colours_become_classes(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mask, also, keys, label = MASKS[name]
    root, out = tmp_path / "my data", tmp_path / "mine.yaml"
    lay(root, "images/{stem}.png", "masks/{stem}.png", mask, FLAT)
    also(root)
    assert main(["init", str(root), "--out", str(out)]) == 0
    seen = capsys.readouterr()
    assert "75.00% of the pixels, in 8 of 8 masks" in seen.err
    assert not seen.out
    recipe = make_recipe(yaml.safe_load(out.read_text()))
    assert {key: getattr(recipe.data, key) for key in keys} == keys
    dataset = open_dataset(recipe.data, "train")
    assert dataset.read(0)[1][0, [0, 39]].tolist() == label
    # Nothing but classes that these two values do not hold may be amiss, and pictures are all of one mask.
    assert {finding.kind for finding in survey(recipe.data).findings} <= {"classes that never occur"}


def test_notes_name_colours_that_the_class_file_lacks_and_the_background_row(tmp_path: Path) -> None:
    lay(tmp_path, "images/{stem}.png", "masks/{stem}.png", halves(BLUE, RED), FLAT)
    csv(tmp_path, "background,0,0,0", "car,200,0,0")
    notes = " ".join(detect_all(tmp_path).notes)
    assert "does not name are classes called by their values, to be renamed: (0, 0, 200)" in notes
    assert "background row; it is kept as a class" in notes


def test_a_note_says_whose_names_colours_have(tmp_path: Path) -> None:
    lay(tmp_path, "images/{stem}.png", "masks/{stem}.png", halves((128, 0, 0), (0, 128, 0)), FLAT)
    assert any("names of the data set 'voc': rename those" in note for note in detect_all(tmp_path).notes)


def test_masks_with_smooth_edges_are_refused(tmp_path: Path) -> None:
    lay(tmp_path, "images/{stem}.png", "masks/{stem}.png", jpeg_colors(), FLAT)
    with pytest.raises(DataError, match="colours, more than classes; were they saved as JPEG"):
        detect(tmp_path)


@pytest.mark.parametrize("files", [[], ["a.png", "b.png", "c.png"], ["img_1.png", "img_10.png", "img_11.png"]])
def test_a_folder_without_masks_is_refused(files: list[str], tmp_path: Path) -> None:
    for name in files:
        save(tmp_path / name, np.zeros((8, 8, 3)))
    with pytest.raises(DataError, match="no layout recognises this folder, and no image has a mask"):
        guess_section(tmp_path)


# Number of images, width and height; steps, batch and crop.
SCHEDULES = [
    (10, (40, 36), (1000, 8, (32, 32))),
    (3, (20, 12), (1000, 2, (8, 16))),
    (120, (64, 700), (1100, 8, (512, 64))),
]


@pytest.mark.parametrize(("count", "size", "expected"), SCHEDULES)
def test_schedule_and_crop_follow_the_images(
    count: int, size: tuple[int, int], expected: tuple[int, int, tuple[int, int]], tmp_path: Path
) -> None:
    width, height = size
    for number in range(count):
        save(tmp_path / f"images/{number}.png", np.zeros((height, width, 3)))
        save(tmp_path / f"masks/{number}.png", np.full((height, width), number % 2))
    schedule = make_recipe(yaml.safe_load(propose_recipe(str(tmp_path))[1])).schedule
    assert (schedule.iterations, schedule.batch_size, schedule.crop) == expected


def test_a_published_layout_keeps_its_own_classes(tmp_path: Path) -> None:
    camvid(tmp_path)
    text = propose_recipe(str(tmp_path))[1]
    assert yaml.safe_load(text)["data"] == {"layout": "camvid", "root": str(tmp_path)}


def test_the_recipe_trains_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lay(tmp_path / "d", "images/{stem}.png", "masks/{stem}.png", halves(BLACK, RED), VIDEOS)
    assert main(["init", str(tmp_path / "d")]) == 0
    (tmp_path / "mine.yaml").write_text(capsys.readouterr().out)
    words = ["--out", str(tmp_path / "run"), "--student.model", "pspnet@test_resnet", "--schedule.iterations", "2"]
    assert main(["train", str(tmp_path / "mine.yaml"), *words, "--trackers", "[]"]) == 0
    assert (tmp_path / "run/student.safetensors").is_file()
    data = make_recipe(yaml.safe_load((tmp_path / "mine.yaml").read_text())).data
    assert [find_split(data, split)[0].groups for split in ("train", "val")] == [5, 1]


def test_a_file_that_is_there_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.yaml").write_text("mine")
    assert main(["init", str(tmp_path), "--out", str(tmp_path / "mine.yaml")]) == 2
    assert "already exists" in capsys.readouterr().err
    assert (tmp_path / "mine.yaml").read_text() == "mine"


@pytest.mark.parametrize("name", [*MINIATURES, "frames of scenes"])
def test_lines_keep_to_80_columns(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if name == "frames of scenes":  # its recipe has val_fraction and group
        for scene in ("first", "second", "third"):
            for frame in range(3):
                image(tmp_path / f"data/images/{scene}_{frame}.jpg", frame)
                grey(tmp_path / f"data/masks/{scene}_{frame}.png", [0, 1, 2, 0])
    else:
        MINIATURES[name](tmp_path / "data")
    try:
        seen, recipe = propose_recipe("data")
    except DataError:
        return  # it can't be guessed
    # A path is not folded, so that it can be copied.
    lines = [*seen, *recipe.splitlines()]
    assert not [line for line in lines if len(line) > 80 and len(line.lstrip("# ").split()) > 3]
    assert make_recipe(yaml.safe_load(recipe)).data.root == "data"

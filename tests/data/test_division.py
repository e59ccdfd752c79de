"""A folder without splits is divided by names: whole groups, near the fraction, in any order the same."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ladseg.cli import main
from ladseg.data import find_split, open_dataset
from ladseg.data.division import divide, group_of, stem_prefix, val_groups
from ladseg.errors import DataError, RecipeError
from ladseg.recipe import Data
from ladseg.recipe_files import make_recipe


@pytest.mark.parametrize(
    ("stem", "prefix"),
    [
        ("0001TP_006690", "0001TP"),
        ("clip7-frame12", "clip7"),
        ("clip7_frame_0012", "clip7"),
        ("aachen_000000_000019", "aachen_000000"),
        ("IMG0012", "IMG"),
        ("000123", "000123"),
        ("street", "street"),
        ("street_", "street_"),
    ],
)
def test_the_prefix_of_a_stem_is_what_stands_before_its_last_number(stem: str, prefix: str) -> None:
    assert stem_prefix(stem) == prefix


@pytest.mark.parametrize(
    ("pattern", "group"),
    [
        (None, "images/b/clip7_012.png"),
        ("{stem_prefix}", "clip7"),
        ("{folder}", "images/b"),
        ("{folder}/{stem_prefix}", "images/b/clip7"),
        ("{stem}", "clip7_012"),
        ("images/{group}/*.png", "b"),
        ("images/*/{group}_*", "clip7"),
        ("*/b/{group}_012.png", "clip7"),
    ],
)
def test_patterns_of_groups(pattern: str | None, group: str) -> None:
    assert group_of("images/b/clip7_012.png", pattern) == group


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("{video}", "{video} is unknown"),
        ("clip7", "holds no placeholder"),
        ("masks/{group}_*", "images/b/clip7_012.png: does not fit"),
    ],
)
def test_a_pattern_that_cannot_be_meant_is_refused(pattern: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        group_of("images/b/clip7_012.png", pattern)


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5, 0.9])
def test_single_images_are_divided_to_the_image_and_in_any_order(fraction: float) -> None:
    names = [f"{number:03d}" for number in range(97)]
    sizes = dict.fromkeys(names, 1)
    chosen = val_groups(sizes, fraction)
    assert abs(len(chosen) - fraction * 97) <= 0.5
    random.Random(0).shuffle(names)
    assert val_groups(dict.fromkeys(names, 1), fraction) == chosen
    # One image more moves at most one image besides itself.
    assert len(chosen ^ (val_groups({**sizes, "new": 1}, fraction) - {"new"})) <= 1


@pytest.mark.parametrize("seed", range(20))
def test_whole_groups_come_nearer_to_the_fraction_than_half_the_largest_group(seed: int) -> None:
    counts = np.random.default_rng(seed).integers(1, 40, 12).tolist()
    sizes = {f"video {number}": count for number, count in enumerate(counts)}
    taken = sum(sizes[name] for name in val_groups(sizes, 0.3))
    assert abs(taken - 0.3 * sum(counts)) <= max(counts) / 2


@pytest.mark.parametrize("sizes", [{"a": 50, "b": 50}, {"a": 1, "b": 1}, {"a": 99, "b": 1}, {"a": 3, "b": 2, "c": 9}])
@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.99])
def test_neither_split_is_ever_empty(sizes: dict[str, int], fraction: float) -> None:
    assert 0 < len(val_groups(sizes, fraction)) < len(sizes)


def test_one_group_and_a_test_split_are_refused() -> None:
    pairs = [(Path("/d/images/x_1.png"), Path("/d/masks/x_1.png")), (Path("/d/images/x_2.png"), Path("/d/masks/x.png"))]
    with pytest.raises(DataError, match="all 2 images are of one group"):
        divide(pairs, Path("/d"), 0.2, "{stem_prefix}", "train")
    with pytest.raises(DataError, match="makes train and val"):
        divide(pairs, Path("/d"), 0.2, None, "test")


def lay(root: Path, image: str, mask: str, videos: int = 6, frames: int = 5) -> Path:
    """Write videos of a few frames each."""
    for number in range(videos * frames):
        stem = f"v{number // frames}_{number % frames:03d}"
        rng = np.random.default_rng(number)
        for pattern, pixels in (
            (image, rng.integers(0, 256, (8, 9, 3), dtype=np.uint8)),
            (mask, rng.integers(0, 3, (8, 9), dtype=np.uint8)),
        ):
            path = root / pattern.format(stem=stem)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return root


# How images and masks lie, and what the data section says of it.
FLAT: dict[str, tuple[str, str, dict[str, Any]]] = {
    "customary": ("images/{stem}.png", "masks/{stem}.png", {}),
    "only train": ("images/train/{stem}.png", "masks/train/{stem}.png", {}),
    "in one folder": ("{stem}.png", "{stem}_mask.png", {"images": "{stem}.png", "masks": "{stem}_mask.png"}),
    "patterns of train": ("train/{stem}.png", "train_l/{stem}.png",
                          {"images": "{split}/{stem}.png", "masks": "{split}_l/{stem}.png"}),
    "a list": ("a/{stem}.png", "b/{stem}.png", {"layout": "list", "pairs": "all.txt"}),
    "a table": ("a/{stem}.png", "b/{stem}.png", {"layout": "list", "pairs": "all.csv"}),
}  # fmt: skip


@pytest.mark.parametrize("name", FLAT)
def test_no_video_is_in_both_splits(name: str, tmp_path: Path) -> None:
    image, mask, keys = FLAT[name]
    lay(tmp_path, image, mask)
    for suffix, comma in ((".txt", " "), (".csv", ",")):
        stems = [f"v{number // 5}_{number % 5:03d}" for number in range(30)]
        rows = [f"{image.format(stem=stem)}{comma}{mask.format(stem=stem)}" for stem in stems]
        (tmp_path / f"all{suffix}").write_text("\n".join(rows))
    data = Data(root=str(tmp_path), classes=["a", "b", "c"], val_fraction=0.2, group="{stem_prefix}", **keys)
    found = {split: [Path(str(pair[0])).stem for pair in open_dataset(data, split).pairs] for split in ("train", "val")}
    videos = {split: Counter(stem[:2] for stem in stems) for split, stems in found.items()}
    assert len(found["train"]) + len(found["val"]) == 30
    assert (set(videos["val"].values()), len(videos["val"])) == ({5}, 1)
    assert not videos["train"].keys() & videos["val"].keys()
    assert find_split(data, "val")[0].groups == 1


def test_a_data_set_with_a_val_split_is_not_divided(tmp_path: Path) -> None:
    patterns = {"images": "images/{split}/{stem}.png", "masks": "masks/{split}/{stem}.png"}
    for split in ("train", "val"):
        lay(tmp_path, f"images/{split}/{{stem}}.png", f"masks/{split}/{{stem}}.png")
        (tmp_path / f"{split}.txt").write_text(f"images/{split}/v0_000.png masks/{split}/v0_000.png\n")
    (tmp_path / "pairs.csv").write_text("image,mask,split\na,b,train\na,b,val\n")
    lists = ({"layout": "list", "pairs": pairs} for pairs in ("{split}.txt", "pairs.csv"))
    for keys in ({}, patterns, *lists):
        data = Data(root=str(tmp_path), classes=["a", "b", "c"], val_fraction=0.2, **keys)  # type: ignore[arg-type]
        with pytest.raises(DataError, match="there is a val split"):
            find_split(data, "train")
    with pytest.raises(DataError, match="layout 'camvid' has a val split of its own"):
        find_split(Data(layout="camvid", root=str(tmp_path), val_fraction=0.2), "train")


def test_patterns_without_split_do_not_make_train_and_val_the_same(tmp_path: Path) -> None:
    lay(tmp_path, "{stem}.png", "{stem}_mask.png")
    data = Data(root=str(tmp_path), classes=["a", "b"], images="{stem}.png", masks="{stem}_mask.png")
    with pytest.raises(DataError, match=r"the same for all splits.*data.val_fraction: 0.2"):
        find_split(data, "train")


def test_group_alone_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"data\.group is read with data.val_fraction only"):
        make_recipe({"data": {"root": "x", "group": "{stem_prefix}"}})


def test_check_says_how_many_of_each_and_tells_a_fault_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lay(tmp_path, "images/{stem}.png", "masks/{stem}.png")
    words = ["--data.layout", "folder", "--data.classes", "[a, b, c]", "--data.val_fraction", "0.2"]
    assert main(["check", str(tmp_path), *words, "--data.group", "{stem_prefix}"]) == 0
    assert "train 25 pairs of 5 groups, val 5 pairs of 1 group\n" in capsys.readouterr().out
    (tmp_path / "masks/v0_000.png").unlink()
    assert main(["check", str(tmp_path), *words]) == 2
    printed = capsys.readouterr().out
    assert printed.count("image without mask") == 2  # the kind and its message
    assert "train 23 pairs, val 6 pairs" in printed

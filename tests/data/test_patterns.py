"""Patterns of file names, split names and formats: what belongs together is paired, what does not is named."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ladseg.data import find_split, open_dataset, survey
from ladseg.errors import DataError
from ladseg.recipe import Data


def lay(root: Path, files: list[str]) -> None:
    """Write each file as an image, or as a mask if its name or folder says so."""
    for seed, name in enumerate(files):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        is_mask = any(word in name for word in ("mask", "label"))
        array = rng.integers(0, 3, (8, 8)) if is_mask else rng.integers(0, 256, (8, 8, 3))
        Image.fromarray(array.astype(np.uint8)).save(path)


def data_of(root: Path, **values: object) -> Data:
    return Data(root=str(root), classes=["a", "b", "c"], **values)  # type: ignore[arg-type]


# Patterns, the files of train, their pairs as places in that list, and the words of each fault.
WILD = {
    "scenes with equal stems": (
        ("{split}/*/rgb/{stem}.png", "{split}/*/label/{stem}.png"),
        ["train/s1/rgb/1.png", "train/s2/rgb/1.png", "train/s1/label/1.png", "train/s2/label/1.png"],
        [(0, 2), (1, 3)],
        [],
    ),
    "an image of one scene and a mask of another": (
        ("{split}/*/rgb/{stem}.png", "{split}/*/label/{stem}.png"),
        ["train/s1/rgb/1.png", "train/s2/label/1.png", "train/s1/rgb/2.png", "train/s1/label/2.png"],
        [(2, 3)],
        ["image without mask; expected .*/train/s1/label/1.png", "mask without image; expected .*/train/s2/rgb/1.png"],
    ),
    "scenes on one side only": (
        ("{split}/*/rgb/{stem}.png", "{split}/label/{stem}.png"),
        ["train/s1/rgb/1.png", "train/s2/rgb/1.png", "train/label/1.png"],
        [(0, 2)],
        ["a second file for '1' beside .*s1/rgb/1.png; keep one, or write as many"],
    ),
    "scenes on one side with stems of their own": (
        ("{split}/*/rgb/{stem}.png", "{split}/label/{stem}.png"),
        ["train/s1/rgb/1.png", "train/s2/rgb/2.png", "train/label/1.png", "train/label/2.png"],
        [(0, 2), (1, 3)],
        [],
    ),
    "two folders deep": (
        ("{split}/*/*/{stem}.png", "{split}/*/*/{stem}_mask.png"),
        [f"train/{folder}/{name}.png" for name in ("x", "x_mask") for folder in ("a/1", "a/2", "b/1")],
        [(0, 3), (1, 4), (2, 5)],
        [],
    ),
    "in the file name": (
        ("{split}/cam*_{stem}.png", "{split}/mask*_{stem}.png"),
        ["train/cam0_7.png", "train/cam1_7.png", "train/mask0_7.png", "train/mask1_7.png"],
        [(0, 2), (1, 3)],
        [],
    ),
    "any suffix": (
        ("{split}/rgb/{stem}.*", "{split}/label/{stem}.*"),
        ["train/rgb/1.png", "train/rgb/2.bmp", "train/label/1.bmp", "train/label/2.png"],
        [(0, 2), (1, 3)],
        [],
    ),
    "two suffixes of one stem": (
        ("{split}/rgb/{stem}.*", "{split}/label/{stem}.*"),
        ["train/rgb/1.bmp", "train/rgb/1.png", "train/label/1.png"],
        [(0, 2)],
        ["a second file for '1' beside"],
    ),
    "a stem that is a folder": (
        ("{split}/{stem}/rgb*.png", "{split}/{stem}/label.png"),
        ["train/1/rgb.png", "train/2/rgb_a.png", "train/2/rgb_b.png", "train/1/label.png", "train/2/label.png"],
        [(0, 3), (1, 4)],
        ["a second file for '2' beside"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WILD)
def test_what_a_star_matched_belongs_to_the_key(name: str, tmp_path: Path) -> None:
    (images, masks), files, pairs, faults = WILD[name]
    lay(tmp_path, files)
    listing = find_split(data_of(tmp_path, images=images, masks=masks), "train")[0]
    found = [(str(image), str(mask)) for image, mask in listing.pairs]
    assert found == [(f"{tmp_path}/{files[i]}", f"{tmp_path}/{files[m]}") for i, m in pairs]
    assert len(listing.faults) == len(faults)
    for fault, words in zip(listing.faults, faults, strict=True):
        assert re.search(words, str(fault)), str(fault)


@pytest.mark.parametrize(
    ("train", "val"),
    [("train", "val"), ("Train", "Val"), ("TRAIN", "VAL"), ("training", "validation"), ("Training", "Valid")],
)
@pytest.mark.parametrize(
    ("images", "masks", "patterns"),
    [
        ("images/{split}", "masks/{split}", {}),
        ("{split}/images", "{split}/labels", {}),
        ("{split}", "{split}/mask", {"images": "{split}/{stem}.png", "masks": "{split}/mask/{stem}.png"}),
    ],
)
def test_splits_as_people_call_them(
    train: str, val: str, images: str, masks: str, patterns: dict[str, str], tmp_path: Path
) -> None:
    for word in (train, val):
        lay(tmp_path, [f"{images.format(split=word)}/{word}.png", f"{masks.format(split=word)}/{word}.png"])
    for split, word in (("train", train), ("val", val)):
        dataset = open_dataset(data_of(tmp_path, **patterns), split)
        assert [str(image) for image, _ in dataset.pairs] == [f"{tmp_path}/{images.format(split=word)}/{word}.png"]


def test_a_list_may_call_its_splits_so_too(tmp_path: Path) -> None:
    lay(tmp_path, ["a.png", "a_mask.png", "b.png", "b_mask.png"])
    (tmp_path / "pairs.csv").write_text("image,mask,split\na.png,a_mask.png,Train\nb.png,b_mask.png,validation\n")
    data = data_of(tmp_path, layout="list", pairs="pairs.csv")
    assert [len(open_dataset(data, split)) for split in ("train", "val")] == [1, 1]
    (tmp_path / "pairs.csv").write_text("image,mask,split\na.png,a_mask.png,train\nb.png,b_mask.png,holdout\n")
    with pytest.raises(
        DataError, match=r"no row of split 'val'; its column of splits has 'train' \(1 rows\), 'holdout'"
    ):
        open_dataset(data, "val")
    for word, name in (("Train", "a"), ("valid", "b")):
        (tmp_path / f"{word}.txt").write_text(f"{name}.png {name}_mask.png\n")
    data = data_of(tmp_path, layout="list", pairs="{split}.txt")
    assert [len(open_dataset(data, split)) for split in ("train", "val")] == [1, 1]


@pytest.mark.parametrize("suffix", ["jp2", "j2k", "jfif", "jpe", "ppm", "pgm", "pnm", "tga", "avif", "webp", "JFIF"])
def test_images_of_all_formats_are_read(suffix: str, tmp_path: Path) -> None:
    lay(tmp_path, ["images/train/a.png", "masks/train/a.png", "masks/train/b.png"])
    Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(
        tmp_path / f"images/train/b.{suffix}", format="JPEG" if suffix.lower() in ("jfif", "jpe") else None
    )
    assert (open_dataset(data_of(tmp_path), "train").read(1)[0].float() - 90).abs().max() <= 3


@pytest.mark.parametrize("suffix", ["tga", "ppm", "pgm", "webp", "jp2"])
def test_masks_of_lossless_formats_are_read(suffix: str, tmp_path: Path) -> None:
    lay(tmp_path, ["images/train/a.png", "masks/train/x.png"])
    mask = Image.open(tmp_path / "masks/train/x.png")
    values = np.array(mask)
    mask = mask.convert("RGB") if suffix in ("ppm", "webp") else mask
    mask.save(tmp_path / f"masks/train/a.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    (tmp_path / "masks/train/x.png").unlink()
    assert open_dataset(data_of(tmp_path), "train").read(0)[1].tolist() == values.tolist()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("images/train/b.heic", ".heic files are not read here.*convert it to"),
        ("images/train/b.NPY", ".npy files are not read here"),
        ("images/train/b.psd", ".psd files are not read here"),
        ("masks/train/b.jpg", ".jpg files are not read here.*loses mask values: export the masks again as PNG"),
        ("masks/train/b.mat", ".mat files are not read here"),
    ],
)
def test_pictures_that_are_passed_over_are_named(name: str, words: str, tmp_path: Path) -> None:
    lay(tmp_path, [f"{kind}/{split}/a.png" for kind in ("images", "masks") for split in ("train", "val")])
    Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(tmp_path / "images/val/a.png")
    (tmp_path / name).write_bytes(b"x")
    (finding,) = survey(data_of(tmp_path)).findings
    assert finding.level == "warning"
    assert re.search(words, finding.message + "; " + finding.hint)
    assert finding.files == [f"{tmp_path}/{name}"]
    # It does not stand in the way of a training.
    assert len(open_dataset(data_of(tmp_path), "train")) == 1


def test_a_split_of_nothing_else_says_what_there_is(tmp_path: Path) -> None:
    lay(tmp_path, ["images/train/a.png"])
    (tmp_path / "masks/train").mkdir(parents=True)
    (tmp_path / "masks/train/a.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match=r"masks/train: empty split, no .* file in it, but 1 .jpg"):
        open_dataset(data_of(tmp_path), "train")


def test_linked_folders_are_read_once(tmp_path: Path) -> None:
    """A link to a folder elsewhere is followed; a second link to it, or a link in a circle, adds nothing."""
    lay(tmp_path, ["elsewhere/rgb/1.png", "elsewhere/label/1.png", "images/train/own/2.png", "masks/train/own/2.png"])
    (tmp_path / "images/train/more").symlink_to(tmp_path / "elsewhere/rgb")
    (tmp_path / "masks/train/more").symlink_to(tmp_path / "elsewhere/label")
    (tmp_path / "images/train/z").symlink_to(tmp_path / "elsewhere/rgb")
    (tmp_path / "masks/train/z").symlink_to(tmp_path / "elsewhere/label")
    (tmp_path / "images/train/a_link_that_sorts_first").symlink_to(tmp_path / "images/train/own")
    (tmp_path / "images/train/own/circle").symlink_to(tmp_path / "images/train")
    listing = find_split(data_of(tmp_path), "train")[0]
    found = [str(image.relative_to(tmp_path / "images/train")) for image, _ in listing.pairs]  # type: ignore[union-attr]
    assert (found, listing.faults) == (["more/1.png", "own/2.png"], ())

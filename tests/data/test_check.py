"""What a run refuses before it starts: each fault made on disk, each message read."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ladseg.data import check_dataset, open_dataset
from ladseg.errors import DataError
from ladseg.recipe import Data


def save_mask(root: Path, values: np.ndarray, name: str = "masks/train/3.png", mode: str | None = None) -> None:
    Image.fromarray(values, mode).save(root / name) if mode is None else Image.fromarray(values).convert(mode).save(
        root / name
    )


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def make_jpeg(root: Path) -> Path:
    path = root / "images/train/3.jpg"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (16, 20, 3), dtype=np.uint8)).save(path)
    (root / "images/train/3.png").unlink()
    return path


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "image without mask": (
        lambda r: (r / "masks/train/3.png").unlink(),
        r"images/train/3.png: image without mask; expected .*masks/train/3\.\*",
    ),
    "mask without image": (
        lambda r: (r / "images/val/1.png").unlink(),
        "masks/val/1.png: mask without image",
    ),
    "two without": (
        lambda r: [(r / f"masks/train/{i}.png").unlink() for i in (2, 3)],
        r"images/train/2.png: image without mask; expected .* \(and 1 more files of 'train' with faults\)",
    ),
    "sizes": (
        lambda r: save_mask(r, np.zeros((16, 21), np.uint8)),
        r"masks/train/3.png: mask is 21x16 but its image .*3.png is 20x16",
    ),
    "values": (
        lambda r: save_mask(r, np.full((16, 20), 7, np.uint8)),
        r"masks/train/3.png: mask has value 7 \(320 pixels\) but there are 3 classes \(0..2\) and ignore_index 11",
    ),
    "several values": (
        lambda r: save_mask(r, np.arange(320).reshape(16, 20).astype(np.uint8)),
        r"mask has values 3, 4, 5, 6, 7, 8, 9, 10, ... \(\d+ pixels\) but",
    ),
    "truncated image": (
        lambda r: truncate(r / "images/train/3.png"),
        "images/train/3.png: can't be read as an image",
    ),
    "truncated jpeg": (lambda r: truncate(make_jpeg(r)), "images/train/3.jpg: can't be read as an image"),
    "truncated mask": (
        lambda r: truncate(r / "masks/train/3.png"),
        "masks/train/3.png: can't be read as a mask",
    ),
    "empty file": (
        lambda r: (r / "images/train/3.png").write_bytes(b""),
        "images/train/3.png: can't be read as an image",
    ),
    "text": (lambda r: (r / "masks/val/1.png").write_text("no"), "masks/val/1.png: can't be read as a mask"),
    "colour mask": (
        lambda r: save_mask(r, np.arange(960).reshape(16, 20, 3).astype(np.uint8)),
        r"masks/train/3.png: mask is in colour \(mode RGB\)",
    ),
    "16-bit mask": (
        lambda r: Image.fromarray(np.full((16, 20), 26001, np.uint16)).save(r / "masks/train/3.png"),
        "masks/train/3.png: mask has values up to 26001, more than 8 bits hold",
    ),
    "empty split": (
        lambda r: [p.unlink() for p in (r / "images/val").iterdir()],
        r"images/val: empty split, no \.jpg.*file in it",
    ),
    "no folder": (
        lambda r: (r / "masks").rename(r / "truth"),
        r"masks/train: no such folder; the folder layout has images/\{train,val\}",
    ),
    "twins": (
        lambda r: make_jpeg(r) and Image.new("RGB", (20, 16)).save(r / "images/train/3.png"),
        "a second file called '3'",
    ),
}


def test_a_good_data_set_passes(data: Data) -> None:
    check_dataset(data)


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_named_in_one_line(name: str, data: Data) -> None:
    spoil, message = FAULTS[name]
    spoil(Path(data.root))
    with pytest.raises(DataError, match=message) as caught:
        check_dataset(data)
    assert "\n" not in str(caught.value)


def test_more_faults_are_counted(data: Data) -> None:
    for i in (1, 2, 4):
        save_mask(Path(data.root), np.full((16, 20), 9, np.uint8), f"masks/train/{i}.png")
    with pytest.raises(
        DataError, match=r"masks/train/1.png: mask has value 9 .* \(and 2 more files of 'train' with faults\)"
    ):
        check_dataset(data)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"root": "nowhere"}, "data.root 'nowhere' is not a folder"),
        ({"layout": "cityscape"}, "data.layout 'cityscape' is not one of cityscapes, "),
        ({"classes": "nowhere.txt"}, "data.classes 'nowhere.txt' is not a file"),
        ({"classes": []}, "names no class"),
        ({"label_map": {300: 0}}, "data.label_map has 300: 0"),
        ({"label_map": {0: 3}}, "class ids 0..2 or 255"),
        ({"ignore_index": 256}, "data.ignore_index is 256"),
    ],
)
def test_unusable_settings(changes: dict, message: str, data: Data) -> None:
    with pytest.raises(DataError, match=message):
        check_dataset(replace(data, **changes))


def test_binary_masks_of_0_and_255_get_the_hint_and_the_hint_works(data: Data) -> None:
    for split, count in (("train", 5), ("val", 2)):
        for i in range(count):
            save_mask(
                Path(data.root),
                np.where(np.arange(320).reshape(16, 20) % 3, 0, 255).astype(np.uint8),
                f"masks/{split}/{i}.png",
            )
    binary = replace(data, classes=["background", "thing"], ignore_index=255)
    with pytest.raises(DataError, match=r"label_map: \{0: 0, 255: 1\} and ignore_index: null"):
        check_dataset(binary)
    followed = replace(binary, label_map={0: 0, 255: 1}, ignore_index=None)
    check_dataset(followed)
    label = open_dataset(followed, "train").read(0)[1]
    assert label.unique().tolist() == [0, 1]
    assert int((label == 1).sum()) == 107  # every third of 320 pixels


def test_ids_are_mapped_by_hand_worked_examples(data: Data) -> None:
    root = Path(data.root)
    save_mask(root, np.array([[7, 8, 11, 0]] * 16, np.uint8).repeat(5, 1), "masks/train/0.png")
    mapped = replace(data, label_map={7: 0, 8: 2}, ignore_index=0)
    assert open_dataset(mapped, "train").read(0)[1][0, ::5].tolist() == [0, 2, 255, 255]
    save_mask(root, np.array([[0, 1, 2, 11, 255]] * 16, np.uint8).repeat(4, 1), "masks/train/0.png")
    assert open_dataset(data, "train").read(0)[1][0, ::4].tolist() == [0, 1, 2, 255, 255]


def test_palette_masks_keep_their_indices(data: Data) -> None:
    values = np.random.default_rng(3).integers(0, 3, (16, 20), dtype=np.uint8)
    mask = Image.fromarray(values).convert("P")
    mask.putdata(values.ravel().tolist())
    mask.putpalette([200, 10, 10, 10, 200, 10, 10, 10, 200])
    mask.save(Path(data.root) / "masks/train/0.png")
    with Image.open(Path(data.root) / "masks/train/0.png") as saved:
        assert saved.mode == "P"
    assert torch.equal(open_dataset(data, "train").read(0)[1], torch.from_numpy(values))


def test_classes_from_a_file(data: Data, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("road\n car \n\ntree\n")
    named = replace(data, classes=str(tmp_path / "classes.txt"))
    assert open_dataset(named, "train").spec.class_names == ("road", "car", "tree")
    assert len(set(open_dataset(named, "train").spec.colors)) == 3


def test_images_are_turned_upright(data: Data) -> None:
    """EXIF orientation 6: the file's rows are the picture's columns."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 16, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = Path(data.root) / "images/train/3.jpg"
    Image.fromarray(pixels).save(path, exif=exif, quality=100, subsampling=0)
    (Path(data.root) / "images/train/3.png").unlink()
    assert open_dataset(data, "train").read(3)[0].shape == (3, 16, 20)
    check_dataset(data)

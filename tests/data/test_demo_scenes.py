"""The built-in data set: the same every time, complete, and an ordinary folder data set."""

from pathlib import Path

import numpy as np
from PIL import Image

from ladseg.data import check_dataset, open_dataset, write_demo_scenes
from ladseg.data.demo_scenes import CLASSES, VOID, draw_scene
from ladseg.recipe import Data
from ladseg.recipe_files import load_recipe


def test_scenes_are_written_once_and_pass_the_check(tmp_path: Path) -> None:
    write_demo_scenes(tmp_path, train=12, val=3, size=(48, 64))
    data = Data(
        root=str(tmp_path),
        classes=str(tmp_path / "classes.txt"),
        ignore_index=load_recipe("demo").data.ignore_index,
    )
    check_dataset(data)
    train = open_dataset(data, "train")
    assert train.spec.class_names == CLASSES
    assert len(train) == 12
    seen = set(np.unique(np.concatenate([np.array(Image.open(mask)).ravel() for _, mask in train.pairs])).tolist())
    assert seen == set(range(VOID + 1)), "every class and void occur"
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
    write_demo_scenes(tmp_path, train=12, val=3, size=(48, 64))
    (tmp_path / "classes.txt").unlink()
    write_demo_scenes(tmp_path, train=12, val=3, size=(48, 64))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.png")} == before


def test_scenes_depend_on_their_seed_alone() -> None:
    image, mask = draw_scene((48, 64), (0, 0, 1))
    again, _ = draw_scene((48, 64), (0, 0, 1))
    other, _ = draw_scene((48, 64), (0, 0, 2))
    assert np.array_equal(image, again)
    assert not np.array_equal(image, other)
    assert image.shape == (48, 64, 3)
    assert mask.shape == (48, 64)


def test_colour_alone_does_not_tell_the_class() -> None:
    """The best rule that sees one pixel's colour, fitted to the very scenes, still fails on the hard classes."""
    pixels, labels = [], []
    for number in range(40):
        image, mask = draw_scene((48, 64), (0, 0, number))
        pixels.append((image // 32).astype(int).reshape(-1, 3) @ np.array([64, 8, 1]))
        labels.append(mask.ravel())
    color, label = np.concatenate(pixels), np.concatenate(labels)
    table = np.zeros((512, VOID + 1), dtype=int)
    np.add.at(table, (color, label), 1)
    answer = table[:, :VOID].argmax(1)[color]
    for name in ("water", "bricks", "planks", "disc", "box", "triangle", "pole"):
        class_id = CLASSES.index(name)
        hit = ((answer == class_id) & (label == class_id)).sum()
        union = ((answer == class_id) | (label == class_id))[label != VOID].sum()
        assert hit / union < 0.35, name

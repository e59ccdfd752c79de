"""Masks that would be read as something else than they mean: colours, palettes, binary encodings, no labels."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ladseg.cli import main
from ladseg.data import check_dataset, open_dataset, survey
from ladseg.errors import DataError
from ladseg.recipe import Data

IDS = np.tile(np.repeat(np.arange(2, dtype=np.uint8), 5), (8, 1))
BLACK, WHITE, RED, BLUE = (0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 0, 255)
Mask = Image.Image


def palette(*colors: tuple[int, int, int], ids: np.ndarray = IDS) -> Mask:
    mask = Image.frombytes("P", (ids.shape[1], ids.shape[0]), ids.tobytes())
    mask.putpalette([part for color in colors for part in color])
    return mask


def rgb(*colors: tuple[int, int, int], ids: np.ndarray = IDS) -> Mask:
    return Image.fromarray(np.array(colors, np.uint8)[ids])


def grey(*values: int, ids: np.ndarray = IDS) -> Mask:
    return Image.fromarray(np.array(values, np.uint8)[ids])


def one_bit(ids: np.ndarray = IDS) -> Mask:
    return Image.fromarray(ids * 255).convert("1")


def smooth() -> Mask:
    return Image.fromarray(IDS * 255).resize((20, 16), Image.Resampling.BILINEAR)


def lay(root: Path, train: list[Mask], val: list[Mask] | None = None, **values: object) -> Data:
    """Write the masks, each with a picture of its own, in the order of their names."""
    for split, masks in (("train", train), ("val", val or train)):
        for number, mask in enumerate(masks):
            for kind in ("images", "masks"):
                (root / kind / split).mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng([number, split == "val"]).integers(0, 256, (*mask.size[::-1], 3))
            Image.fromarray(pixels.astype(np.uint8)).save(root / f"images/{split}/{number}.png")
            mask.save(root / f"masks/{split}/{number}.png")
    return Data(root=str(root), **{"classes": ["a", "b"], **values})  # type: ignore[arg-type]


RED_BLUE = [list(RED), list(BLUE)]
# With colours, each of these masks means IDS; the palettes' indices say something else.
BY_COLOR: dict[str, tuple[Mask, list[list[int]]]] = {
    "rgb": (rgb(RED, BLUE), RED_BLUE),
    "palette in the order of the classes": (palette(RED, BLUE), RED_BLUE),
    "palette in another order": (palette(BLUE, RED, ids=1 - IDS), RED_BLUE),
    "palette with other colours before": (palette(WHITE, BLACK, RED, BLUE, ids=IDS + 2), RED_BLUE),
    "palette with alpha": (palette(RED, BLUE).convert("RGBA"), RED_BLUE),
    "grey of 0 and 255": (grey(0, 255), [list(BLACK), list(WHITE)]),
    "grey of 255 and 0": (grey(255, 0), [list(WHITE), list(BLACK)]),
    "one bit": (one_bit(), [list(BLACK), list(WHITE)]),
    "one bit, swapped": (one_bit(1 - IDS), [list(WHITE), list(BLACK)]),
    "grey and rgb colours": (grey(128, 64), [[128, 128, 128], [64, 64, 64], list(RED)]),
    "ids where no grey is named": (grey(0, 1), RED_BLUE),
}


@pytest.mark.parametrize("in_a_file", [False, True])
@pytest.mark.parametrize("name", BY_COLOR)
def test_where_colours_are_given_colours_count(name: str, in_a_file: bool, tmp_path: Path) -> None:
    mask, colors = BY_COLOR[name]
    data = lay(tmp_path, [mask], classes=["a", "b", "c"][: len(colors)], colors=colors)
    if in_a_file:
        rows = "".join(f"class {i},{r},{g},{b}\n" for i, (r, g, b) in enumerate(colors))
        (tmp_path / "class_dict.csv").write_text("name,r,g,b\n" + rows)
        data = replace(data, classes=str(tmp_path / "class_dict.csv"), colors=None)
    assert open_dataset(data, "train").read(0)[1].tolist() == IDS.tolist()
    check_dataset(data)


def test_a_colour_of_a_palette_that_is_not_named_is_refused(tmp_path: Path) -> None:
    data = lay(tmp_path, [palette(RED, (9, 9, 9))], colors=RED_BLUE)
    with pytest.raises(DataError, match=r"colours that data.colors does not name \(1, such as \[9, 9, 9\]"):
        check_dataset(data)


def test_an_unused_entry_of_a_palette_does_not_matter(tmp_path: Path) -> None:
    first, second = palette(RED, BLUE, WHITE), palette(RED, BLUE, BLACK)
    assert survey(lay(tmp_path, [first, second])).findings == []


# Masks of train and val, keys of the data section, and level, kind and words of what is found.
Found = list[tuple[str, str, str]]
SETS: dict[str, tuple[list[Mask], list[Mask] | None, dict[str, object], Found]] = {
    "palettes that swap the classes": (
        [palette(RED, BLUE), palette(BLUE, RED, ids=1 - IDS), palette(RED, BLUE)],
        [palette(RED, BLUE)],
        {},
        [("error", "palettes that differ", r"train/1.png: index 0 is the colour \[0, 0, 255\], but .* in .*0.png")],
    ),
    "palettes of other colours": (
        [palette(RED, BLUE), palette(RED, WHITE)],
        [palette(RED, BLUE)],
        {},
        [("warning", "palettes that differ", r"train/1.png: index 1 is the colour \[255, 255, 255\]")],
    ),
    "palettes that differ between splits": (
        [palette(RED, BLUE)],
        [palette(BLUE, RED)],
        {},
        [("error", "palettes that differ", "val/0.png: index 0")],
    ),
    "one palette": ([palette(RED, BLUE)] * 2, None, {}, []),
    "1-bit and 0/255": (
        [one_bit(), grey(0, 255), grey(0, 255)],
        [grey(0, 255)],
        {"label_map": {0: 0, 255: 1}, "ignore_index": None},
        [
            ("error", "masks in two encodings", "0.png: holds 0 and 1, but .*1.png holds 0 and 255; .* 1 are .* 2 of"),
            ("warning", "values that label_map leaves out", "train/0.png: mask has value 1 .* 50.00% of its pixels"),
        ],
    ),
    "1-bit and 0/255 without a label_map": (
        [one_bit(), grey(0, 255), one_bit()],
        [one_bit()],
        {},
        [("error", "masks in two encodings", "train/1.png: holds 0 and 255, but .*train/0.png holds 0 and 1")],
    ),
    "grey 0/1 and 0/255": (
        [grey(0, 1), grey(0, 255)],
        [grey(0, 1)],
        {"label_map": {0: 0, 1: 1}},
        [("error", "masks in two encodings", "holds 0 and")],
    ),
    "both mapped": ([grey(0, 1), grey(0, 255)], None, {"label_map": {0: 0, 1: 1, 255: 1}, "ignore_index": None}, []),
    "255 is void": (
        [grey(0, 1), Image.fromarray(np.where(np.arange(80).reshape(8, 10) % 3, IDS, 255).astype(np.uint8))],
        [grey(0, 1)],
        {},
        [],
    ),
    "smooth edges": (
        [smooth(), grey(0, 255)],
        [grey(0, 255)],
        {"label_map": {0: 0, 255: 1}, "ignore_index": None},
        [("warning", "values that label_map leaves out", r"train/0.png: mask has values .*; of all masks, \d+.\d+%")],
    ),
    "values that are left out": (
        [grey(3, 7), grey(3, 8)],
        [grey(3, 7)],
        {"label_map": {3: 0, 7: 1}},
        [("warning", "values that label_map leaves out", "train/1.png: mask has value 8 .*: 50.00% .* masks, 25.00%")],
    ),
    "values that are mapped to 255": ([grey(3, 7), grey(3, 8)], [grey(3, 7)], {"label_map": {3: 0, 7: 1, 8: 255}}, []),
    "colours and ids": (
        [rgb(RED, BLUE), grey(0, 1), rgb(RED, BLUE)],
        [rgb(RED, BLUE)],
        {"colors": RED_BLUE},
        [("error", "masks in two encodings", "train/1.png: is read by its ids, but .*0.png is read by its colors")],
    ),
    "val is all ignored": (
        [grey(0, 1)],
        [grey(255, 255), grey(255, 255)],
        {},
        [
            ("error", "no labelled pixel", "val/0.png: like all masks of 'val' it has no labelled pixel"),
            ("warning", "all ignored", "val/0.png: mask is all ignored"),
        ],
    ),
    "train is all ignored": (
        [grey(9, 9)],
        [grey(0, 1)],
        {"ignore_index": 9},
        [
            ("error", "no labelled pixel", "train/0.png: like all masks of 'train'"),
            ("warning", "all ignored", "train/0.png: mask is all ignored"),
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_what_no_single_mask_shows(name: str, tmp_path: Path) -> None:
    train, val, values, expected = SETS[name]
    findings = survey(lay(tmp_path, train, val, **values)).findings
    assert [(finding.level, finding.kind) for finding in findings] == [found[:2] for found in expected]
    for finding, (_, _, words) in zip(findings, expected, strict=True):
        assert re.search(words, finding.message), finding.message
        assert finding.files
        assert finding.hint


def test_an_error_names_the_files_of_the_rarer_encoding(tmp_path: Path) -> None:
    masks = [grey(0, 255), one_bit(), grey(0, 255), one_bit(), grey(0, 255)]
    data = lay(tmp_path, masks, [grey(0, 255)], label_map={0: 0, 255: 1}, ignore_index=None)
    error = next(finding for finding in survey(data).findings if finding.level == "error")
    assert error.files == [f"{tmp_path}/masks/train/{number}.png" for number in (1, 3)]


def test_one_class_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    data = lay(tmp_path, [grey(0, 255)], classes=["crack"])
    with pytest.raises(DataError, match=r"one class can't be learned.*classes: \[background, crack\], with label_map"):
        check_dataset(data)


def test_an_interval_over_one_image_is_absent_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = lay(tmp_path / "data", [grey(0, 1), grey(1, 0)], [grey(0, 1)])
    values = {
        "data.root": data.root,
        "data.classes": '["a","b"]',
        "data.ignore_index": 255,
        "student.model": "pspnet@test_resnet",
        "distill.method": "kd",
        "teacher.label_assisted": "false",
        "schedule.iterations": 1,
        "schedule.batch_size": 2,
        "schedule.crop": "[16, 16]",
        "out": tmp_path / "run",
    }
    assert main(["train", "demo", *(word for key, value in values.items() for word in (f"--{key}", str(value)))]) == 0
    assert "without an interval: there is one validation image" in capsys.readouterr().out
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["difference"]["interval"] is None
    assert "one validation image" in results["difference"]["no_interval"]
    assert "NaN" not in (tmp_path / "run/results.json").read_text()
    assert "The difference has no interval" in (tmp_path / "run/report.html").read_text()

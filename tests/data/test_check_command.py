"""``ladseg check`` and ``ladseg data`` as a user runs them: what they say, what they write, how they exit."""

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ladseg.cli import main
from ladseg.data import LAYOUTS
from ladseg.recipe import Data
from ladseg.recipe_files import load_recipe
from tests.data.miniatures import cityscapes, voc


def lay(root: Path, *, absent: bool = False, spoilt: bool = False) -> Path:
    """Two training pairs and one to validate on, their two classes, and one that is absent, named in classes.txt."""
    for seed, name in enumerate(["train/a", "train/b", "val/c"]):
        for kind in ("images", "masks"):
            (root / kind / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (10, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"images/{name}.png")
        mask = np.zeros((10, 12), np.uint8)
        mask[:, 9:] = 1
        mask[0] = 255
        Image.fromarray(mask).save(root / f"masks/{name}.png")
    (root / "classes.txt").write_text("ground\n[red]thing\n" + "[bold]rare\n" * absent)
    if spoilt:
        (root / "images/train/b.png").write_bytes(b"")
    return root


def test_a_good_folder_exits_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(lay(tmp_path))]) == 0
    printed = capsys.readouterr().out
    for word in ("train", "val", "PNG RGB", "12x10 (2)", "[red]thing", "No faults: 3 pairs"):
        assert word in printed
    # One row of ten is ignored; of the nine others a quarter is the thing.
    assert "10.0 %" in printed
    assert "75.0 %" in printed
    assert "25.0 %" in printed


def test_warnings_exit_with_1_and_errors_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(lay(tmp_path / "absent", absent=True))]) == 1
    printed = capsys.readouterr().out
    assert "1 of 3 classes never occur: [bold]rare" in printed
    assert "It can be trained on." in printed
    assert "->" not in printed
    assert main(["check", str(lay(tmp_path / "spoilt", spoilt=True)), "--fix-hints"]) == 2
    printed = capsys.readouterr().out
    assert f"{tmp_path}/spoilt/images/train/b.png: can't be read as an image" in printed
    assert "-> replace or remove it" in printed
    assert "It can be trained on." not in printed


def test_hints_end_in_a_data_section_that_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(lay(tmp_path)), "--fix-hints"]) == 0
    section = capsys.readouterr().out.split("For a recipe:\n")[1]
    (tmp_path / "mine.yaml").write_text(section)
    data = load_recipe(tmp_path / "mine.yaml").data
    assert data == Data(root=str(tmp_path), classes=str(tmp_path / "classes.txt"))
    assert main(["check", str(tmp_path / "mine.yaml")]) == 0


def test_without_a_file_of_classes_they_are_counted_in_the_masks(tmp_path: Path) -> None:
    lay(tmp_path)
    (tmp_path / "classes.txt").unlink()
    assert main(["check", str(tmp_path), "--json", str(tmp_path / "report.json")]) == 0
    assert json.loads((tmp_path / "report.json").read_text())["class_names"] == ["class 0", "class 1"]


def test_masks_of_0_and_255_are_recognised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lay(tmp_path)
    (tmp_path / "classes.txt").unlink()
    for path in (tmp_path / "masks").glob("*/*.png"):
        Image.fromarray(np.where(np.array(Image.open(path)) == 1, 255, 0).astype(np.uint8)).save(path)
    assert main(["check", str(tmp_path), "--fix-hints"]) == 0
    assert "label_map: {0: 0, 255: 1}" in capsys.readouterr().out


def test_the_report_for_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = lay(tmp_path, spoilt=True)
    (root / "images/val/d.png").write_bytes((root / "images/val/c.png").read_bytes())
    assert main(["check", str(root), "--json", "-"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert report["exit_code"] == 2
    assert report["pairs"] == 3
    train, val = report["splits"]
    assert (train["name"], train["pairs"], val["pairs"]) == ("train", 2, 1)
    assert train["class_pixels"] == [2 * 9 * 9, 2 * 9 * 3]
    assert train["class_images"] == [2, 2]
    assert train["ignored_pixels"] == 2 * 12
    assert train["mask_values"] == {"0": 162, "1": 54, "255": 24}
    assert val["sizes"] == {"12x10": 1}
    kinds = {(finding["kind"], finding["split"]): finding for finding in report["findings"]}
    assert kinds["image without mask", "val"]["files"] == [f"{root}/images/val/d.png"]
    assert kinds["can't be read as an image", "train"]["count"] == 1
    assert [finding["level"] for finding in report["findings"]] == ["error", "error"]


def test_values_outside_the_classes_are_counted_over_all_masks(tmp_path: Path) -> None:
    """11 in every mask is void; 37 in one of them is a fault, and is not hidden by it."""
    lay(tmp_path)
    for place, path in enumerate(sorted((tmp_path / "masks").glob("*/*.png"))):
        mask = np.array(Image.open(path))
        mask[1] = 11
        mask[2] = 37 if place == 0 else 0
        Image.fromarray(mask).save(path)
    assert main(["check", str(tmp_path), "--json", str(tmp_path / "report.json")]) == 2
    (finding,) = json.loads((tmp_path / "report.json").read_text())["findings"]
    assert finding["message"].startswith(f"{tmp_path}/masks/train/a.png: mask has value 37 (12 pixels)")
    assert main(["check", str(tmp_path), "--data.ignore_index", "255", "--json", str(tmp_path / "report.json")]) == 2
    train, val = json.loads((tmp_path / "report.json").read_text())["findings"]
    assert train["message"].endswith("; of all masks, 11 in 2 (24 pixels), 37 in 1 (12 pixels)")
    assert (train["count"], val["count"]) == (2, 1)


class Links(HTMLParser):
    """The tags of a page and whatever they would load."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.alternatives: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        self.loads += [values[key] or "" for key in ("src", "href") if key in values]
        if tag == "img":
            self.alternatives.append(values.get("alt") or "")


def test_the_page_stands_alone(tmp_path: Path) -> None:
    lay(tmp_path, spoilt=True)
    (tmp_path / "classes.txt").write_text("ground\n<script>alert(1)</script>\n")
    assert main(["check", str(tmp_path), "--html", str(tmp_path / "page.html")]) == 2
    text = (tmp_path / "page.html").read_text()
    page = Links()
    page.feed(text)
    assert "script" not in page.tags
    assert "&lt;script&gt;" in text
    assert page.tags.count("img") == 4, "two pairs that can be read, an image and a mask each"
    assert all(load.startswith("data:image/") for load in page.loads)
    assert all(page.alternatives)
    assert "can&#39;t be read as an image" in text


def test_other_splits_and_layouts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    voc(tmp_path)
    assert main(["check", str(tmp_path), "--splits", "val", "--json", "-"]) == 1
    assert [split["name"] for split in json.loads(capsys.readouterr().out)["splits"]] == ["val"]
    assert main(["check", str(tmp_path), "--splits", "test"]) == 2
    assert "'test' is not a split of layout 'voc'; it has train, val" in capsys.readouterr().err


def test_the_layout_can_be_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cityscapes(tmp_path)
    assert main(["check", str(tmp_path), "--data.layout", "cityscapes", "--json", "-"]) == 1
    assert json.loads(capsys.readouterr().out)["layout"] == "cityscapes"
    assert main(["check", str(tmp_path), "--data.layout", "ade20k"]) == 2
    assert "no images and annotations in it; 'ladseg data ade20k' shows" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["nowhere", "nowhere.yaml", "."])
def test_what_is_neither_recipe_nor_data_set(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["check", target]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "no such" in error or "no layout recognises" in error


def test_layouts_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data"]) == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split()[0] == "layout"
    assert [line.split()[0] for line in lines if line.strip() and line[0] != " "] == list(LAYOUTS)
    for name, layout in LAYOUTS.items():
        assert main(["data", name]) == 0
        words = capsys.readouterr().out.split()
        assert "".join(words).find("".join(layout.source.split())) > 0
        for line in (layout.tree, layout.ids):  # nothing is lost at a fold
            assert "".join(line.split()) in "".join(words)
    assert main(["data", "cityscape"]) == 2
    assert "is not one of cityscapes" in capsys.readouterr().err


@pytest.mark.parametrize("columns", [60, 80, 132])
def test_layouts_keep_to_the_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    for words in ([], *([name] for name in LAYOUTS)):
        assert main(["data", *words]) == 0
        lines = capsys.readouterr().out.splitlines()
        # Paths and addresses are not folded, so that they can be copied.
        assert not [line for line in lines if len(line) > columns and len(line.split()) > 1], words


def test_a_run_tells_the_warnings_and_looks_once_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Resumed, it does not read the whole set again, unless a file has changed."""
    root = lay(tmp_path / "data", absent=True)
    values = {
        "data.root": root,
        "data.classes": root / "classes.txt",
        "data.ignore_index": 255,
        "student.model": "pspnet@test_resnet",
        "distill.method": "none",
        "schedule.iterations": 1,
        "schedule.batch_size": 2,
        "schedule.crop": "[16, 16]",
        "out": tmp_path / "run",
    }
    words = ["train", "demo", *(word for key, value in values.items() for word in (f"--{key}", str(value)))]
    assert main(words) == 0
    assert "warning: train: 1 of 3 classes never occur: [bold]rare" in capsys.readouterr().out
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "warning: " not in printed
    assert "unchanged since it was checked" in printed
    (root / "masks/val/c.png").rename(root / "c.png")
    (root / "masks/val/c.png").symlink_to(root / "nowhere.png")
    assert main(words) == 2
    assert "masks/val/c.png: can't be read as a mask" in capsys.readouterr().err
    (root / "c.png").rename(root / "nowhere.png")
    (root / "images/train/b.png").write_bytes(b"")
    assert main(words) == 2
    assert "can't be read as an image" in capsys.readouterr().err

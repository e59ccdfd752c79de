"""The report of a run: its figures are those of the run, and a browser shows it without a fault."""

import html
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from ladseg.cli import main
from ladseg.data import write_demo_scenes
from ladseg.report.comparison_page import comparison_summary
from ladseg.report.svg_figures import curves, heat_map
from ladseg.report.verdict import run_verdict
from ladseg.results import MeanInterval, MethodRow, RunResults, read_json
from tests.made_results import comparison_results, method_row
from tests.test_command_line import SMALL

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
# Puts what only a browser knows where --dump-dom shows it: in the title of the page around the report.
PROBE = """<script>addEventListener("load", () => {
  const wide = [...document.querySelectorAll("body *")].filter(e => !e.closest(".wide, pre, svg")
    && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName);
  const broken = [...document.images].filter(i => !i.complete || !i.naturalWidth).length;
  const scrolled = [...document.querySelectorAll(".wide")].filter(e => e.scrollWidth > e.clientWidth + 1).length;
  parent.document.title = JSON.stringify({width: innerWidth, scroll: document.documentElement.scrollWidth,
    wide, broken, scrolled});
})</script>"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run, one that only trains the student alone, and a comparison."""
    top = tmp_path_factory.mktemp("reports")
    write_demo_scenes(top / "scenes", train=8, val=5, size=(48, 64))
    small = [word for key, value in SMALL.items() for word in (f"--{key}", value)]
    data = ["--data.root", str(top / "scenes"), "--data.classes", str(top / "scenes/classes.txt"), *small]
    assert main(["train", "demo", *data, "--out", str(top / "run")]) == 0
    assert main(["train", "demo", *data, "--out", str(top / "plain"), "--distill.method", "none"]) == 0
    methods = ["--methods", "none,none-long,lad", "--seeds", "0", "--plain-lengths", "1"]
    assert main(["compare", "demo", *data, "--out", str(top / "comparison"), *methods]) == 0
    return {name: top / name for name in ("run", "plain", "comparison")}


def text_of(page: str) -> str:
    """What a reader reads."""

    class Text(HTMLParser):
        words: str = ""

        def handle_data(self, data: str) -> None:
            self.words += data + " "

    parser = Text()
    parser.feed(re.sub(r"<style.*?</style>", "", page, flags=re.DOTALL))
    return " ".join(parser.words.split())


def test_the_page_says_what_the_results_say(folders: dict[str, Path]) -> None:
    results = json.loads((folders["run"] / "results.json").read_text())
    words = text_of((folders["run"] / "report.html").read_text())
    for row in results["networks"].values():
        for figure in (f"{100 * row['mean_iou']:.2f}", f"{row['parameters']:,}", f"{row['macs'] / 1e9:.2f}"):
            assert figure in words
        for iou in row["iou"] if row["sees"] == "image" else []:
            assert iou is None or f"{100 * iou:.2f}" in words
    low, high = results["difference"]["interval"]
    assert low <= results["difference"]["mean_iou"] <= high
    assert f"between {100 * low:+.2f} and {100 * high:+.2f} points" in words
    teacher = results["networks"]["teacher"]
    assert f"from the label alone {100 * teacher['mean_iou_without_image']:.2f}" in words
    assert f"{100 * teacher['mean_kl_between_draws']:.3g} x 10^-2 nats" in words
    summary = run_verdict(read_json(RunResults, folders["run"] / "results.json")).sentence
    assert results["verdict"]["sentence"] == summary
    assert f"95 % interval {100 * low:+.2f} to {100 * high:+.2f}" in summary
    assert html.unescape(summary) in words
    assert "distilled by cwd from a label-assisted pspnet@test_resnet, on 8 images of 'scenes'" in words
    assert json.loads((folders["run"] / "environment.json").read_text())["command"] in words
    assert "ladseg train recipe.yaml --data.root <the data set's folder> --data.classes <its file of classes>" in words


def test_confusion_is_read_off_the_same_counts(folders: dict[str, Path]) -> None:
    with np.load(folders["run"] / "student/val.npz") as counts:
        confusion, images = counts["confusion"], counts["images"]
    results = json.loads((folders["run"] / "results.json").read_text())["networks"]["student"]
    assert confusion.diagonal().sum() / confusion.sum() == pytest.approx(results["pixel_accuracy"])
    assert np.array_equal(images.sum(0), [confusion.diagonal(), confusion.sum(1), confusion.sum(0)])
    assert len(images) == 5


@pytest.mark.parametrize("name", ["run", "plain", "comparison"])
def test_the_page_needs_nothing_else(folders: dict[str, Path], name: str) -> None:
    page = (folders[name] / "report.html").read_text()
    assert "<script" not in page
    addresses = re.findall(r"""(?:src|href)=["']([^"']*)""", page)
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert not re.search(r"url\((?!#)", page)
    assert all(re.search(r'alt="[^"]+"', image) for image in re.findall(r"<img[^>]*>", page))


def test_ids_are_unlike_one_another_and_found(folders: dict[str, Path]) -> None:
    page = (folders["run"] / "report.html").read_text()
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(set(ids)) == len(ids) > 20
    assert set(re.findall(r'(?:href="#|url\(#)([^")]*)', page)) <= set(ids)


def test_report_writes_the_same_page_again_without_data(folders: dict[str, Path], tmp_path: Path) -> None:
    for name in ("run", "comparison"):
        moved = tmp_path / name
        shutil.copytree(folders[name], moved)
        (moved / "report.html").unlink()
        assert main(["report", str(moved)]) == 0
        assert (moved / "report.html").read_text() == (folders[name] / "report.html").read_text()


def test_report_of_what_is_no_run(folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "no results.json" in capsys.readouterr().err
    results = json.loads((folders["run"] / "results.json").read_text())
    del results["prediction"]
    (tmp_path / "results.json").write_text(json.dumps(results))
    assert main(["report", str(tmp_path)]) == 2
    assert "older ladseg" in capsys.readouterr().err


def test_names_are_text_and_not_markup(folders: dict[str, Path], tmp_path: Path) -> None:
    moved = tmp_path / "run"
    shutil.copytree(folders["run"], moved)
    results = json.loads((moved / "results.json").read_text())
    results["name"] = results["class_names"][0] = "<script>alert(1)</script> & $x_1$"
    (moved / "results.json").write_text(json.dumps(results))
    assert main(["report", str(moved)]) == 0
    page = (moved / "report.html").read_text()
    assert "<script" not in page
    assert html.escape("<script>alert(1)</script> &") in page


@needs_chromium
@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("name", ["run", "plain", "comparison"])
def test_a_browser_shows_it_whole(folders: dict[str, Path], tmp_path: Path, name: str, width: int) -> None:
    report = (folders[name] / "report.html").read_text().replace("</body>", f"{PROBE}</body>")
    around = tmp_path / "around.html"  # as a window of Chromium is never narrower than 500 pixels
    style = f"width: {width}px; height: 900px; border: 0"
    around.write_text(f'<title></title><iframe style="{style}" srcdoc="{html.escape(report)}"></iframe>')
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--enable-logging=stderr", "--window-size=1500,1000", "--dump-dom", around.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in shown.stderr
    title = re.search(r"<title>(.*?)</title>", shown.stdout)
    assert title is not None
    seen = json.loads(html.unescape(title[1]))
    assert seen["scroll"] <= seen["width"] == width, seen
    assert (seen["wide"], seen["broken"]) == ([], 0)
    assert seen["scrolled"] == 0, "a table is cut"


@needs_chromium
def test_paper_has_the_recipe_and_no_more_pages_than_it_needs(folders: dict[str, Path], tmp_path: Path) -> None:
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    report = (folders["run"] / "report.html").as_uri()
    subprocess.run([*command, f"--print-to-pdf={tmp_path / 'a.pdf'}", report], timeout=120, check=True)
    assert 5 <= len(re.findall(rb"/Type ?/Page\b", (tmp_path / "a.pdf").read_bytes())) <= 9


def test_figures_are_svg_in_the_pages_colours() -> None:
    lines = curves("a", {"one": [(1, 0.5), (2, 0.25)], "$2_x$ <": [(1, 3.0), (2, 1.0)]}, "loss", log=True, colors=[4])
    heat = heat_map("b", np.arange(9).reshape(3, 3), ["a", "b_c", "$d"])
    for figure in (lines, heat):
        ET.fromstring(f'<top xmlns:xlink="http://www.w3.org/1999/xlink">{figure}</top>')
        assert not re.search(r"(?:fill|stroke): #(?!fff|none)", figure)
        assert "currentColor" in figure
    assert "var(--s4)" in lines
    assert "var(--s0)" not in lines
    assert ">1</text>" in lines
    assert "mathdefault" not in lines


def row(name: str, mean: float, difference: float | None, against_long: MeanInterval | None = None) -> MethodRow:
    interval = None if difference is None else MeanInterval(difference, difference - 0.01, difference + 0.01)
    return method_row(name, mean, difference=interval, against_long=against_long)


def test_the_summary_of_a_comparison_names_the_opponent() -> None:
    plain = [row("none", 0.5, None), row("none-long", 0.6, 0.1)]
    lead, opponent = comparison_summary(comparison_results([*plain, row("lad", 0.55, 0.05)]))
    assert "'none-long' has the highest mean, 60.00 % mIoU over 2 seeds" in lead
    assert "+10.00 [+9.00, +11.00] points" in lead
    assert "does not make up for" in opponent
    assert "-5.00 points" in opponent
    assert "is worth more than" in comparison_summary(comparison_results([*plain, row("lad", 0.7, 0.2)]))[1]
    unsure = row("lad", 0.7, 0.2, against_long=MeanInterval(0.1, -0.01, 0.21))
    opponent = comparison_summary(comparison_results([*plain, unsure]))[1]
    assert "can't be told apart from" in opponent
    assert "+10.00 [-1.00, +21.00] points of mean mIoU (95 % by the seeds)" in opponent
    sure = row("lad", 0.7, 0.2, against_long=MeanInterval(0.1, 0.01, 0.21))
    assert "is worth more than" in comparison_summary(comparison_results([*plain, sure]))[1]
    assert comparison_summary(comparison_results([method_row("none", None)])) == ["No cell has finished yet."]

"""The report of a run: its figures are those of the run, and a browser shows it without a fault."""

import html
import json
import re
import shlex
import shutil
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch

from ladseg.cli.entry import main, parse
from ladseg.commands.report import write_comparison, write_report
from ladseg.data import write_demo_scenes
from ladseg.evaluation import iou_of
from ladseg.files import write_text
from ladseg.recipe_files import dump_recipe, load_recipe, make_recipe
from ladseg.report.comparison_page import comparison_summary
from ladseg.report.next_steps import next_steps
from ladseg.report.numbers import gmacs
from ladseg.report.sheet import Sheet
from ladseg.report.svg_figures import curves, heat_map
from ladseg.report.verdict import run_verdict
from ladseg.results import MeanInterval, MethodRow, RunResults, Sample, Verdict, read_json
from ladseg.runs.parts import read_counts
from ladseg.runs.pictures import _choose
from tests.made_results import comparison_results, method_row, network_row, run_results
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
    assert 0 < 100 * teacher["mean_kl_between_draws"] < 0.001
    assert "less than 0.001 x 10^-2 nats" in words
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


def test_the_last_step_has_the_best_score_where_it_is_the_best(folders: dict[str, Path]) -> None:
    results = json.loads((folders["run"] / "results.json").read_text())["networks"].values()
    kept = [row for row in results if row["best_step"] == row["steps"] and row["last_mean_iou"] is not None]
    assert kept
    assert all(row["last_mean_iou"] == row["mean_iou"] for row in kept)


@pytest.mark.parametrize("name", ["run", "plain", "comparison"])
def test_the_page_needs_nothing_else(folders: dict[str, Path], name: str) -> None:
    page = (folders[name] / "report.html").read_text()
    assert "<script" not in page
    loaded, linked = (re.findall(rf"""{kind}=["']([^"']*)""", page) for kind in ("src", "href"))
    assert all(address.startswith("data:") for address in loaded)
    # A link leads to a place in the page, or to a file of the same folder.
    beside = [unquote(address) for address in linked if not address.startswith(("#", "data:"))]
    assert all((folders[name] / address).is_file() for address in beside)
    assert not any(Path(address).is_absolute() for address in beside)
    assert not re.search(r"url\((?!#)", page)
    assert all(re.search(r'alt="[^"]+"', image) for image in re.findall(r"<img[^>]*>", page))


@pytest.mark.parametrize("name", ["run", "plain", "comparison"])
def test_the_contents_name_every_section(folders: dict[str, Path], name: str) -> None:
    page = (folders[name] / "report.html").read_text()
    listed = re.findall(r'<a href="#(\w+)">', page)
    assert len(listed) > 6
    assert all(f' id="{anchor}"' in page for anchor in listed)
    assert set(re.findall(r'<h2 id="(\w+)"', page)) <= set(listed)


def test_a_run_says_what_next_in_commands_that_parse(folders: dict[str, Path]) -> None:
    page = (folders["run"] / "report.html").read_text()
    section = page[page.index('id="next"') : page.index('id="files"')]
    commands = [shlex.split(html.unescape(command)) for command in re.findall(r"<pre>(.*?)</pre>", section)]
    assert [words[1] for words in commands][-5:] == ["predict", "eval", "export", "train", "compare"]
    for words in commands:
        assert words[0] == "ladseg"
        assert any(str(folders["run"]) in word for word in words)
        make_recipe({}, parse(words[1:])[1])
    assert "student/log.txt" in page[page.index('id="files"') :]


def test_next_steps_of_other_runs(tmp_path: Path) -> None:
    flat = [(5, 0.4), (7, 0.5), (10, 0.5)]
    learned = network_row(0.5, model="my_package.nets:Net", validation_curve=flat)
    recipe = {"schedule": {"iterations": 10, "minutes": None}, "teacher": {}}
    steps = next_steps(run_results({"baseline": learned}), tmp_path / "a run", recipe)
    commands = [command for _, command in steps]
    assert [shlex.split(command)[1] for command in commands] == ["predict", "eval", "export", "train", "compare"]
    assert all("--model my_package.nets:Net" in command for command in commands[:3])
    assert all("a run" in " ".join(shlex.split(command)) for command in commands)
    recipe["distill"] = {"method": "cwd"}
    both = dict.fromkeys(("baseline", "teacher", "student"), learned)
    for label_assisted, words in (
        (True, "--distill.warm_start true --methods none,none-long,lad"),
        (False, "none-long,cwd"),
    ):
        results = run_results(both, label_assisted=label_assisted, student_starts_warm=True)
        assert f"{words} --seeds" in next_steps(results, tmp_path, recipe)[-1][1]
    rising = network_row(0.5, validation_curve=[(5, 0.1), (10, 0.5)])
    of_minutes = {"schedule": {"iterations": 10, "minutes": 2.5}, "teacher": {}}
    assert "--schedule.minutes 5 " in next_steps(run_results({"baseline": rising}), tmp_path, of_minutes)[0][1]


def test_samples_hold_the_worst_of_the_delivered_network(folders: dict[str, Path]) -> None:
    for name, key in (("run", "student"), ("plain", "baseline")):
        images = torch.from_numpy(read_counts(folders[name] / key / "val.npz")[1])
        worst = iou_of(images).nanmean(-1).argsort(stable=True)[:3].tolist()
        samples = read_json(list[Sample], folders[name] / "samples/samples.json")
        assert [sample.index for sample in samples if sample.group == "worst"] == worst
        assert "The worst of the delivered network" in (folders[name] / "report.html").read_text()
        assert [sample.index for sample in samples if sample.group == "spread"] == [0, 1, 3]


def test_an_image_without_labels_is_not_the_worst() -> None:
    nan = float("nan")
    groups = _choose({"baseline": torch.tensor([nan, 0.5, 0.2]), "student": torch.tensor([nan, 0.4, 0.3])})
    assert groups == {"gained": [2], "lost": [1], "worst": [2, 1], "spread": [0, 1, 2]}


def test_a_comparison_has_seeds_classes_curves_samples_and_the_reports_of_its_runs(folders: dict[str, Path]) -> None:
    page = (folders["comparison"] / "report.html").read_text()
    words = text_of(page)
    methods = ("none", "none-long", "lad")
    for method in methods:
        assert f'href="seed-0/{method}/report.html"' in page
        results = read_json(RunResults, folders["comparison"] / f"seed-0/{method}/results.json")
        assert f">{100 * results.delivered.mean_iou:.2f}</a>" in page
        for iou in results.delivered.iou:
            assert np.isnan(iou) or f"{100 * iou:.2f}" in words
    pictures = page[page.index('id="samples"') : page.index('id="repeat"')]
    assert pictures.count("<img") == 3 * (2 + len(methods))
    assert page.count("<svg") == 2
    assert "training compute (student alone = 1)" in words


def test_a_comparison_says_nothing_of_what_is_not_there(folders: dict[str, Path], tmp_path: Path) -> None:
    rows = [method_row("none", 0.5), method_row("none-ema", 0.5)]
    write_text(tmp_path / "recipe.yaml", dump_recipe(load_recipe("demo")))
    write_comparison(tmp_path, comparison_results(rows))
    write_report(tmp_path)
    words = text_of((tmp_path / "report.html").read_text()).rpartition("To repeat it")[0]
    for absent in ("teacher", "Teacher", "'beyond'", "Step ms", "Holm", "± standard deviation over 1", "0.00 GMACs"):
        assert absent not in words.replace("its teacher included", "")
    for section in ("Classes", "Learning curves", "Samples"):
        assert section not in words
    assert "2e-06 GMACs" in words
    whole = text_of((folders["comparison"] / "report.html").read_text())
    assert all(note in whole for note in ("Teacher M, GMACs", "Teacher s:", "Step ms:"))


@pytest.mark.parametrize(
    ("macs", "text"),
    [(120_910_000_000, "120.91"), (150_000_000, "0.15"), (2_130_000, "0.0021"), (99_900_000, "0.1"), (0, "0.00")],
)
def test_multiply_accumulates_are_never_rounded_to_nothing(macs: int, text: str) -> None:
    assert gmacs(macs) == text


def test_a_wide_table_comes_in_parts() -> None:
    wide = Sheet("Wide", ["method", "a b", "c", "d"], [["kd", "1" * 30, "2" * 20, "3" * 9], ["lad", "", "4", ""]])
    (whole,) = wide.parts(80)
    assert whole == wide
    parts = wide.parts(45)
    assert [part.columns for part in parts] == [["method", "a b", "c"], ["method", "d"]]
    assert [part.title for part in parts] == ["Wide", "Wide, continued"]
    assert parts[1].rows == [["kd", "3" * 9], ["lad", ""]]
    assert len(wide.parts(1)) == 3  # a column too wide stands alone


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
        page = (moved / "report.html").read_text().replace(str(moved), str(folders[name]))
        assert page == (folders[name] / "report.html").read_text()


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
    assert 5 <= len(re.findall(rb"/Type ?/Page\b", (tmp_path / "a.pdf").read_bytes())) <= 11


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
    assert all(f">{percent}</text>" in heat for percent in (33, 67, 25, 42, 29, 38))
    assert ">100</text>" not in heat_map("c", 100 * np.eye(21), [str(number) for number in range(21)])


def row(name: str, mean: float, difference: float | None, against_long: MeanInterval | None = None) -> MethodRow:
    interval = None if difference is None else MeanInterval(difference, difference - 0.01, difference + 0.01)
    return method_row(name, mean, difference=interval, against_long=against_long)


def test_the_summary_of_a_comparison_names_the_opponent() -> None:
    plain = [row("none", 0.5, None), row("none-long", 0.6, 0.1)]
    behind = row("lad", 0.55, 0.05, against_long=MeanInterval(-0.05, -0.06, -0.04))
    lead, opponent = comparison_summary(comparison_results([*plain, behind]))
    assert "'none-long' has the highest mean, 60.00 % mIoU over 2 seeds" in lead
    assert "+10.00 [+9.00, +11.00] points" in lead
    assert "does not make up for" in opponent
    assert "-5.00 [-6.00, -4.00] points" in opponent
    unsure = row("lad", 0.7, 0.2, against_long=MeanInterval(0.1, -0.01, 0.21))
    opponent = comparison_summary(comparison_results([*plain, unsure]))[1]
    assert "can't be told apart from" in opponent
    assert "+10.00 [-1.00, +21.00] points of mean mIoU (95 % by the seeds)" in opponent
    assert opponent.endswith("; the 95 % interval contains zero, and more seeds would narrow it.")
    sure = row("lad", 0.7, 0.2, against_long=MeanInterval(0.1, 0.01, 0.21))
    assert "is worth more than" in comparison_summary(comparison_results([*plain, sure]))[1]
    # One seed shows nothing, however large the difference; nor do seeds that are not the same.
    for changes, words in (
        ({"against_long": MeanInterval(0.1, None, None), "mean_iou": {0: 0.7}}, "one seed has no interval"),
        ({"against_long": None, "mean_iou": {5: 0.7}}, "no seed has finished both"),
        ({"against_long": sure.against_long, "verdict": Verdict("still improving", "")}, "so train longer"),
    ):
        opponent = comparison_summary(comparison_results([*plain, replace(sure, **changes)]))[1]
        assert "can't be told apart from" in opponent
        assert words in opponent
    assert comparison_summary(comparison_results([method_row("none", None)])) == ["No cell has finished yet."]

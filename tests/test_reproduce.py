"""The paper's experiments: what they are, what they cost, and that they train anew."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.paper_macs import count
from PIL import Image

from ladseg.cli import main
from ladseg.data import write_demo_scenes
from ladseg.errors import RecipeError
from ladseg.measure.step_costs import step_macs
from ladseg.models import list_models
from ladseg.recipe import Recipe, Schedule, StudentSettings
from ladseg.recipe_files import load_recipe
from ladseg.report.noise_plot import noise_figure, save_noise_plot
from ladseg.report.paper_match import known_differences, published_differences
from ladseg.report.paper_tables import paper_rows
from ladseg.report.reproduced import TINY, OurFigures, PaperFigures, ReproducedRow, ReproducedTable
from ladseg.reproduce.estimate import RATE, counted_macs, experiment_macs, needed_macs
from ladseg.reproduce.experiments import experiments, find_experiment
from ladseg.reproduce.methods import paper_method, with_teacher
from ladseg.reproduce.tiny import tiny_method, tiny_recipe
from ladseg.results import MeanInterval, RunResults, read_json
from ladseg.runs.networks import teacher_network
from ladseg.runs.trainings import baseline_training
from tests.made_results import environment

TABLES = [f"table-{number}" for number in range(1, 10)]
ROWS = paper_rows()


def test_every_table_of_the_paper_is_there() -> None:
    assert list(experiments()) == [*TABLES, "dinov2", "figure-4"]
    assert [len(find_experiment(name).settings) for name in TABLES] == [2, 2, 2, 6, 8, 2, 2, 2, 1]
    with pytest.raises(RecipeError, match="no experiment of the paper is called 'table-10'; did you mean 'table-1'"):
        find_experiment("table-10")
    assert main(["reproduce", "--only", "stdc1"]) == 2
    with pytest.raises(RecipeError, match="--only segnet: table-4 has no such student; it has table-4-fcn_r18"):
        find_experiment("table-4").only(["segnet"])
    assert [one.recipe for one in find_experiment("table-4").only(["stdc", "fcn_r18"])] == [
        "table-4-fcn_r18",
        "table-4-stdc1",
        "table-4-stdc2",
    ]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['table']}-{row['recipe']}-{row['method']}")
def test_a_rows_recipe_is_its_student_data_and_start(row: dict[str, str]) -> None:
    recipe = load_recipe(row["recipe"])
    start = "pretrained" if recipe.student.weights else "scratch"
    assert (recipe.student.model, recipe.data.layout, start) == (row["student"], row["layout"], row["start"])
    assert recipe.student.model in list_models()
    assert recipe.preset == "paper"
    method = paper_method(recipe, row["method"], {})
    assert (method.recipe.teacher.model or recipe.student.model) in list_models()
    assert method.recipe.teacher.label_assisted == row["method"].startswith(("lad", "none"))


@pytest.mark.parametrize(
    ("recipe", "iterations", "batch", "crop", "lr", "decay"),
    [
        ("table-1-pspnet_r18", 40_000, 16, (512, 1024), 0.02, 1e-4),
        ("table-3-deeplabv3_r18", 40_000, 16, (512, 512), 0.02, 1e-4),
        ("table-4-fcn_r50", 80_000, 8, (769, 769), 0.01, 5e-4),
        ("table-4-stdc1", 80_000, 48, (512, 1024), 0.01, 5e-4),
        ("table-4-ocrnet_w18", 40_000, 8, (512, 1024), 0.01, 5e-4),
        ("table-5-voc-pspnet_r50", 20_000, 16, (512, 512), 0.01, 5e-4),
        ("table-5-coco_stuff_164k-deeplabv3_r50", 80_000, 16, (512, 512), 0.01, 5e-4),
    ],
)
def test_schedules_are_the_published_ones(
    recipe: str, iterations: int, batch: int, crop: tuple[int, int], lr: float, decay: float
) -> None:
    """Figures of CIRKD's scripts and mmsegmentation's configurations."""
    schedule = load_recipe(recipe).schedule
    assert (schedule.iterations, schedule.batch_size, schedule.crop) == (iterations, batch, crop)
    assert (schedule.lr, schedule.weight_decay, schedule.momentum, schedule.power) == (lr, decay, 0.9, 0.9)
    of_mmsegmentation = decay == 5e-4
    augment = load_recipe(recipe).augment
    color, step, ratio = ("photometric", None, 0.75) if of_mmsegmentation else ("none", 0.1, None)
    assert (augment.color, augment.scale_step, augment.cat_max_ratio, augment.antialias) == (color, step, ratio, False)
    assert augment.rescale == ([2048, 512] if recipe.startswith("table-5") else None)
    assert schedule.eval_window == ((769, 769) if recipe.startswith("table-4-fcn") else None)
    assert (load_recipe(recipe).student.input, schedule.precision) == (None if of_mmsegmentation else "bgr", "fp32")
    assert (schedule.min_lr, load_recipe(recipe).loss.mean) == ((1e-4, "all") if of_mmsegmentation else (0.0, "valid"))


def test_methods_of_the_tables_as_recipes() -> None:
    stdc, psp = load_recipe("table-4-stdc2"), load_recipe("table-1-pspnet_r18")
    clean = paper_method(stdc, "lad@class_weights=none,alpha=0", {}).recipe
    assert clean == replace(stdc, teacher=replace(stdc.teacher, class_weights="none", alpha=0.0))
    without = paper_method(stdc, "lad@consistency=0", {})
    assert without.recipe.teacher == replace(stdc.teacher, consistency=0.0)
    other = paper_method(stdc, "lad+stdc1_mmseg", {})
    assert (other.name, other.teacher, other.recipe.teacher.weights) == ("lad+stdc1_mmseg", "label-stdc1_mmseg", None)
    # The student's own network, and the teacher that the recipe has anyway, are LAD itself.
    assert paper_method(psp, "lad+pspnet_r18", {}) == paper_method(psp, "lad", {})
    dino = load_recipe("dinov2-s14")
    assert paper_method(dino, "lad+ocrnet_w48", {}).name == "lad"
    rival = paper_method(psp, "skd+deeplabv3_r101", {"deeplabv3_r101": "mine.pth"})
    assert (rival.name, rival.recipe.teacher.weights) == ("skd+deeplabv3_r101", "mine.pth")
    assert paper_method(psp, "cirkd+deeplabv3_r101", {}).recipe.distill.options == {"group": 2}
    maskd = paper_method(psp, "maskd+deeplabv3_r101", {}).recipe
    assert (maskd.distill.weight_decay, maskd.distill.min_lr) == (5e-4, 1e-4)
    assert maskd.schedule == psp.schedule


def test_teachers_see_what_their_published_weights_want() -> None:
    """CIRKD's BGR, mmsegmentation's and timm's RGB; a label-assisted teacher what its student sees."""
    psp = load_recipe("table-1-pspnet_r18")
    files = dict.fromkeys(("deeplabv3_r101", "pspnet_r101_mmseg", "ocrnet_w48"), "mine.pth")
    cases = [
        ("cwd-full+deeplabv3_r101", {}, None),
        ("cwd-full+deeplabv3_r101", files, "bgr"),
        ("cwd+pspnet_r101_mmseg", files, None),
        ("cwd+ocrnet_w48", files, None),
        ("lad+pspnet_r18", {}, "bgr"),
        ("lad+deeplabv3_r18", {}, "bgr"),
    ]
    for word, weights, expected in cases:
        assert teacher_network(paper_method(psp, word, weights).recipe).input == expected, word
    stdc = paper_method(load_recipe("table-4-stdc1"), "cwd+deeplabv3_r101", files).recipe
    assert teacher_network(stdc).input is None


def test_no_two_teachers_of_a_student_share_a_name() -> None:
    """They would share its folder."""
    for experiment in experiments().values():
        for setting in experiment.settings:
            made = [paper_method(setting.load(), word, {}) for word in setting.methods]
            taught = [one for one in made if one.teacher]
            assert len({one.teacher for one in taught}) == len({repr(one.recipe.teacher) for one in taught})
            assert len({one.name for one in made}) == len(made)


def test_what_differs_is_said_of_the_rows_that_it_concerns() -> None:
    def differs(method: str) -> list[str]:
        return known_differences("table-1-pspnet_r18", method)

    assert differs("none") == []
    assert differs("lad") == ["LAD's own schedule is not published: the control's"]
    assert [text[:13] for text in differs("maskd+deeplabv3_r101")] == [
        "best of val e",
        "their teacher",
        "without --tea",
    ]
    assert len(differs("skd+deeplabv3_r101")) == 2


def test_counted_macs_are_those_of_the_networks() -> None:
    counted = counted_macs()
    assert sorted(counted) == needed_macs(list(experiments().values()))
    # Published: facts.md's sources give 512.624 G for 1024x2048, four times this crop.
    assert 4 * counted["deeplabv3_r18", 19, 512, 1024][1] == pytest.approx(512.624e9, rel=1e-5)
    assert 4 * counted["deeplabv3_r101", 19, 512, 1024][1] == pytest.approx(1985.878e9, rel=1e-5)
    for key in (("pspnet_r18", 21, 512, 512), ("stdc1_mmseg", 19, 512, 1024)):
        assert count(*key) == counted[key]


def test_counting_without_values_equals_counting_a_step() -> None:
    recipe = Recipe(student=StudentSettings(model="pspnet@test_resnet"), schedule=Schedule(batch_size=4, crop=(64, 96)))
    assert 4 * count("pspnet@test_resnet", 9, 64, 96)[0] == step_macs(baseline_training(recipe, 9), 9)


def test_an_estimate_by_hand() -> None:
    """Figure 4 is two label-assisted teachers; Table 8's STDC2 adds the plain student and two students."""
    train, predict = counted_macs()["stdc2_mmseg", 19, 512, 1024]
    images = 80_000 * 48
    assert experiment_macs(find_experiment("figure-4")) == 2 * 2 * images * train
    table = find_experiment("table-8")
    stdc = replace(table, settings=table.only(["stdc2"]))
    assert experiment_macs(stdc) == images * ((1 + 2 + 4) * train + 2 * predict)
    assert pytest.approx(3.82e12, rel=1e-2) == RATE


def test_the_list_loads_no_torch(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys; from ladseg.cli import main; main(['reproduce']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["reproduce"]) == 0
    printed = capsys.readouterr().out
    assert all(f"\n{name} " in printed for name in experiments())
    assert "estimate" in printed


@pytest.mark.parametrize(
    ("method", "words", "expected"),
    [
        ("lad", [], []),
        ("none", ["--teacher.alpha", "0.5", "--distill.tau", "1"], []),
        ("skd+deeplabv3_r101", ["--teacher.alpha", "0.5"], []),
        ("lad", ["--teacher.alpha", "0.5"], ["teacher.alpha (0.5, not 0.01)"]),
        ("none", ["--schedule.iterations", "80000"], ["schedule.iterations (80000, not 40000)"]),
        ("none", ["--student.weights", "mine.pth"], []),
        ("none", ["--data.layout", "voc"], ["data.layout (voc, not cityscapes)"]),
        (
            "lad",
            ["--distill.weight", "1", "--schedule.lr", "1", "--schedule.power", "1", "--teacher.consistency", "0"],
            ["schedule.lr (1.0, not 0.02)", "schedule.power (1.0, not 0.9)", "teacher.consistency (0.0, not 1.0)"],
        ),
    ],
)
def test_what_keeps_a_figure_from_standing_beside_the_papers(
    method: str, words: list[str], expected: list[str]
) -> None:
    row = {"recipe": "table-1-pspnet_r18", "method": method, "start": "pretrained"}
    found = published_differences(row, load_recipe("table-1-pspnet_r18", words))
    assert found[: len(expected)] == expected
    assert len(found) == (len(expected) if len(expected) < 3 else 4)


def test_a_student_from_scratch_is_not_the_pretrained_one() -> None:
    row = {"recipe": "table-1-pspnet_r18", "method": "none", "start": "pretrained"}
    assert published_differences(row, load_recipe("table-2-pspnet_r18")) == ["start (scratch)"]


FEW = ["--schedule.iterations", "2", "--schedule.eval_every", "2", "--schedule.batch_size", "4"]
TINY_WORDS = ["--scale", "tiny", "--schedule.crop", "[32, 48]", *FEW]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reproduce")
    write_demo_scenes(folder / "scenes", train=8, val=3, size=(32, 48))
    return folder


def test_table_8_in_miniature(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["reproduce", "table-8", "--only", "stdc2", "--out", str(out), *TINY_WORDS]
    # Another process or machine trains one cell; the command trains the rest.
    assert main([*words, "--cell", "lad:0"]) == 0
    part = read_json(ReproducedTable, out / "table-8.json")
    assert [row.ours is not None for row in part.rows] == [False, False, False, True]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "lad, seed 0: finished before" in printed
    table = read_json(ReproducedTable, out / "table-8.json")
    assert [(row.recipe, row.method) for row in table.rows] == [
        (recipe, method)
        for recipe in ("table-1-deeplabv3_r18", "table-4-stdc2")
        for method in ("lad@consistency=0", "lad")
    ]
    assert [row.paper.kl for row in table.rows] == [6.8, 3.4, 3.4, 2.1]
    # Ours are those of the runs.
    for row in table.rows[2:]:
        run = read_json(RunResults, out / "table-4-stdc2" / "seed-0" / row.method / "results.json")
        assert row.ours is not None
        assert row.ours.mean_iou == {0: run.delivered.mean_iou}
        assert row.ours.kl == run.networks["teacher"].mean_kl_between_draws
        assert row.ours.teacher == run.networks["teacher"].mean_iou
    assert load_recipe(out / "table-4-stdc2/seed-0/lad@consistency=0/recipe.yaml").teacher.consistency == 0
    for suffix in ("md", "tex", "html"):
        text = (out / f"table-8.{suffix}").read_text(encoding="utf-8")
        assert TINY in text
        assert "76.7" in text
    assert TINY in printed.replace("\n", " ")
    assert main([*words, "--schedule.lr", "0.1"]) == 2
    assert "holds a run of another recipe (schedule.lr" in capsys.readouterr().err


def test_every_cell_in_miniature_can_be_built() -> None:
    """Each network of the paper has a stand-in, and those that meet have different names."""
    for experiment in experiments().values():
        for setting in experiment.settings:
            recipe = tiny_recipe(setting.recipe, Path("scenes"), [])
            made = [paper_method(recipe, tiny_method(with_teacher(word)), {}) for word in setting.methods]
            assert len({one.name for one in made}) == len(setting.methods)
            assert recipe.schedule.iterations == 100
            assert recipe.preset == "paper"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["table-5", "--data.root", "x"], "--data.root is one data set, but these students use several (ADE20K"),
        (
            ["table-4", "--student.weights", "x"],
            "--student.weights is one file, but these students (fcn_r18, fcn_r50, stdc1",
        ),
        (["table-1", "--cell", "lda:0"], "--cell lda:0 is not among none, skd+deeplabv3_r101, ifvd+deeplabv3_r101"),
        (["table-1", "--cell", "lad:7"], "--cell lad:7 is not among none"),
        (["table-1", "--teacher-weights", "x"], "--teacher-weights x: write MODEL=FILE"),
        (["table-4", "--only", "fcn_r18", "--data.root", "/nowhere"], "/nowhere"),
        (
            ["table-1", "--only", "pspnet"],
            "pretrained/resnet18-imagenet.pth: no such file of weights (needs: resnet18-",
        ),
        (["tabel-4"], "no experiment of the paper is called 'tabel-4'; did you mean 'table-4'?"),
    ],
)
def test_what_cannot_be_is_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def made_table(methods: Sequence[str], name: str = "table-9") -> ReproducedTable:
    ours = OurFigures({0: 0.5, 1: 0.7}, 0.14, MeanInterval(0.01, None, None), 0.8, 0.021, 12.34)
    rows = [
        ReproducedRow(
            "r", "net", "set", method, PaperFigures(70 + n, None, 80.0, None, None), ours if n else None, ["a"]
        )
        for n, method in enumerate(methods)
    ]
    return ReproducedTable(name, "Title", "", rows, environment())


def test_a_table_as_text() -> None:
    sheet = made_table(["none", "lad"], "table-1").sheets[0]
    assert list(sheet.columns)[:6] == ["method", "paper", "gain", "ours", "gain", "n"]
    assert list(sheet.columns)[6:] == ["paper teacher", "our teacher", "our mKL", "our ms", "differs"]
    assert list(sheet.rows[0]) == ["none", "70.0", "", "", "", "0", "80.0", "", "", "", "a"]
    assert list(sheet.rows[1])[1:6] == ["71.0", "+1.0", "60.00 ± 14.00", "+1.00", "2"]
    assert list(sheet.rows[1])[6:] == ["80.0", "80.0", "2.1", "12.3", "a"]


def test_table_9_as_the_paper_prints_it(tmp_path: Path) -> None:
    table = made_table([row["method"] for row in ROWS if row["table"] == "9"])
    printed = table.sheets[-1]
    expected = ["with 0", "with 0.001", "with 0.01", "with 0.1", "with 1"]
    assert list(printed.columns) == ["mIoU", *expected, *(word.replace("with", "w/o") for word in expected)]
    assert [list(row)[1:4] for row in printed.rows] == [
        ["80.0"] * 3,
        ["", "80.0", "80.0"],
        ["70.0", "71.0", "72.0"],
        ["", "60.0", "60.0"],
    ]
    save_noise_plot(tmp_path / "plot.png", table)
    with Image.open(tmp_path / "plot.png") as plot:
        assert plot.size[0] > 1000


@pytest.mark.parametrize(("remark", "lines"), [("", 8), (TINY, 4)])
def test_the_papers_lines_are_drawn_beside_what_says_something_of_it(remark: str, lines: int) -> None:
    table = made_table([row["method"] for row in ROWS if row["table"] == "9"])
    figure = noise_figure(replace(table, remark=remark))
    assert sum(len(axes.lines) for axes in figure.axes) == lines
    assert remark in figure.get_suptitle().replace("\n", " ")
    assert max(map(len, figure.get_suptitle().splitlines())) <= 110


@pytest.mark.slow
def test_table_9_in_miniature(out: Path) -> None:
    assert main(["reproduce", "table-9", "--out", str(out), *TINY_WORDS]) == 0
    table = read_json(ReproducedTable, out / "table-9.json")
    assert len(table.rows) == 10
    assert all(row.ours is not None and row.ours.teacher is not None for row in table.rows)
    page = (out / "table-9.html").read_text(encoding="utf-8")
    assert TINY in page
    assert "data:image/png" in page
    alphas = {row.method: load_recipe(out / "table-4-stdc2/seed-0" / row.method / "recipe.yaml") for row in table.rows}
    assert [one.teacher.alpha for one in alphas.values()] == [0, 0.001, 0.01, 0.1, 1] * 2
    assert [one.teacher.class_weights for one in alphas.values()] == ["random"] * 5 + ["none"] * 5

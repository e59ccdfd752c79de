"""A teacher that is there already: one run leaves it, the next students learn from it, and it costs them nothing."""

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ladseg.cli import main
from ladseg.cli.training_commands import taught_by
from ladseg.comparison.costs import count_costs, marginal_macs, total_macs
from ladseg.comparison.methods import default_teacher, make_method
from ladseg.data import open_dataset, write_demo_scenes
from ladseg.deploy.student_file import load_student, save_student
from ladseg.deploy.teacher_file import load_teacher, read_teacher_header, save_teacher
from ladseg.errors import ModelError, RecipeError
from ladseg.models import build_model
from ladseg.objectives import LabelAssisted, Network, reorder_classes, segmenter
from ladseg.recipe import Data, Distill, Loss, Recipe, Schedule, StudentSettings, TeacherSettings
from ladseg.recipe_files import dump_recipe, load_recipe, make_recipe
from ladseg.report.next_steps import next_steps
from ladseg.results import RunResults, read_comparison, read_results, write_json
from ladseg.runs.finished_teacher import classes_by_name, teacher_file_of, twin_of, with_finished_teacher
from ladseg.seeds import generator_for
from tests.made_results import network_row, run_results
from tests.test_command_line import SMALL

NAMES = ["road", "car", "sky"]
DATA = {"class_names": NAMES, "colors": [(0, 0, 0), (9, 9, 9), (5, 5, 5)]}
IMAGE = torch.rand(2, 3, 40, 48, generator=torch.Generator().manual_seed(0))
LABEL = torch.randint(0, 3, (2, 40, 48), generator=torch.Generator().manual_seed(1))
LABEL[:, :5] = 255


def teacher(label_assisted: bool, **noise: object) -> Network:
    network = build_model("pspnet@test_resnet", 3)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # statistics of their own, as a trained network has them
            torch.nn.init.uniform_(module.running_mean, -1, 1)
    return (LabelAssisted(network, 3, **noise) if label_assisted else network).eval()  # type: ignore[arg-type]


def answer(network: Network, label: torch.Tensor = LABEL) -> torch.Tensor:
    draws = [generator_for(7, number) for number in range(2)]
    with torch.no_grad():
        output = network(IMAGE, label, draws) if isinstance(network, LabelAssisted) else network(IMAGE)
    assert isinstance(output.logits, torch.Tensor)
    return output.logits


@pytest.mark.parametrize("label_assisted", [True, False])
def test_it_comes_back_from_its_file_as_it_was(tmp_path: Path, label_assisted: bool) -> None:
    noise = {"alpha": 0.2, "scale": 1.7, "class_weights": "random", "ignore": "zero"}
    before = teacher(label_assisted, **noise)
    save_teacher(tmp_path / "teacher.safetensors", before, DATA)
    after = load_teacher(tmp_path / "teacher.safetensors")
    torch.testing.assert_close(answer(after), answer(before), rtol=0, atol=0)
    inner = segmenter(after)
    inner.aux_in_eval = True  # a distiller may read training-only heads too
    assert inner.trial_output().aux
    told = read_teacher_header(tmp_path / "teacher.safetensors")[1]
    assert told is None if not label_assisted else vars(told) == {**noise, "input_layer": None, "placebo": None}
    with pytest.raises(ModelError, match="a teacher for ladseg train --teacher-from"):
        load_student(tmp_path / "teacher.safetensors")


@pytest.mark.parametrize("label_assisted", [True, False])
def test_classes_in_another_order_or_fewer_of_them(label_assisted: bool) -> None:
    network = teacher(label_assisted)
    before = answer(network)
    classes = [2, 0]  # the data's class 0 is the network's 2, its class 1 the network's 0
    of_the_data = torch.full_like(LABEL, 255)
    of_the_data[LABEL == 2], of_the_data[LABEL == 0] = 0, 1
    known = LABEL.masked_fill(LABEL == 1, 255)
    before = answer(network, known) if label_assisted else before
    reorder_classes(network, classes)
    torch.testing.assert_close(answer(network, of_the_data), before[:, classes], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("wanted", "classes"),
    [(["road", "car", "sky"], [0, 1, 2]), (["Sky", " road"], [2, 0]), (["road", "tree", "boat"], "tree, boat;")],
)
def test_classes_go_by_name(wanted: list[str], classes: list[int] | str) -> None:
    if isinstance(classes, list):
        assert classes_by_name(Path("t"), NAMES, wanted) == classes
    else:
        with pytest.raises(ModelError, match=classes):
            classes_by_name(Path("t"), NAMES, wanted)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"train": False}, "teacher.weights must name the file"),
        ({"train": False, "weights": "f", "warm_start": True}, "leave one of them out"),
        ({"classes": [0, 1]}, "set teacher.train: false too"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, object], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        make_recipe({"teacher": settings})


@pytest.mark.parametrize("noise", [{}, {"alpha": 0.3, "class_weights": "random", "scale": 2.0}])
def test_what_a_comparison_makes_of_a_finished_teacher(noise: dict[str, object], tmp_path: Path) -> None:
    """``lad`` takes it, methods with another teacher train that as they would without it, and it is no placebo."""
    network = LabelAssisted(build_model("pspnet@test_resnet", 9), 9, **noise)  # type: ignore[arg-type]
    write_demo_scenes(tmp_path / "scenes", train=2, val=1, size=(16, 16))
    names = [f"c{number}" for number in range(9)]
    save_teacher(tmp_path / "t.safetensors", network, {"class_names": names, "colors": [(n, n, n) for n in range(9)]})
    data = Data(root=str(tmp_path / "scenes"), classes=names, ignore_index=9)
    own = Recipe(data=data, student=StudentSettings("pspnet@test_resnet"), teacher=TeacherSettings(alpha=0.05))
    there = replace(own, teacher=replace(own.teacher, weights=str(tmp_path / "t.safetensors"), train=False))
    base = with_finished_teacher(there, records_noise=False)
    assert make_method(base, "lad", default_teacher(base)).recipe.teacher.finished_file == str(
        tmp_path / "t.safetensors"
    )
    for word in ("kd+self", "lad-warm", "lad-warm+shuffled"):
        assert (
            make_method(base, word, default_teacher(base)).recipe == make_method(own, word, default_teacher(own)).recipe
        ), word
    for word in ("lad+shuffled", "lad+noise", "kd+shuffled", "cwd+noise"):
        with pytest.raises(RecipeError, match=f"--teacher.placebo {word.partition('+')[2]}"):
            make_method(base, word, default_teacher(base))
    recorded = with_finished_teacher(there).teacher
    expected = {"alpha": 0.01, "class_weights": "random", "scale": 1.0} | noise
    assert {key: getattr(recorded, key) for key in expected} == {
        **expected,
        "class_weights": network.noise.class_weights,
    }


def test_a_teacher_that_is_there_costs_nothing(tmp_path: Path) -> None:
    save_teacher(tmp_path / "t.safetensors", teacher(True), DATA)
    base = Recipe(student=StudentSettings("pspnet@test_resnet"))
    base = replace(base, schedule=replace(base.schedule, iterations=10, crop=(64, 64), batch_size=2))
    there = TeacherSettings(weights=str(tmp_path / "t.safetensors"), train=False, model="pspnet@test_resnet")
    reused = make_method(replace(base, teacher=there), "lad", default_teacher(base))
    trained = make_method(base, "lad", default_teacher(base))
    cost, own = (count_costs([m], 3, tmp_path / n, print)["lad"] for n, m in (("a", reused), ("b", trained)))
    assert total_macs(reused, cost) == marginal_macs(reused, cost) == 10 * cost.step_macs["student"]
    assert cost.step_macs["student"] == own.step_macs["student"]
    assert total_macs(trained, own) > marginal_macs(trained, own)
    # Methods whose teacher the comparison trains don't take the file's weights.
    for word in ("kd+self", "lad-warm"):
        other = make_method(replace(base, teacher=there), word, default_teacher(replace(base, teacher=there)))
        assert (other.recipe.teacher.train, other.recipe.teacher.weights) == (True, None)


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder of a plain run, and the words of a command that train another one."""
    root = tmp_path_factory.mktemp("plain_run")
    write_demo_scenes(root / "scenes", train=8, val=3, size=(32, 48))
    values = {"data.root": str(root / "scenes"), "data.classes": str(root / "scenes/classes.txt"), **SMALL}
    values |= {"schedule.iterations": "2", "teacher.iterations": "2"}
    words = ["train", "demo", *(word for key, value in values.items() for word in (f"--{key}", value))]
    assert main([*words, "--distill.method", "none", "--out", str(root / "run")]) == 0
    return root / "run", words


def test_a_plain_run_teaches_by_its_student(plain_run: tuple[Path, list[str]]) -> None:
    plain = plain_run[0]
    first = json.loads((plain / "results.json").read_text())["networks"]["baseline"]
    # The command that its page gives teaches another student.
    command = dict(next_steps(read_results(plain), plain, yaml.safe_load((plain / "recipe.yaml").read_text())))[
        "Teach a student of another seed by this one"
    ]
    assert main(shlex.split(command)[1:]) == 0
    taught = json.loads((plain.parent / "run-taught/results.json").read_text())
    assert taught["label_assisted"] is False
    assert taught["networks"]["teacher"]["mean_iou"] == pytest.approx(first["mean_iou"], abs=1e-6)
    assert taught["networks"]["student"]["steps"] == first["steps"] == 2


@pytest.mark.parametrize(
    ("section", "reset"),
    [
        ({}, ""),
        ({"model": "fcn@test_resnet"}, " --teacher.model null"),
        ({"features": "layer4", "label_assisted": False}, " --teacher.features null"),
        ({"warm_start": True}, ""),
        ({"snapshot": 0.5, "label_assisted": False}, ""),
        (
            {"weights": "old.safetensors", "train": False, "classes": [1, 0], "class_names": ["a", "b"]},
            " --teacher.classes null --teacher.class_names null",
        ),
    ],
)
def test_a_plain_runs_command_holds_whatever_its_recipe_says_of_a_teacher(
    section: dict[str, object], reset: str, plain_run: tuple[Path, list[str]], tmp_path: Path
) -> None:
    run, _ = plain_run
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    recipe["teacher"] |= section
    command = dict(next_steps(read_results(run), run, recipe))["Teach a student of another seed by this one"]
    assert command.endswith(f"-taught{reset}")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    line = shlex.split(command)[3:]  # without 'ladseg train RECIPE'
    own = line[line.index("--distill.method") :]
    asked = load_recipe(tmp_path / "recipe.yaml", own)
    keys = taught_by(Path(line[line.index("--teacher-from") + 1]), own, asked)
    taught = with_finished_teacher(load_recipe(tmp_path / "recipe.yaml", keys))
    assert (taught.teacher.model, taught.teacher.label_assisted) == ("pspnet@test_resnet", False)
    assert (taught.teacher.classes, taught.snapshot_step, taught.seed) == (None, None, 1)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--distill.method", "none"], "distill.method is none, so no student would learn"),
        (["--teacher.weights", "other.safetensors"], "--teacher-from and --teacher.weights both say"),
        (["--teacher.train=true"], "--teacher-from and --teacher.train both say"),
        (["--teacher.warm_start", "true"], "both name it; leave one of them out"),
        (["--teacher.snapshot", "0.5", "--teacher.label_assisted", "false"], "has the student teach itself"),
        (["--teacher.model", "stdc1"], "not 'stdc1'; leave --teacher.model out"),
        (["--teacher-from", ""], "the path is empty"),
        (["--teacher-from", "nowhere"], "nowhere: no such folder or file"),
    ],
)
def test_what_does_not_go_with_a_runs_teacher_is_refused(
    words: list[str], told: str, plain_run: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, train = plain_run
    try:
        code: object = main([*train, "--teacher-from", str(run), "--out", str(tmp_path / "no"), *words])
    except SystemExit as end:
        code = end.code
    assert (code, (tmp_path / "no").exists()) == (2, False)
    assert told in capsys.readouterr().err


def test_a_plain_run_of_the_same_seed_is_told_to_teach_little(plain_run: tuple[Path, list[str]]) -> None:
    run, _ = plain_run
    recipe = make_recipe({"student": {"model": "pspnet@test_resnet"}})
    twin = twin_of(run, recipe)
    assert twin is not None
    assert (twin[0], "little to teach" in twin[1]) == (0, True)
    assert twin_of(run, replace(recipe, student=StudentSettings("stdc1"))) is None
    assert twin_of(run / "student.safetensors", recipe) == twin
    assert twin_of(run / "recipe.yaml", recipe) is None


@pytest.mark.parametrize(
    ("change", "repeats"),
    [
        ({}, True),
        ({"out": "elsewhere", "name": "other"}, True),
        ({"distill": Distill(weight=1.0)}, False),
        ({"schedule": Schedule(iterations=7)}, False),
        ({"student": StudentSettings("stdc1")}, False),
        ({"baseline": False}, False),
        ({"loss": Loss(dice=1.0)}, False),
    ],
)
def test_a_student_that_a_run_has_trained_already_is_told(
    change: dict[str, Any], repeats: bool, tmp_path: Path
) -> None:
    recipe = Recipe(seed=3)
    rows = {key: network_row(0.5) for key in ("baseline", "teacher", "student")}
    write_json(tmp_path / "results.json", run_results(rows, seed=3))
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
    again = replace(recipe, teacher=TeacherSettings(weights="teacher.safetensors", train=False), **change)
    assert twin_of(tmp_path, again) == ((3, "has trained this student with seed 3 already") if repeats else None)


def test_a_comparison_learns_from_a_runs_teacher(
    plain_run: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, (_, *words) = plain_run
    out = tmp_path / "out"
    ours = ["compare", *words, "--teacher-from", str(run), "--out", str(out), "--plain-lengths", "1"]
    assert main([*ours, "--methods", "lad", "--seeds", "1"]) == 2
    told = "this teacher sees no label, and no method of --methods learns from it; add cwd, kd or the like"
    assert told in capsys.readouterr().err
    assert not out.exists()
    assert main([*ours, "--methods", "cwd", "--seeds", "1", "--teacher.weights", "other.safetensors"]) == 2
    assert "--teacher-from and --teacher.weights both say" in capsys.readouterr().err
    assert main([*ours, "--methods", "cwd", "--seeds", "0,1"]) == 0
    assert "is a plain run of seed 0, as one here: its student is the student alone" in capsys.readouterr().out
    taught = read_comparison(out).methods[1]
    assert taught.name.startswith("cwd+")
    assert taught.compute_total == taught.compute_marginal > 1  # the teacher was there
    assert taught.teacher_existed
    assert taught.break_even_students is None
    first = read_results(run)
    for seed in (0, 1):
        cell = read_results(out / f"seed-{seed}" / taught.name)
        assert isinstance(first, RunResults)
        assert isinstance(cell, RunResults)
        assert cell.networks["teacher"].steps == 0
        assert cell.networks["teacher"].mean_iou == pytest.approx(first.networks["baseline"].mean_iou, abs=1e-6)


def test_a_damaged_file_is_not_taken_for_another_librarys(plain_run: tuple[Path, list[str]], tmp_path: Path) -> None:
    file = tmp_path / "student.safetensors"
    file.write_bytes((plain_run[0] / "student.safetensors").read_bytes()[:1000])
    with pytest.raises(ModelError, match="not a safetensors file"):
        with_finished_teacher(make_recipe({"teacher": {"weights": str(file), "train": False}}))


def test_a_comparisons_cell_teaches_by_the_teacher_beside_it(
    plain_run: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, words = plain_run
    folder = tmp_path / "cmp"
    small = ["--methods", "none,lad", "--seeds", "0", "--plain-lengths", "1", "--out", str(folder)]
    assert main(["compare", *words[1:], *small]) == 0
    assert teacher_file_of(folder / "seed-0/lad") == folder / "seed-0/teacher-label/teacher.safetensors"
    assert teacher_file_of(folder / "seed-0/none") == folder / "seed-0/none/student.safetensors"
    with pytest.raises(RecipeError, match="a comparison, not one run; name a cell of it"):
        teacher_file_of(folder)
    # A teacher that is gone is not replaced by its student.
    (folder / "seed-0/teacher-label/teacher.safetensors").unlink()
    with pytest.raises(RecipeError, match=r"its teacher left no teacher\.safetensors"):
        teacher_file_of(folder / "seed-0/lad")


def own(classes: int) -> torch.nn.Module:
    return torch.nn.Conv2d(3, classes, 1)


def test_a_recipe_that_names_the_students_code_trusts_it_as_a_teacher(tmp_path: Path) -> None:
    write_demo_scenes(tmp_path / "scenes", train=2, val=2, size=(32, 48))
    name, file = "tests.test_finished_teacher:own", tmp_path / "student.safetensors"
    recipe = make_recipe({"teacher": {"weights": str(file), "train": False}}, ["--data.root", str(tmp_path / "scenes")])
    recipe = replace(recipe, data=replace(recipe.data, classes=str(tmp_path / "scenes/classes.txt")))
    names = open_dataset(recipe.data, "train").spec.class_names
    colors = [(number, 0, 0) for number in range(len(names))]
    save_student(file, build_model(name, len(names)), {"class_names": list(names), "colors": colors})
    with pytest.raises(ModelError, match=r"if you trust it, add --teacher\.model tests"):
        with_finished_teacher(recipe)
    assert with_finished_teacher(replace(recipe, student=StudentSettings(name))).teacher.model == name


def test_the_next_student_learns_from_the_teacher_that_a_run_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes = tmp_path / "scenes"
    write_demo_scenes(scenes, train=8, val=3, size=(32, 48))
    values = {"data.root": str(scenes), "data.classes": str(scenes / "classes.txt"), **SMALL}
    words = [word for key, value in values.items() for word in (f"--{key}", value)]
    assert main(["train", "demo", *words, "--out", str(tmp_path / "first"), "--teacher.alpha", "0.3"]) == 0
    first = json.loads((tmp_path / "first/results.json").read_text())["networks"]["teacher"]
    more = ["--teacher-from", str(tmp_path / "first"), "--out", str(tmp_path / "next"), "--seed", "1"]
    more += ["--teacher.lr", "0.5", "--teacher.alpha", "2"]
    capsys.readouterr()
    assert main(["train", "demo", *words, *more]) == 0
    assert "teacher of --teacher-from is finished: " in (told := capsys.readouterr().out)
    assert "--teacher.lr, --teacher.alpha" in told
    assert (tmp_path / "next/report.html").is_file()
    reused = json.loads((tmp_path / "next/results.json").read_text())["networks"]["teacher"]
    assert (reused["steps"], reused["seconds"]) == (0, 0)
    # The same network, noise and images: the same figures.
    for key in ("mean_iou", "iou", "mean_iou_without_label", "mean_iou_without_image", "mean_kl_between_draws"):
        assert reused[key] == pytest.approx(first[key], abs=1e-6, nan_ok=True)
    recipe = yaml.safe_load((tmp_path / "next/recipe.yaml").read_text())
    assert (recipe["teacher"]["alpha"], recipe["teacher"]["train"]) == (0.3, False)
    assert (tmp_path / "next/teacher.safetensors").read_bytes() == (tmp_path / "first/teacher.safetensors").read_bytes()
    capsys.readouterr()
    assert main(["train", "demo", *words, *more]) == 0
    assert "has finished before" in capsys.readouterr().out
    # The teacher is its content: a path of another spelling is the same one, other content at the path is not.
    (tmp_path / "first").rename(tmp_path / "moved")
    again = ["train", "demo", *words, "--out", str(tmp_path / "next"), *more[4:], "--teacher-from"]
    assert main([*again, str(tmp_path / "moved/../moved")]) == 0
    assert main(["train", str(tmp_path / "next/recipe.yaml"), "--out", str(tmp_path / "next")]) == 0, "it has a copy"
    (tmp_path / "moved").rename(tmp_path / "first")
    assert capsys.readouterr().out.count("has finished before") == 2
    file = tmp_path / "first/teacher.safetensors"
    kept = file.read_bytes()
    file.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    assert main(["train", "demo", *words, *more]) == 2
    assert "is no longer the file that taught its students" in capsys.readouterr().err
    file.write_bytes(kept)
    # What would train a teacher has no effect on a finished one, and is said; what contradicts its file is refused.
    words_of = ["train", "demo", *words, "--teacher-from", str(tmp_path / "first"), "--out", str(tmp_path / "no")]
    for key, value, told in (
        ("label_assisted", "false", "sees labels"),
        ("placebo", "shuffled", "was trained with the label itself"),
    ):
        assert main([*words_of, f"--teacher.{key}", value]) == 2
        assert told in capsys.readouterr().err
    assert main(["train", "demo", *words, "--teacher-from", str(scenes), "--out", str(tmp_path / "no")]) == 2
    assert "no teacher.safetensors or student.safetensors" in capsys.readouterr().err
    # A delivered student as a classic teacher; of another model than the recipe says it is refused.
    student = ["--teacher.weights", str(tmp_path / "first/student.safetensors"), "--teacher.train", "false"]
    recipe_of = make_recipe({}, [*words[:4], *student])
    assert with_finished_teacher(recipe_of).teacher.label_assisted is False
    with pytest.raises(ModelError, match=r"not 'stdc1'; leave --teacher\.model out"):
        with_finished_teacher(make_recipe({}, [*words[:4], *student, "--teacher.model", "stdc1"]))

"""What ``ladseg train`` does by default: plain first, LAD from there, and the better of the two on val is delivered."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ladseg import presets
from ladseg.cli import main
from ladseg.comparison.methods import default_teacher, make_method, with_one_start
from ladseg.data import write_demo_scenes
from ladseg.deploy.student_file import load_student
from ladseg.objectives import Network, TeacherObjective
from ladseg.recipe import Distill, Recipe, StudentSettings, TeacherSettings
from ladseg.recipe_files import load_recipe, make_recipe, recipe_names
from ladseg.results import NetworkRow, read_results
from ladseg.runs import run as runs
from ladseg.runs.networks import build_student, build_teacher
from ladseg.runs.trainings import baseline_training, student_training, teacher_training
from tests.test_command_line import SMALL

UNTRAINED = Recipe(student=StudentSettings("pspnet@test_resnet"))
PLAIN = TeacherSettings(label_assisted=False, train=False, warm_start=True)


@pytest.mark.parametrize(
    ("recipe", "warm"),
    [
        (Recipe(), True),
        (Recipe(baseline=False), False),
        (Recipe(distill=Distill(warm_start=False)), False),
        (Recipe(distill=Distill(method="none")), False),
        (Recipe(teacher=TeacherSettings(label_assisted=False, snapshot=0.5)), False),
        (Recipe(teacher=PLAIN), False),
        (Recipe(teacher=TeacherSettings(train=False, weights="teacher.safetensors")), True),
        (make_recipe({"preset": "paper"}), False),
        (make_recipe({"preset": "released-code"}), True),
        (with_one_start(Recipe()), False),
        (with_one_start(Recipe(distill=Distill(warm_start=True))), True),
        (make_method(Recipe(), "lad", default_teacher(Recipe())).recipe, False),
        (make_method(Recipe(), "lad-warm", default_teacher(Recipe())).recipe, True),
        (make_method(Recipe(), "kd", default_teacher(Recipe())).recipe, False),
    ],
)
def test_where_the_distilled_student_starts(recipe: Recipe, warm: bool) -> None:
    assert recipe.student_starts_warm is warm


def test_recipes_of_the_papers_tables_start_as_published() -> None:
    for name in recipe_names():
        recipe = load_recipe(name)
        published = presets.PRESETS[recipe.preset].get("distill", {}).get("warm_start")
        assert recipe.distill.warm_start is published, name
        assert published is False or not name.startswith("table-"), name


def test_a_warm_student_has_the_plain_ones_weights() -> None:
    recipe = UNTRAINED
    baseline = build_student(replace(recipe, seed=5), 3)
    for asked, same in ((None, True), (False, False)):
        asking = replace(recipe, distill=Distill(warm_start=asked))
        student = student_training(asking, 3, baseline, build_teacher(asking, 3, None)).network.state_dict()
        weights = baseline.state_dict()
        assert all(torch.equal(student[name], weights[name]) for name in weights) == same


@pytest.mark.parametrize("teacher", [TeacherSettings(), TeacherSettings(label_assisted=False)])
@pytest.mark.parametrize("start", [None, True, False])
def test_a_student_sees_the_plain_ones_batches_only_from_its_own_start(
    start: bool | None, teacher: TeacherSettings
) -> None:
    recipe = replace(UNTRAINED, teacher=teacher, distill=Distill(warm_start=start))
    plain = baseline_training(recipe, 3)
    taught = student_training(recipe, 3, plain.network, build_teacher(recipe, 3, None))
    teaching = teacher_training(recipe, 3, plain.network)
    assert (taught.seed == plain.seed) is (start is False)
    assert teaching.seed not in (plain.seed, taught.seed)
    assert len({made(replace(recipe, seed=seed), plain.network) for seed in (0, 1)}) == 2


def made(recipe: Recipe, baseline: Network) -> tuple[int, int]:
    """The seeds of teacher and student."""
    teacher = teacher_training(recipe, 3, baseline)
    return teacher.seed, student_training(recipe, 3, baseline, teacher.network).seed


def test_a_teacher_from_its_own_weights_is_not_the_student_over_again() -> None:
    recipe = replace(UNTRAINED, teacher=TeacherSettings(label_assisted=False, warm_start=False))
    student, teacher = build_student(recipe, 3).state_dict(), build_teacher(recipe, 3, None).state_dict()
    drawn = [name for name in student if name.endswith("conv1.weight")]
    assert drawn
    assert not any(torch.equal(student[name], teacher[name]) for name in drawn)
    again = build_teacher(recipe, 3, None).state_dict()
    assert all(torch.equal(teacher[name], again[name]) for name in teacher)


@pytest.mark.parametrize(
    ("settings", "weight"),
    [
        (TeacherSettings(), 0.0),
        (TeacherSettings(class_weights="none"), 0.0),
        (TeacherSettings(class_weights="random"), 1.0),
        (TeacherSettings(class_weights="random", consistency=0.0), 0.0),
        (TeacherSettings(consistency=0.5), 0.5),
        (make_recipe({"preset": "paper"}).teacher, 1.0),
        (make_recipe({"preset": "released-code"}).teacher, 5.0),
    ],
)
def test_the_consistency_loss_goes_with_random_class_weights(settings: TeacherSettings, weight: float) -> None:
    objective = teacher_training(replace(UNTRAINED, teacher=settings), 3, None).objective
    assert isinstance(objective, TeacherObjective)
    assert objective.consistency == weight


@pytest.mark.parametrize("better", ["baseline", "student"])
def test_the_better_one_on_val_is_delivered_and_the_other_kept(
    better: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes = tmp_path / "scenes"
    write_demo_scenes(scenes, train=8, val=3, size=(32, 48))
    values = {"data.root": str(scenes), "data.classes": str(scenes / "classes.txt"), **SMALL}
    words = [word for key, value in values.items() for word in (f"--{key}", value)]
    fit = runs.Run.fit

    def fitted(self: runs.Run, training: runs.Training) -> tuple[Network, NetworkRow]:
        network, row = fit(self, training)
        return network, replace(row, mean_iou=0.4 if training.key == better else 0.3)

    monkeypatch.setattr(runs.Run, "fit", fitted)
    out = tmp_path / "run"
    assert main(["train", "demo", *words, "--out", str(out)]) == 0
    name = {"baseline": "the student alone", "student": "the distilled student"}[better]
    printed = " ".join(capsys.readouterr().out.split())
    assert f"Delivered is {name}, the better one on val." in printed
    results = read_results(out)
    assert (results.delivers, results.student_starts_warm) == (better, True)
    assert results.delivered.mean_iou == 0.4
    page = (out / "report.html").read_text()
    assert page.count("(delivered)") == 1
    assert f"Delivered is {name}" in page
    # The delivered file holds that network's weights, the other file the other's.
    other = {"baseline": "distilled", "student": "plain"}[better]
    trained = {key: load_file(out / key / "weights.safetensors") for key in ("baseline", "student")}
    for file, key in (("student", better), (other, "student" if better == "baseline" else "baseline")):
        network, _ = load_student(out / f"{file}.safetensors")
        state = {name.removeprefix("core."): value for name, value in network.state_dict().items()}
        kept = {name.removeprefix("core."): value for name, value in trained[key].items()}
        shared = state.keys() & kept.keys()
        assert shared, (list(state)[:3], list(kept)[:3])
        assert all(torch.equal(state[name], kept[name]) for name in shared)
    assert not (out / f"{'plain' if better == 'baseline' else 'distilled'}.safetensors").exists()

"""Comparisons: what the methods have in common, what they cost, and what comes out."""

import functools
import io
import json
import math
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from safetensors.torch import load_file
from scipy import stats
from torch import nn

from ladseg.cli import main
from ladseg.commands.report import write_comparison
from ladseg.comparison.cells import cells_beside, make_cells
from ladseg.comparison.compare import compare
from ladseg.comparison.costs import count_costs, time_steps, total_macs, trainings_of
from ladseg.comparison.methods import (
    METHODS,
    classic_teacher,
    default_teacher,
    from_own_weights,
    is_on_plain_curve,
    lengthened,
    make_method,
)
from ladseg.comparison.summary import mean_with_interval
from ladseg.comparison.train_cells import _work_ahead
from ladseg.data import LAYOUTS, write_demo_scenes
from ladseg.deploy.student_file import is_trained, save_student
from ladseg.errors import RecipeError
from ladseg.files import write_text
from ladseg.measure.mac_counter import count_macs
from ladseg.measure.step_costs import step_macs, step_times
from ladseg.models import list_models
from ladseg.recipe import Distill, Recipe, Schedule, StudentSettings, TeacherSettings
from ladseg.recipe_files import dump_recipe, load_recipe
from ladseg.report.comparison_plot import spread
from ladseg.report.comparison_tables import compare_tables
from ladseg.report.paper_tables import paper_rows
from ladseg.results import MeanInterval, MethodRow, NetworkCost, TeacherCost, write_json
from ladseg.runs.networks import build_student
from ladseg.runs.run import train_networks
from ladseg.runs.train import train
from ladseg.runs.trainings import baseline_training, student_training, teacher_training
from tests.made_results import comparison_results, method_row
from tests.test_command_line import SMALL, run_in_a_process

CLASSES = 9
BASE = Recipe(
    student=StudentSettings(model="pspnet@test_resnet"),
    teacher=TeacherSettings(iterations=3),
    distill=Distill(warm_start=False),
    schedule=Schedule(iterations=4, batch_size=4, crop=(32, 48), precision="fp32"),
)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    write_demo_scenes(root, train=8, val=3, size=(32, 48))
    return root


def recipe_of(scenes: Path, out: Path, *more: str) -> Recipe:
    words = {"data.root": str(scenes), "data.classes": str(scenes / "classes.txt"), "out": str(out), **SMALL}
    return load_recipe("demo", [*(w for key, value in words.items() for w in (f"--{key}", value)), *more])


@pytest.mark.parametrize("word", METHODS)
def test_methods_differ_in_teacher_and_distillation_alone(word: str) -> None:
    method = make_method(BASE, word, default_teacher(BASE))
    assert replace(method.recipe, teacher=BASE.teacher, distill=BASE.distill, schedule=BASE.schedule) == BASE
    average = 0.999 if word in ("none-ema", "none-long-ema") else None
    assert method.recipe.schedule == replace(BASE.schedule, ema=average)
    assert is_on_plain_curve(word) == (word in ("none", "none-long"))
    assert method.recipe.teacher.label_assisted == word.startswith(("lad", "none"))


def test_averaged_controls_keep_the_recipes_decay_and_cost_what_the_plain_ones_do(tmp_path: Path) -> None:
    base = replace(BASE, schedule=replace(BASE.schedule, ema=0.9))
    averaged = make_method(base, "none-ema", default_teacher(base))
    assert (averaged.teacher, averaged.recipe.distill.method, averaged.recipe.schedule.ema) == (None, "none", 0.9)
    methods = [make_method(BASE, word, default_teacher(BASE)) for word in ("none", "none-ema")]
    costs = count_costs(methods, CLASSES, tmp_path, lambda line: None)
    assert total_macs(methods[1], costs["none-ema"]) == total_macs(methods[0], costs["none"])
    cells = make_cells(BASE, methods, [0])
    assert cells[0].shared != cells[1].shared == {}, "an average has a training of its own"


def test_a_distiller_names_its_teacher() -> None:
    classic = classic_teacher(BASE, "deeplabv3@test_resnet", "w.safetensors")
    kd = make_method(BASE, "kd", classic)
    assert (kd.name, kd.recipe.teacher) == ("kd+deeplabv3@test_resnet", classic)
    assert classic.warm_start is False
    assert classic.iterations is None
    assisted = make_method(BASE, "kd+label", classic)
    assert assisted.recipe == replace(BASE, distill=Distill(method="kd", warm_start=False))
    own = make_method(BASE, "kd+self", classic)
    assert own.recipe.teacher == replace(BASE.teacher, label_assisted=False, iterations=3)
    other = make_method(BASE, "kd+fcn@test_resnet", classic)
    assert (other.recipe.teacher.model, other.recipe.teacher.label_assisted) == ("fcn@test_resnet", False)
    assert make_method(BASE, "cwd-full", classic).recipe.distill == Distill(method="cwd-full", warm_start=False)


def test_a_teacher_by_its_model_is_the_one_of_the_command_line() -> None:
    """With its weights: two teachers of one name would be trained into one folder."""
    classic = classic_teacher(BASE, "deeplabv3@test_resnet", "w.safetensors")
    assert make_method(BASE, "kd+deeplabv3@test_resnet", classic) == make_method(BASE, "kd", classic)
    with pytest.raises(RecipeError, match="--teacher-weights are those of a classic teacher; name its network"):
        compare(BASE, ["kd"], [0], teacher_weights="w.safetensors")


def test_other_weights_of_the_teacher_are_refused_where_a_cell_has_finished_with_the_first(tmp_path: Path) -> None:
    """They would be told as those of the new ones: both methods have the same name."""
    recipe = replace(BASE, out=str(tmp_path))
    method = make_method(recipe, "kd", classic_teacher(recipe, "deeplabv3@test_resnet", "a.safetensors"))
    (cell,) = make_cells(recipe, [method], [0])
    write_text(cell.folder / "recipe.yaml", dump_recipe(cell.recipe))
    other = r"kd\+deeplabv3@test_resnet holds a run of another recipe \(teacher.weights: a.safetensors there, b.saf"
    with pytest.raises(RecipeError, match=other):
        compare(recipe, ["lad", "kd"], [0], "deeplabv3@test_resnet", "b.safetensors")


def test_beside_a_classic_teacher_lad_and_self_are_of_the_students_model() -> None:
    base = replace(
        BASE, teacher=TeacherSettings(label_assisted=False, model="fcn@test_efficientnet", weights="w", iterations=3)
    )
    chosen = default_teacher(base)
    assert make_method(base, "kd", chosen).name == "kd+fcn@test_efficientnet"
    assert make_method(base, "lad", chosen).recipe.teacher == TeacherSettings(iterations=3)
    assert make_method(base, "kd+label", chosen).recipe.teacher == TeacherSettings(iterations=3)
    own = make_method(base, "kd+self", chosen)
    assert (own.name, own.recipe.teacher) == ("kd+self", TeacherSettings(label_assisted=False, iterations=3))
    # With a consistency loss the label-assisted teacher has two paths a step, and this one has twice the steps.
    paired = replace(BASE, teacher=TeacherSettings(class_weights="random", iterations=3))
    assert make_method(paired, "kd+self", default_teacher(paired)).recipe.teacher.iterations == 6
    # A label-assisted teacher of another model is what the recipe asks for.
    other = replace(BASE, teacher=TeacherSettings(model="fcn@test_efficientnet"))
    assert make_method(other, "lad", default_teacher(other)).recipe == other


def test_two_teachers_never_share_a_name() -> None:
    """Their trainings would share a folder."""
    for teacher in (
        TeacherSettings(warm_start=False),
        TeacherSettings(label_assisted=False, iterations=5),
        TeacherSettings(warm_start=True),
    ):
        base = replace(BASE, teacher=teacher)
        words = ("kd", "kd+self", "kd+label", "kd+deeplabv3@test_resnet")
        made = [make_method(base, word, default_teacher(base)) for word in words]
        assert made[1].name == "kd+self"
        assert len({method.name for method in made}) == len({repr(method.recipe) for method in made})


def test_a_trained_student_is_where_lad_warm_begins(tmp_path: Path) -> None:
    network = build_student(BASE, CLASSES)
    file = tmp_path / "mine.safetensors"
    save_student(file, network, {"class_names": [f"class {i}" for i in range(CLASSES)]})
    assert is_trained(str(file), BASE.student.model, CLASSES)
    assert not is_trained(str(file), BASE.student.model, CLASSES + 1)
    assert not is_trained(str(file), "fcn@test_resnet", CLASSES)
    assert not is_trained("timm", BASE.student.model, CLASSES)
    assert not is_trained(None, BASE.student.model, CLASSES)
    base = replace(BASE, student=replace(BASE.student, weights=str(file)))
    warm = from_own_weights(make_method(base, "lad-warm", default_teacher(base)))
    trainings = trainings_of(warm.recipe, CLASSES)
    assert [training.key for training in trainings] == ["teacher", "student"]
    teacher, student = (training.network for training in trainings)
    image = torch.rand(1, 3, 32, 48)
    expected = network.eval()(image).logits
    assert torch.equal(student.eval()(image).logits, expected)
    # Widened by zeros: whatever the label, it answers as the student.
    label = torch.randint(CLASSES, (1, 32, 48))
    torch.testing.assert_close(teacher.eval()(image, label).logits, expected)


def test_what_the_teacher_sees_and_what_is_read_is_the_recipes() -> None:
    asked = Distill(method="feature", layer="backbone", alpha=0.02, class_weights="fixed", weight=5.0)
    base = replace(BASE, distill=asked)
    # kd reads no layer.
    for name, layer in (("at", "backbone"), ("kd", None)):
        rival = make_method(base, f"{name}+label", default_teacher(BASE)).recipe.distill
        assert rival == Distill(method=name, layer=layer, warm_start=False, alpha=0.02, class_weights="fixed")
    voc = replace(BASE, data=replace(BASE.data, layout="voc"))
    weights = make_method(voc, "cirkd", default_teacher(voc)).recipe.distill.term_weights
    assert weights == {"cirkd_pixel": 0.01, "cirkd_region": 0.01}


def test_lad_warm_starts_both_from_the_trained_student() -> None:
    warm = make_method(BASE, "lad-warm", default_teacher(BASE)).recipe
    assert (warm.teacher.warm_start, warm.teacher.slice_std, warm.distill.warm_start) == (True, 0.0, True)
    assert warm.teacher.iterations == 3
    unset = replace(BASE, teacher=TeacherSettings())
    assert make_method(unset, "lad-warm", default_teacher(unset)).recipe.teacher.iterations == 2


@pytest.mark.parametrize("word", ["lda", "none+self", "lad+label", "+self", ""])
def test_an_unknown_method_is_refused(word: str) -> None:
    with pytest.raises(RecipeError, match="no method is called"):
        make_method(BASE, word, default_teacher(BASE))


@pytest.mark.parametrize(
    ("words", "seeds", "told"),
    [
        (["none"], [0], "1 cell, about 1 times the work of training the student alone"),
        # Of each seed: a plain training, one of twice the steps, a teacher and two students of 4/3 each; shared: once.
        (["none", "none-2x", "lad", "kd+label"], [0, 1, 2], "12 cells, about 20 times the work"),
        (["none", "none-2x", "none-4x"], [0, 1], "; 12 times for the plain curve (--plain-lengths)"),
    ],
)
def test_a_comparison_says_how_much_work_it_is(words: list[str], seeds: list[int], told: str) -> None:
    base = replace(Recipe(), schedule=Schedule(iterations=30))
    methods = [make_method(base, word, default_teacher(base)) for word in words]
    assert told in _work_ahead(make_cells(base, methods, seeds), 30)


@pytest.mark.parametrize(("every", "steps", "longer"), [(20, 100, 340), (2, 4, 17), (80, 240, 701), (7, 100, 333)])
def test_longer_runs_are_evaluated_equally_often(every: int, steps: int, longer: int) -> None:
    base = replace(BASE, schedule=replace(BASE.schedule, iterations=steps, eval_every=every))
    schedule = lengthened(make_method(base, "none-long", default_teacher(base)), longer).recipe.schedule
    assert schedule.iterations == longer
    assert schedule.eval_every is not None
    assert math.ceil(longer / schedule.eval_every) == math.ceil(steps / every)


def forward_macs(run: Callable[[], Any], modules: list[nn.Module]) -> dict[nn.Module, int]:
    """By hand, of each convolution and linear layer."""
    macs: dict[nn.Module, int] = {}

    def hook(module: Any, inputs: Any, output: torch.Tensor) -> None:
        macs[module] = macs.get(module, 0) + output.numel() * module.weight[0].numel()

    handles = [m.register_forward_hook(hook) for m in modules if isinstance(m, nn.Conv2d | nn.Linear)]
    run()
    for handle in handles:
        handle.remove()
    return macs


@pytest.mark.parametrize("model", [BASE.student.model, "fcn@test_efficientnet"])
def test_macs_of_a_training_step_are_those_of_its_layers(model: str) -> None:
    """The second has depthwise layers, whose backward pass torch's formula counts too high."""
    base = replace(BASE, student=replace(BASE.student, model=model))
    batch = base.schedule.batch_size
    plain = baseline_training(base, CLASSES)
    image = torch.zeros(batch, 3, *base.schedule.crop)
    layers = list(plain.network.modules())
    forward = forward_macs(lambda: plain.network.train()(image), layers)
    first = next(iter(forward.values()))
    # Backwards each layer costs twice as much, but the first has no gradient of its input to find.
    assert step_macs(plain, CLASSES) == 3 * sum(forward.values()) - first

    teacher = teacher_training(base, CLASSES, None)
    student = student_training(base, CLASSES, None, teacher.network)
    wide = torch.zeros(batch, 4, *base.schedule.crop)
    inner = teacher.network.network
    frozen = forward_macs(lambda: inner.eval()(wide), list(inner.modules()))
    assert step_macs(student, CLASSES) == 3 * sum(forward.values()) - first + sum(frozen.values())


def test_macs_of_a_large_batch_are_found_from_small_ones() -> None:
    """Of CIRKD too, which relates every image of the batch to every other."""
    eight = replace(BASE, schedule=replace(BASE.schedule, batch_size=8))
    method = make_method(eight, "cirkd+label", default_teacher(eight))
    student = trainings_of(method.recipe, CLASSES)[-1]
    batch = {
        "image": torch.zeros(8, 3, *BASE.schedule.crop),
        "label": torch.zeros(8, *BASE.schedule.crop, dtype=torch.int64),
        "seed": torch.arange(8),
    }
    objective = student.objective.train()
    assert step_macs(student, CLASSES) == count_macs(lambda: objective(batch)["loss"].backward())


@pytest.mark.parametrize(("consistency", "self_steps"), [(0.0, 3), (1.0, 6)])
def test_total_compute_is_steps_times_macs_of_all_that_was_trained(
    consistency: float, self_steps: int, tmp_path: Path
) -> None:
    base = replace(BASE, teacher=replace(BASE.teacher, consistency=consistency))
    methods = [make_method(base, word, default_teacher(base)) for word in ("none", "kd", "lad", "kd+fcn@test_resnet")]
    costs = count_costs(methods, CLASSES, tmp_path, lambda line: None)
    none, kd, lad, other = (costs[method.name].step_macs for method in methods)
    assert set(none) == {"baseline"}
    assert set(kd) == set(lad) == {"baseline", "teacher", "student"}
    assert set(other) == {"teacher", "student"}  # that teacher owes nothing to the plain student
    totals = [total_macs(method, costs[method.name]) for method in methods]
    assert totals == [
        4 * none["baseline"],
        4 * kd["baseline"] + self_steps * kd["teacher"] + 4 * kd["student"],
        4 * lad["baseline"] + 3 * lad["teacher"] + 4 * lad["student"],
        4 * other["teacher"] + 4 * other["student"],
    ]
    # Both teachers cost the same but for the label's channel: as many paths in steps, or in twice the steps.
    assert totals[1] == pytest.approx(totals[2], rel=0.02)
    assert costs["lad"].teacher is not None
    assert costs["lad"].teacher.parameters - costs["lad"].student.parameters == 16 * 3 * 3


def test_costs_of_another_recipe_are_counted_again(tmp_path: Path) -> None:
    said: list[str] = []
    method = make_method(BASE, "lad", default_teacher(BASE))
    first = count_costs([method], CLASSES, tmp_path, said.append)
    assert count_costs([method], CLASSES, tmp_path, said.append) == first
    assert len(said) == 1
    wider = replace(method.recipe, schedule=replace(BASE.schedule, crop=(32, 64)))
    second = count_costs([replace(method, recipe=wider)], CLASSES, tmp_path, said.append)
    assert second["lad"].step_macs["student"] > first["lad"].step_macs["student"]


@pytest.mark.parametrize("word", ["kd", "maskd", "dsd"])
def test_a_teacher_costs_what_it_predicts_for(word: str, tmp_path: Path) -> None:
    """Whatever a distiller asks of it beside; and what a first stage has learned is not learned again."""
    method = make_method(BASE, f"{word}+fcn@test_resnet", default_teacher(BASE))
    cost = count_costs([method], CLASSES, tmp_path, lambda line: None)[method.name]
    teacher = teacher_training(method.recipe, CLASSES, None).network.eval()
    forward = forward_macs(lambda: teacher(torch.zeros(1, 3, *BASE.schedule.crop)), list(teacher.modules()))
    assert cost.teacher is not None
    assert cost.teacher.macs == sum(forward.values())
    student = trainings_of(method.recipe, CLASSES)[-1].objective
    assert not any(p.requires_grad for p in student.distiller.parameters())


def test_methods_that_do_not_fit_a_device_together_are_not_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr("ladseg.comparison.costs.step_times", full)
    methods = [make_method(BASE, "none", default_teacher(BASE))]
    costs = count_costs(methods, CLASSES, tmp_path, lambda line: None)
    said: list[str] = []
    assert time_steps(methods, costs, CLASSES, tmp_path, torch.device("cpu"), said.append) == costs
    assert "their steps are not timed" in said[-1]


@pytest.mark.parametrize(
    ("finished", "methods", "seeds", "listed", "options"),
    [
        (["none:1", "lad:1"], ["none", "lad"], [1], None, None),
        # A cell of the summary itself may be unfinished.
        (["none:1"], ["none", "lad"], [1, 2], None, None),
        (
            ["none:1", "lad:1", "kd+self:1"],
            ["none", "lad"],
            [1],
            "(kd+self with --seeds 1)",
            "--methods none,lad,kd+self --seeds 1 --plain-lengths 1",
        ),
        (
            ["none:1", "none:2", "none-2x:1", "none-2x:2", "none-4x:1", "none-4x:2", "lad:1", "lad:2"],
            ["none", "none-2x", "lad"],
            [2],
            "(lad with --seeds 1; none with --seeds 1; none-2x with --seeds 1; none-4x with --seeds 1,2)",
            "--methods none,lad --seeds 1,2 --plain-lengths 1,2,4",
        ),
        # Two methods and two seeds are four cells, one of which was never trained.
        (
            ["none:1", "none:10", "lad:1"],
            ["none"],
            [10],
            "(lad with --seeds 1; none with --seeds 1)",
            "--methods none,lad --seeds 1,10 --plain-lengths 1, which trains 1 more",
        ),
    ],
)
def test_a_narrower_summary_names_what_it_leaves_out(
    finished: list[str], methods: list[str], seeds: list[int], listed: str | None, options: str | None, tmp_path: Path
) -> None:
    for name, _, seed in (one.partition(":") for one in finished):
        write_text(tmp_path / f"seed-{seed}" / name / "results.json", "{}")
    write_text(tmp_path / "seed-1/teacher-label/row.json", "{}")  # no cell
    said = cells_beside(tmp_path, methods, seeds)
    if listed is None:
        assert said is None
    else:
        assert said is not None
        assert listed in said
        assert said.endswith(f"shown with {options}")


def test_steps_are_timed_in_turns() -> None:
    teacher = teacher_training(BASE, CLASSES, None)
    trainings = {
        "none": baseline_training(BASE, CLASSES),
        "lad": student_training(BASE, CLASSES, None, teacher.network),
    }
    times = step_times(trainings, CLASSES, torch.device("cpu"))
    assert list(times) == ["none", "lad"]
    weights = 4 * sum(p.numel() for p in trainings["none"].objective.parameters())
    for time in times.values():
        assert time.milliseconds > 0
        # Weights and SGD's momentum at the least, where the system tells.
        assert time.memory is None or time.memory > 2 * weights


@given(st.lists(st.floats(-1, 1, allow_subnormal=False), min_size=2, max_size=9))
def test_interval_is_that_of_a_paired_t_test(values: list[float]) -> None:
    found = mean_with_interval(values)
    zeros = [0.0] * len(values)
    if len(set(values)) > 1:
        interval = stats.ttest_rel(values, zeros).confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-6, abs=1e-9)
    assert mean_with_interval(values[:1]) == MeanInterval(values[0], None, None)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_labels_keep_their_order_and_distance(places: list[float]) -> None:
    moved = spread(sorted(places), 0.05)
    assert all(b - a >= 0.05 - 1e-9 for a, b in pairwise(moved))
    assert sum(moved) == pytest.approx(sum(places), abs=1e-9)


@pytest.mark.slow
def test_a_comparison_trains_each_cell_once_and_as_a_run_would(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(scenes, tmp_path / "compare")
    run = functools.partial(compare, plain_lengths=[1, 2], log=lambda line: None)
    methods = ["none-long", "kd", "lad", "lad-warm"]
    # The cells of one seed by another process, as it were.
    part = run(recipe, methods, [0, 1], only=[("lad", 1), ("kd", 1)])
    assert part is not None
    assert [row.step_ms for row in part.methods] == [None] * 6
    assert not (tmp_path / "compare/seed-0").exists()
    results = run(recipe, methods, [0, 1])
    assert results is not None
    assert [row.name for row in results.methods] == ["none", "none-2x", "none-long", "kd+self", "lad", "lad-warm"]
    assert all(set(row.mean_iou) == {0, 1} for row in results.methods)
    rows = {row.name: row for row in results.methods}

    words = ["--seed", "1", "--distill.warm_start", "false"]
    lone = train(recipe_of(scenes, tmp_path / "run", *words), log=lambda line: None)
    assert lone is not None
    assert rows["none"].mean_iou[1] == lone.networks["baseline"].mean_iou
    assert rows["lad"].mean_iou[1] == lone.networks["student"].mean_iou
    distilled = "student" if lone.delivers == "student" else "distilled"
    files = (tmp_path / "compare/seed-1/lad/student.safetensors", tmp_path / f"run/{distilled}.safetensors")
    ours, theirs = map(load_file, files)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)

    lad, none, longer = rows["lad"], rows["none"], rows["none-long"]
    for difference, other in ((lad.difference, none), (lad.against_long, longer)):
        gains = [lad.mean_iou[seed] - other.mean_iou[seed] for seed in (0, 1)]
        assert difference is not None
        assert difference.mean == pytest.approx(sum(gains) / 2)
    assert none.difference is longer.against_long is None
    assert longer.macs == pytest.approx(lad.macs, rel=0.1)
    assert lad.step_ms is not None
    assert lad.step_ms > 0

    # Judged against the seed's own plain curve: at LAD's total compute it was trained itself.
    assert rows["none-2x"].macs == 2 * none.macs
    assert lad.gain_at_equal_total is not None
    assert lad.against_long is not None
    assert lad.gain_at_equal_total == pytest.approx(lad.against_long.mean, abs=0.01)
    step = json.loads((recipe.folder / "costs.json").read_text())["lad"]["step_macs"]["student"]
    assert lad.compute_marginal == pytest.approx(4 * step / none.macs)
    assert rows["lad-warm"].compute_marginal == pytest.approx(1 + lad.compute_marginal, rel=0.01)

    # All is done: nothing is trained again.
    with pytest.raises(RecipeError, match="holds a run"):
        run(replace(recipe, out=str(tmp_path / "run")), methods, [0])
    monkeypatch.setattr("ladseg.comparison.sharing.train_networks", None)
    again = run(recipe, methods, [0, 1])
    assert again is not None
    assert replace(again, environment=results.environment) == results
    # Once the figures are written, nothing is opened either.
    write_comparison(recipe.folder, results)
    monkeypatch.setattr("ladseg.comparison.train_cells.open_workspace", None)
    assert run(recipe, methods, [0, 1]) == results
    # What is missing, wanted beside it or changed opens it again.
    for changed in ([*methods, "cwd"], methods[1:]):
        with pytest.raises(TypeError, match="not callable"):
            run(recipe, changed, [0, 1])
    (recipe.folder / "seed-1/lad/results.json").unlink()
    with pytest.raises(TypeError, match="not callable"):
        run(recipe, methods, [0, 1])


def test_tables_of_the_terminal_cut_no_figure() -> None:
    """In 80 columns, with the names that a real comparison has."""
    figures: dict[str, Any] = {
        "std": 0.0123,
        "difference": MeanInterval(0.0123, -0.1234, 0.1234),
        "seconds": 123456.0,
        "teacher_seconds": 1234567.0,
        "macs": 123_000_000_000_000_000,
        "step_ms": 1295.3,
        "step_memory": 23_456_000_000,
        "student": NetworkCost(13_607_974, 517_495_000_000),
        "teacher": TeacherCost("deeplabv3_r101", "deeplabv3_r101", 61_118_950, 2_063_346_000_000),
    }
    names = ("none", "feature+deeplabv3_r101", "cwd-full+deeplabv3_r101")
    judged = {"compute_total": 12.34, "compute_marginal": 1.33, "gain_at_equal_total": 0.0123, "p_sign_flip": 0.5}
    judged |= {"interval_t": (-0.1234, 0.1234), "p_holm": 1.0, "gain_at_equal_marginal": -0.0321}
    judged |= {"marginal_interval_t": (-0.1111, 0.1111), "break_even_students": 1000}
    rows = [method_row(name, 0.7712, **figures, **judged) for name in names]
    console = Console(width=80, file=io.StringIO())
    for table in compare_tables(comparison_results(rows), 80):
        console.print(table)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in printed
    figures_of_all = ("77.12 ± 1.23", "+1.23 [-12.34, +12.34]", "2063.35", "1234567", "23456", "Student's t")
    for figure in (*figures_of_all, "-3.21 [-11.11, +11.11]", "0.500", " 1000"):
        assert figure in printed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("finished", "stages"),
    [
        ([], ["stage 1 of 3: baseline", "stage 2 of 3: teacher", "stage 3 of 3: student"]),
        (["baseline"], ["stage 1 of 2: teacher", "stage 2 of 2: student"]),
        (["baseline", "teacher"], ["student"]),
    ],
)
def test_stages_are_those_that_the_run_itself_trains(
    finished: list[str], stages: list[str], scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cell has its baseline from another cell, and its teacher perhaps."""
    recipe = recipe_of(scenes, tmp_path / "run")
    shared = {key: tmp_path / "shared" / key for key in ("baseline", "teacher")}
    if finished:
        assert train_networks(recipe, lambda line: None, shared=shared) is not None
        for key in shared.keys() - set(finished):
            shutil.rmtree(shared[key])
    capsys.readouterr()
    recipe = replace(recipe, out=str(tmp_path / "cell"))
    assert train_networks(recipe, lambda line: None, shared=shared) is not None
    said = [line.partition("  ")[0] for line in capsys.readouterr().out.splitlines() if "  " in line]
    assert list(dict.fromkeys(said)) == stages


@pytest.mark.slow
def test_the_command_writes_tables_and_plot(scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--data.root", str(scenes), "--data.classes", str(scenes / "classes.txt")]
    small = [word for key, value in SMALL.items() for word in (f"--{key}", value)]
    out = tmp_path / "compare"
    words = ["compare", "demo", *data, *small, "--out", str(out), "--seeds", "0", "--methods", "none,cwd+label"]
    words += ["--plain-lengths", "1"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "cwd+label" in printed
    table = (out / "results.md").read_text()
    assert "| cwd+label | " in table
    assert "Student's t" in table
    latex = (out / "results.tex").read_text()
    assert latex.count("\\begin{tabular}") == latex.count("\\end{tabular}") == 3
    assert "%" not in latex.replace("\\%", "")
    assert (out / "results.png").stat().st_size > 10_000
    assert json.loads((out / "results.json").read_text())["methods"][1]["name"] == "cwd+label"
    for wrong, message in (
        (["--methods", "lda"], "did you mean 'lad'?"),
        (["--cell", "lad:0"], "--cell lad:0 is not among --methods and --seeds"),
        (["--student.output_stride", "16"], "holds a run of another recipe"),
    ):
        assert main([*words, *wrong]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_share_a_teacher(scenes: Path, tmp_path: Path) -> None:
    out = tmp_path / "compare"
    words = ["compare", "demo", "--data.root", str(scenes), "--data.classes", str(scenes / "classes.txt")]
    words += [word for key, value in SMALL.items() for word in (f"--{key}", value)]
    words += ["--out", str(out), "--methods", "kd,cwd", "--seeds", "0", "--plain-lengths", "1", "--cell"]
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(run_in_a_process, ([*words, "kd:0"], [*words, "cwd+self:0"])))
    assert all(result.returncode == 0 for result in results), results
    teachers = list(out.glob("seed-0/teacher*"))
    assert [teacher.name for teacher in teachers] == ["teacher-self"]
    logged = [json.loads(line) for line in (teachers[0] / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in logged if "loss" in line]
    assert steps == sorted(set(steps))
    assert len(steps) > 0


def test_the_papers_figures_stand_beside_ours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its gains are printed there too: they are the differences of the figures that we copied."""
    rows = paper_rows()
    alone = {(row["table"], row["layout"], row["student"]): row["val"] for row in rows if row["method"] == "none"}
    gains = {
        (row["table"], row["student"], row["method"].split("+")[0]): float(row["val"])
        - float(alone[row["table"], row["layout"], row["student"]])
        for row in rows
        if row["table"] in "123"
    }
    printed = {
        ("1", "deeplabv3_r18"): {"skd": 1.2, "lad": 3.5},
        ("1", "pspnet_r18"): {"cirkd": 2.1, "maskd": 2.7},
        ("2", "deeplabv3_r18"): {"cwd-full": 2.8, "ifvd": 1.3},
        ("2", "pspnet_r18"): {"skd": 1.9, "lad": 4.0},
        ("3", "deeplabv3_r18"): {"cirkd": 1.3, "ifvd": 0.7},
        ("3", "pspnet_r18"): {"skd": 0.8, "lad": 2.1},
    }
    for (table, student), expected in printed.items():
        for name, gain in expected.items():
            assert gains[table, student, name] == pytest.approx(gain, abs=0.01), (table, student, name)
    assert {row["student"] for row in rows} <= set(list_models())
    assert {row["layout"] for row in rows} <= set(LAYOUTS)
    assert {re.split(r"[+@]", row["method"])[0] for row in rows} <= set(METHODS)

    def lad(teacher: str) -> MethodRow:
        figures = {"std": 0.0034, "difference": MeanInterval(0.0123, None, None), "step_ms": 77.2}
        teacher_cost = TeacherCost("label", teacher, 1000, 2000)
        return method_row("lad", 0.6512, mean_iou={0: 0.6512}, teacher=teacher_cost, **figures)

    def line_of(figure: str) -> list[str]:
        assert main(["paper", str(tmp_path)]) == 0
        (line,) = (line for line in capsys.readouterr().out.splitlines() if figure in line)
        return line.split()

    monkeypatch.setenv("COLUMNS", "200")
    ours = comparison_results([lad("pspnet_r18")], layout="voc", weights="timm", student="pspnet_r18")
    write_json(tmp_path / "results.json", ours)
    write_text(tmp_path / "recipe.yaml", dump_recipe(load_recipe("table-3-pspnet_r18")))
    found = line_of("65.1 ± 0.3")
    assert found[:9] == ["lad", "75.4", "+2.1", "65.1", "±", "0.3", "+1.2", "1", "77"]
    assert " ".join(found[9:]).startswith("LAD's own schedule is not published")
    # Other class weights make it another method: no figure stands there, but what differs.
    other = load_recipe("table-3-pspnet_r18", ["--teacher.class_weights", "fixed"])
    write_text(tmp_path / "recipe.yaml", dump_recipe(other))
    different = "not the published teacher.class_weights (fixed, not random)"
    assert line_of("not the published")[3:] == different.split()
    # A rival of other settings than the tables' is said to be one; its run's own recipe tells.
    rival = method_row("cirkd+deeplabv3_r101", 0.6423, mean_iou={0: 0.6423})
    write_json(tmp_path / "results.json", replace(ours, methods=[rival]))
    published = load_recipe("table-3-pspnet_r18")
    write_text(tmp_path / "recipe.yaml", dump_recipe(published))
    for options, shown in ((None, "(None, not {'group': 2})"), ({"group": 2}, "64.2")):
        trained = replace(published, distill=Distill(method="cirkd", options=options))
        write_text(tmp_path / "seed-0/cirkd+deeplabv3_r101/recipe.yaml", dump_recipe(trained))
        assert line_of(shown)[:2] == ["cirkd", "74.8"]
    # A label-assisted teacher of another network is another row.
    write_text(tmp_path / "recipe.yaml", dump_recipe(load_recipe("table-1-pspnet_r18")))
    write_json(tmp_path / "results.json", replace(ours, layout="cityscapes", methods=[lad("deeplabv3_r18")]))
    assert line_of("65.1 ± 0.3")[:3] == ["lad+deeplabv3_r18", "76.2", "+3.6"]
    assert main(["paper", str(tmp_path / "nowhere")]) == 2
    assert "is not the folder of a comparison" in capsys.readouterr().err

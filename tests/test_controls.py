"""Controls that absorb false gains: a student that teaches itself, the finished plain student, placebos of a label."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ladseg import LabelAssisted, LabelNoise, Plain
from ladseg.commands.report import write_comparison, write_report
from ladseg.comparison.cells import make_cells
from ladseg.comparison.compare import compare
from ladseg.comparison.costs import count_costs, marginal_macs, total_macs
from ladseg.comparison.methods import METHODS, PLACEBOS, default_teacher, make_method
from ladseg.data import write_demo_scenes
from ladseg.data.checked import Checked
from ladseg.data.contents import Contents
from ladseg.distillers import CWD
from ladseg.errors import RecipeError, TrainingError
from ladseg.objectives import SnapshotObjective, StudentObjective
from ladseg.recipe import Distill, Recipe, Schedule, StudentSettings, TeacherSettings
from ladseg.recipe_files import dump_recipe, load_recipe, make_recipe
from ladseg.runs.networks import check_networks
from ladseg.runs.preparation import refuse_lone_splits
from ladseg.runs.trainings import planned_work
from ladseg.seeds import generator_for
from ladseg.training import fit, make_accelerator
from tests.test_command_line import SMALL
from tests.training import toy

CLASSES = 9
BASE = Recipe(
    student=StudentSettings(model="pspnet@test_resnet"),
    teacher=TeacherSettings(iterations=3),
    distill=Distill(warm_start=False),
    schedule=Schedule(iterations=5, batch_size=4, crop=(32, 48), precision="fp32"),
)
PAGE = (Path(__file__).parents[1] / "docs/compare.md").read_text(encoding="utf-8")


def test_the_page_names_every_method_and_placebo() -> None:
    own = [name for name in METHODS if name not in ("kd", "cwd") and name.startswith(("none", "lad", "s"))]
    for word in [name for name in own if name != "skd"] + [f"lad+{placebo}" for placebo in PLACEBOS]:
        assert f"`{word}`" in PAGE, word


@pytest.mark.parametrize("word", ["lad+shuffled", "lad+noise", "lad-warm+noise", "kd+shuffled", "snapshot", "self"])
def test_a_control_differs_from_its_method_in_the_teacher_alone(word: str, tmp_path: Path) -> None:
    method = make_method(BASE, word, default_teacher(BASE))
    assert method.name == word
    name, plus, placebo = word.partition("+")
    twin = make_method(
        BASE, {"kd": "kd+label", "snapshot": "lad", "self": "lad"}.get(name, name), default_teacher(BASE)
    )
    assert replace(method.recipe, teacher=twin.recipe.teacher) == twin.recipe
    if plus:
        assert method.recipe.teacher == replace(twin.recipe.teacher, placebo=placebo)
        assert method.teacher != twin.teacher, "they would share a folder"
    # Its folder is read again by the rules of a user's recipe.
    (tmp_path / "recipe.yaml").write_text(dump_recipe(method.recipe))
    assert load_recipe(tmp_path / "recipe.yaml") == method.recipe


def test_a_recipes_own_control_is_no_part_of_the_other_methods() -> None:
    base = replace(BASE, teacher=TeacherSettings(label_assisted=False, snapshot=0.5))
    for word in ("lad", "kd+self", "kd+label", "lad-warm"):
        teacher = make_method(base, word, default_teacher(base)).recipe.teacher
        assert (teacher.snapshot, teacher.placebo) == (None, None)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"train": False, "warm_start": True}, "sees no label; set teacher.label_assisted: false"),
        ({"snapshot": 0.5}, "sees no label; set teacher.label_assisted: false"),
        ({"snapshot": 1.0, "label_assisted": False}, "teacher.snapshot is 1.0"),
        ({"placebo": "noise", "label_assisted": False}, "leave one of them out"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        make_recipe({"teacher": settings})


def test_what_cannot_be_a_control_is_refused_before_training() -> None:
    lone = replace(BASE, teacher=TeacherSettings(placebo="shuffled"), schedule=replace(BASE.schedule, accumulate=4))
    with pytest.raises(RecipeError, match="batches of two images or more"):
        check_networks(lone, CLASSES)
    first = replace(BASE, teacher=TeacherSettings(label_assisted=False, snapshot=0.5), distill=Distill(method="maskd"))
    with pytest.raises(RecipeError, match="maskd learns of a trained teacher first"):
        check_networks(first, CLASSES)
    for share, steps in ((0.5, 1), (0.99, 8)):
        late = replace(first, teacher=TeacherSettings(label_assisted=False, snapshot=share), distill=Distill())
        with pytest.raises(RecipeError, match=f"teacher.snapshot {share} of {steps} steps leaves none to teach"):
            check_networks(replace(late, schedule=replace(BASE.schedule, iterations=steps)), CLASSES)


@pytest.mark.parametrize("lone", ["train", "val"])
def test_a_label_cannot_be_another_images_where_there_is_one_image(lone: str) -> None:
    two, one = ({str(number): ("", "") for number in range(count)} for count in (2, 1))
    checked = Checked({}, {split: Contents("", one if split == lone else two) for split in ("train", "val")})
    refuse_lone_splits(replace(BASE, teacher=TeacherSettings(placebo="noise")), checked)
    with pytest.raises(RecipeError, match=f"the label of another image, but {lone} has one image"):
        refuse_lone_splits(replace(BASE, teacher=TeacherSettings(placebo="shuffled")), checked)


def channel(placebo: str, label: torch.Tensor, **noise: Any) -> torch.Tensor:
    network = LabelAssisted(torch.nn.Conv2d(3, 4, 3), 4, placebo=placebo, **noise)  # type: ignore[arg-type]
    return network.channel(label, [generator_for(number) for number in range(len(label))])


@pytest.mark.parametrize("weights", ["fixed", "random", "none"])
def test_a_shuffled_label_is_that_of_another_image_and_never_the_own(weights: str) -> None:
    label = torch.randint(0, 4, (3, 6, 7), generator=torch.Generator().manual_seed(0))
    seen = channel("shuffled", label, class_weights=weights)
    changed = label.clone()
    changed[1] = 3 - changed[1]
    after = channel("shuffled", changed, class_weights=weights)
    assert [torch.equal(seen[n], after[n]) for n in range(3)] == [True, True, False]
    expected = LabelNoise(4, class_weights=weights)(  # type: ignore[arg-type]
        label[[2, 0, 1]], [generator_for(number) for number in range(3)]
    )
    assert torch.equal(seen, expected)


@pytest.mark.parametrize(("weights", "scale", "alpha"), [("fixed", 1.0, 0.01), ("random", 1.7, 0.3), ("none", 2.0, 0)])
def test_noise_has_the_labels_mean_and_deviation_and_nothing_of_it(weights: str, scale: float, alpha: float) -> None:
    one, other = (torch.full((1, 300, 300), value) for value in (0, 3))
    settings = {"class_weights": weights, "scale": scale, "alpha": alpha}
    seen = channel("noise", one, **settings)
    assert torch.equal(seen, channel("noise", other, **settings))
    # Of the real channel: all classes in equal parts, of many images where its weights are drawn.
    label = torch.arange(4).repeat(2000, 1, 4)
    real = LabelNoise(4, **settings)(label, torch.Generator().manual_seed(1))  # type: ignore[arg-type]
    assert seen.mean().item() == pytest.approx(real.mean().item(), abs=0.03 * scale)
    assert seen.std().item() == pytest.approx(real.std().item(), rel=0.03)


def snapshot_objective(start: int) -> SnapshotObjective:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return SnapshotObjective(toy.Network(), CWD(), start, weight=2.0)


def train_toy(objective: torch.nn.Module, network: torch.nn.Module, folder: Path, schedule: Schedule) -> Path:
    def batches(start: int) -> Iterator[dict[str, torch.Tensor]]:
        return (toy.batch_of(step) for step in range(start, schedule.iterations))

    fit(objective, network, batches, None, schedule, folder, make_accelerator("fp32", folder), seed=7, title="toy")
    return folder


def test_a_student_learns_plainly_and_then_from_what_it_was(tmp_path: Path) -> None:
    """Until the snapshot it is the plain student, bit for bit; then its teacher is that student and stays so."""
    schedule = replace(toy.SCHEDULE, iterations=12, eval_every=6, save_every=6)
    objective = snapshot_objective(6)
    train_toy(objective, objective.student, tmp_path / "snapshot", schedule)
    plain = Plain(snapshot_objective(6).student)
    train_toy(plain, plain.network, tmp_path / "plain", schedule)
    half = torch.load(tmp_path / "plain/checkpoints/step_000006.pt", weights_only=True)["objective"]
    there = torch.load(tmp_path / "snapshot/checkpoints/step_000006.pt", weights_only=True)["objective"]
    end = torch.load(tmp_path / "snapshot/checkpoints/step_000012.pt", weights_only=True)["objective"]
    for name, value in half.items():
        key = name.removeprefix("network.")
        assert torch.equal(there[f"student.{key}"], value), key
        assert torch.equal(end[f"teacher.{key}"], value), key
    assert any(not torch.equal(end[f"student.{key}"], end[f"teacher.{key}"]) for key in objective.student.state_dict())
    lines = [json.loads(line) for line in (tmp_path / "snapshot/metrics.jsonl").read_text().splitlines()]
    pulls = [line["cwd"] for line in lines if "cwd" in line]
    assert (pulls[0], pulls[-1] > 0) == (0.0, True)


class Counted(toy.Network):
    """A teacher that counts how often it is asked."""

    asked = 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        Counted.asked += 1
        return super().forward(image)


def test_a_teacher_that_begins_later_is_not_asked_before(tmp_path: Path) -> None:
    """Until its start the student is the plain one, bit for bit; then it learns from the teacher in every step."""
    schedule = replace(toy.SCHEDULE, iterations=12, eval_every=6, save_every=6)
    student, teacher = snapshot_objective(6).student, Counted()
    objective = StudentObjective(student, teacher, CWD(), weight=2.0, start=6)
    Counted.asked = 0
    train_toy(objective, student, tmp_path / "taught", schedule)
    assert Counted.asked == 6
    plain = Plain(snapshot_objective(6).student)
    train_toy(plain, plain.network, tmp_path / "plain", schedule)
    for step, equal in ((6, True), (12, False)):
        alone, taught = (
            torch.load(tmp_path / f"{name}/checkpoints/step_{step:06}.pt", weights_only=True)["objective"]
            for name in ("plain", "taught")
        )
        pairs = [(value, taught[f"student.{name.removeprefix('network.')}"]) for name, value in alone.items()]
        assert all(torch.equal(one, other) for one, other in pairs) is equal, step
    lines = [json.loads(line) for line in (tmp_path / "taught/metrics.jsonl").read_text().splitlines()]
    assert {line["cwd"] > 0 for line in lines if "cwd" in line and line["step"] <= 6} <= {False}
    assert all(line["cwd"] > 0 for line in lines if "cwd" in line and line["step"] > 6)
    assert all("gradient_ratio" not in line for line in lines if line["step"] <= 6)


@pytest.mark.parametrize(
    ("settings", "steps", "warm"),
    [
        ({}, 0, True),
        ({"start": 0.7}, 7, False),  # from its own start, as the plain student began
        ({"start": 0.7, "warm_start": True}, 7, True),
        ({"start": 0.04}, 0, False),
    ],
)
def test_when_teaching_begins_and_from_where(settings: dict[str, Any], steps: int, warm: bool) -> None:
    recipe = make_recipe({"distill": settings, "schedule": {"iterations": 10}})
    assert (recipe.untaught_steps, recipe.student_starts_warm) == (steps, warm)
    assert planned_work(recipe)["student"] == (10, pytest.approx(1 + (10 - steps) / 30))


def test_a_start_that_contradicts_or_leaves_nothing_is_refused() -> None:
    both = {"distill": {"start": 0.5}, "teacher": {"snapshot": 0.5, "label_assisted": False}}
    with pytest.raises(RecipeError, match=r"distill\.start and teacher\.snapshot both say when"):
        make_recipe(both)
    late = replace(BASE, distill=Distill(start=0.95))
    with pytest.raises(RecipeError, match=r"distill\.start 0\.95 of 5 steps leaves none to teach"):
        check_networks(late, CLASSES)
    snapshot = make_method(replace(BASE, distill=Distill(start=0.5)), "snapshot", default_teacher(BASE)).recipe
    assert load_recipe_text(dump_recipe(snapshot)) == snapshot


def load_recipe_text(text: str) -> Recipe:
    return make_recipe(yaml.safe_load(text))


def test_costs_of_a_later_start_by_hand(tmp_path: Path) -> None:
    base = replace(BASE, distill=replace(BASE.distill, start=0.4))  # 2 of 5 steps alone
    methods = [make_method(base, word, default_teacher(base)) for word in ("none", "lad", "self", "cwd+self")]
    costs = count_costs(methods, CLASSES, tmp_path, lambda line: None)
    plain, lad = costs["none"].step_macs["baseline"], costs["lad"].step_macs
    taught = costs["cwd+self"].step_macs["student"]
    student = [2 * plain + 3 * taught, 2 * plain + 3 * lad["student"]]
    totals = [total_macs(method, costs[method.name]) for method in methods]
    # The label-assisted teacher, and that of cwd+self, go on from the plain student for 3 steps.
    assert totals[:3] == [5 * plain, 5 * plain + 3 * lad["teacher"] + student[1], 5 * plain + student[0]]
    assert [marginal_macs(method, costs[method.name]) for method in methods[1:3]] == [student[1], student[0]]


@pytest.mark.parametrize("stop", [4, 6, 9])
def test_a_killed_one_goes_on_with_the_same_teacher(stop: int, tmp_path: Path) -> None:
    schedule = replace(toy.SCHEDULE, iterations=12, eval_every=6, save_every=1)
    whole = snapshot_objective(6)
    train_toy(whole, whole.student, tmp_path / "whole", schedule)
    killed = snapshot_objective(6)

    def deadly(start: int) -> Iterator[dict[str, torch.Tensor]]:
        return (toy.batch_of(step) for step in range(start, stop))

    accelerator = make_accelerator("fp32", tmp_path)
    with pytest.raises(TrainingError, match="the batches ended"):
        fit(killed, killed.student, deadly, None, schedule, tmp_path / "killed", accelerator, seed=7, title="toy")
    again = snapshot_objective(6)
    train_toy(again, again.student, tmp_path / "killed", schedule)
    ends = (
        torch.load(tmp_path / f"{name}/checkpoints/step_000012.pt", weights_only=True)["objective"]
        for name in ("whole", "killed")
    )
    one, two = ends
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_costs_of_the_controls_by_hand(tmp_path: Path) -> None:
    methods = [make_method(BASE, word, default_teacher(BASE)) for word in ("none", "snapshot", "self", "cwd+self")]
    costs = count_costs(methods, CLASSES, tmp_path, lambda line: None)
    plain = costs["none"].step_macs["baseline"]
    taught = costs["cwd+self"].step_macs["student"]  # the same student, teacher and distiller
    # 5 steps: 2 alone and 3 with a teacher that is there; and 5 plain steps for the teacher, then 5 with it.
    totals = [total_macs(method, costs[method.name]) for method in methods[:3]]
    assert totals == [5 * plain, 2 * plain + 3 * taught, 5 * plain + 5 * taught]
    margins = [marginal_macs(method, costs[method.name]) for method in methods[:3]]
    assert margins == [5 * plain, 2 * plain + 3 * taught, 5 * taught]
    shared = [sorted(cell.shared) for cell in make_cells(BASE, methods[:3], [0])]
    assert shared == [["baseline"], ["baseline"], ["baseline", "teacher"]]


def test_a_comparison_has_them_beside_lad(tmp_path: Path) -> None:
    scenes = tmp_path / "scenes"
    write_demo_scenes(scenes, train=8, val=3, size=(32, 48))
    for kind in ("images", "masks"):
        (scenes / kind / "test").symlink_to(scenes / kind / "val", target_is_directory=True)
    values = {"data.root": str(scenes), "data.classes": str(scenes / "classes.txt"), **SMALL}
    words = [word for key, value in values.items() for word in (f"--{key}", value)]
    recipe = load_recipe("demo", [*words, "--out", str(tmp_path / "compare"), "--data.test", "test"])
    methods = ["none-ema", "snapshot", "self", "lad+shuffled", "kd+noise"]
    results = compare(recipe, methods, [0], plain_lengths=[1, 3], log=lambda line: None)
    assert results is not None
    rows = {row.name: row for row in results.methods}
    folder = tmp_path / "compare/seed-0"
    alone = json.loads((folder / "none/results.json").read_text())["networks"]["baseline"]
    by_self = json.loads((folder / "self/results.json").read_text())["networks"]
    assert by_self["teacher"]["mean_iou"] == alone["mean_iou"]
    assert by_self["teacher"]["steps"] == 0
    assert set(json.loads((folder / "snapshot/results.json").read_text())["networks"]) == {"baseline", "student"}
    seen = [json.loads((folder / f"{n}/results.json").read_text())["networks"]["teacher"] for n in methods[3:]]
    assert [teacher["sees"] for teacher in seen] == ["image + another's label", "image + noise"]
    assert "mean_iou_without_label" not in seen[0]
    # The test split of this comparison is val once more.
    for row in results.methods:
        assert row.test_mean == pytest.approx(row.mean)
        assert row.last_mean is not None
    assert rows["self"].test_difference is not None
    assert rows["self"].test_difference.mean == pytest.approx(rows["self"].mean_iou[0] - rows["none"].mean_iou[0])
    assert by_self["student"]["gradient_ratio"] > 0
    # All but the plain curve are judged against it; what has no teacher has no number of students.
    write_comparison(recipe.folder, results)
    write_report(recipe.folder)
    page, table = (recipe.folder / "report.html").read_text(), (recipe.folder / "results.md").read_text()
    assert "## On the test split" in table
    judged = table.split("equal compute")[1].split("## ")[0]
    for name in methods[:3]:
        assert f"| {name} |" in judged
        assert f"'{name}' is " in page.replace("&#39;", "'")
    assert "| none-3x |" not in judged
    snapshot, average = rows["snapshot"], rows["none-ema"]
    assert (snapshot.teacher, snapshot.break_even_students, average.break_even_students) == (None, None, None)
    assert snapshot.compute_total is not None
    assert math.isclose(snapshot.compute_total, snapshot.compute_marginal or 0)
    assert 1 < snapshot.compute_total < 1.3

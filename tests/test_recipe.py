"""Recipes: what is read, what is refused and how."""

import dataclasses
import itertools
from pathlib import Path

import pytest
import yaml

from ladseg.errors import RecipeError
from ladseg.presets import PRESETS
from ladseg.recipe import Recipe
from ladseg.recipe_files import dump_recipe, keys_help, load_recipe, make_recipe, recipe_names, recipe_text

CONTRACT = """
name: camvid-lad
data: {layout: folder, root: data/camvid, classes: data/camvid/classes.txt, ignore_index: 11}
student: {model: pspnet_r18, weights: null}
teacher: {label_assisted: true, model: null, weights: null, alpha: 0.01, consistency: 1.0}
distill: {method: cwd, weight: 3.0, tau: 4.0}
schedule: {iterations: 4000, batch_size: 8, crop: [360, 360], optimizer: sgd, lr: 0.02}
seed: 0
"""


def test_the_keys_of_the_contract(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(CONTRACT)
    recipe = load_recipe(tmp_path / "r.yaml")
    assert recipe.data.ignore_index == 11
    assert recipe.student.model == "pspnet_r18"
    assert recipe.teacher.label_assisted
    assert (recipe.distill.method, recipe.distill.weight, recipe.distill.tau) == ("cwd", 3.0, 4.0)
    assert recipe.schedule.crop == (360, 360)
    assert recipe.folder == Path("runs/camvid-lad")


@pytest.mark.parametrize("name", recipe_names())
def test_ready_recipes_load_and_survive_a_round_trip(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    (tmp_path / "again.yaml").write_text(dump_recipe(recipe))
    assert load_recipe(tmp_path / "again.yaml") == recipe


def test_overrides_win_over_the_file_and_the_file_over_the_preset() -> None:
    recipe = make_recipe(
        {"preset": "released-code", "schedule": {"lr": 0.5}, "teacher": {"alpha": 0.2}},
        ["--teacher.alpha", "0.3", "--schedule.crop", "[64, 96]", "--baseline=true"],
    )
    assert recipe.schedule.lr == 0.5
    assert recipe.teacher.alpha == 0.3
    assert recipe.schedule.crop == (64, 96)
    assert recipe.teacher.consistency == 5.0


def test_presets_hold_the_table_of_the_two_recipes() -> None:
    paper, code = make_recipe({"preset": "paper"}), make_recipe({"preset": "released-code"})
    assert (paper.teacher.alpha, paper.teacher.consistency, paper.distill.weight) == (0.01, 1.0, 3.0)
    assert (paper.teacher.class_weights, paper.distill.class_weights) == ("random", None)
    assert (code.teacher.alpha, code.distill.alpha) == (0.03, 0.02)
    assert (code.teacher.class_weights, code.distill.class_weights) == ("random", "fixed")
    assert (code.teacher.consistency, code.teacher.consistency_form) == (5.0, "symmetric")
    assert (code.teacher.aux_weight, code.distill.aux_weight, code.student.dropout) == (0.4, 0.02, 0.01)
    assert (code.student.input, paper.student.input) == ("bgr", None)
    assert (code.teacher.slice_std, code.teacher.scale, code.distill.warm_start) == (0.1, 1.735, True)
    assert (code.teacher.lr, code.distill.lr) == (0.001, 0.001)
    assert (code.schedule.iterations, code.schedule.batch_size, code.schedule.crop) == (40000, 16, (512, 512))


def test_a_preset_leaves_the_control_its_learning_rate_and_auxiliary_weight() -> None:
    """The student alone is trained by ``schedule`` and ``student``; a preset changes neither's rate nor weight."""
    plain = make_recipe({})
    for name in PRESETS:
        recipe = make_recipe({"preset": name})
        assert (recipe.schedule.lr, recipe.student.aux_weight) == (plain.schedule.lr, plain.student.aux_weight)


@pytest.mark.parametrize("name", [name for name in recipe_names() if name != "demo"])
@pytest.mark.parametrize("preset", ["paper", "released-code"])
def test_a_preset_of_the_command_line_wins_over_a_ready_recipe(name: str, preset: str) -> None:
    recipe = load_recipe(name, ["--preset", preset, "--teacher.consistency", "7"])
    for section, keys in PRESETS[preset].items():
        for key, value in keys.items():
            found = getattr(getattr(recipe, section), key)
            expected = 7 if (section, key) == ("teacher", "consistency") else value
            assert found == (tuple(expected) if isinstance(expected, list) else expected), (section, key)
    assert recipe.data == load_recipe(name).data


def test_ready_recipes_name_what_their_data_set_decides() -> None:
    for name in set(recipe_names()) - {"demo"}:
        # Those of the paper's tables decide the student and the preset too.
        more = {"preset", "student", "teacher", "loss", "augment"} if name.startswith(("table-", "dinov2-")) else set()
        keys = set(yaml.safe_load(recipe_text(name)))
        assert keys - more == {"name", "data", "schedule"}, name


def test_keys_of_a_users_file_that_win_over_the_preset_are_said_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "r.yaml").write_text(
        "{teacher: {alpha: 0.2, scale: 1.735}, distill: {tau: 2}, schedule: {batch_size: 4}}"
    )
    words = ["--preset", "released-code", "--schedule.batch_size", "2"]
    assert load_recipe(tmp_path / "r.yaml", words).teacher.alpha == 0.2
    assert len(caplog.messages) == 1
    assert caplog.messages[0].endswith(
        "these keys win over preset released-code: teacher.alpha 0.2 (preset: 0.03), distill.tau 2.0 (preset: 4.0)"
    )


def test_the_paper_preset_does_not_follow_our_defaults() -> None:
    """Every knob that the table of the two recipes names is pinned, whatever the defaults become."""
    assert set(PRESETS["paper"]["teacher"]) >= {
        "alpha",
        "class_weights",
        "scale",
        "consistency",
        "consistency_form",
    }


@pytest.mark.parametrize("preset", ["paper", "released-code"])
def test_another_method_than_the_presets_keeps_weight_and_temperature_of_its_own(preset: str) -> None:
    distill = make_recipe({"preset": preset, "distill": {"method": "kd"}}).distill
    assert (distill.weight, distill.tau) == (None, None)
    assert distill.alpha == make_recipe({"preset": preset}).distill.alpha
    assert make_recipe({"preset": preset}, ["--distill.method", "kd", "--distill.weight", "7"]).distill.weight == 7
    assert make_recipe({"preset": preset, "distill": {"method": "cwd"}}).distill.weight == 3


@pytest.mark.parametrize(
    "words",
    [
        ["--distill", "[{method: cwd, weight: 3}, {method: feature, weight: 1e-1}]"],
        ["--distill=[{method: cwd, weight: 3}, {method: feature, weight: 1e-1}]"],
    ],
)
def test_several_methods_on_the_command_line(words: list[str]) -> None:
    expected = make_recipe({"distill": [{"method": "cwd", "weight": 3}, {"method": "feature", "weight": 0.1}]})
    assert make_recipe({}, words) == expected
    # What the file says of the same section stays, but for its list.
    file = {"distill": [{"method": "kd", "alpha": 0.5}, {"method": "at"}]}
    changed = make_recipe(file, ["--distill", "[{method: cwd}, {method: dist}]"]).distill
    assert (changed.method, changed.also, changed.alpha) == ("cwd", [{"method": "dist"}], 0.5)


def test_numbers_in_exponent_form_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("schedule: {lr: 1e-3, weight_decay: 5e-4}")
    assert load_recipe(tmp_path / "r.yaml").schedule.lr == 0.001


@pytest.mark.parametrize(
    ("values", "words", "message"),
    [
        ({"dta": {}}, [], "unknown key 'dta'; did you mean 'data'?"),
        ({"data": {"rot": "x"}}, [], "unknown key 'data.rot'; did you mean 'root'?"),
        (
            {},
            ["--schedule.iteratons", "3"],
            "no recipe key is called 'schedule.iteratons'; did you mean 'schedule.iterations'?",
        ),
        ({"schedule": {"lr": "fast"}}, [], "schedule.lr"),
        ({"schedule": {"crop": [1]}}, [], "schedule.crop"),
        ({"data": 3}, [], "'data' needs keys below it"),
        (
            {"preset": "papre"},
            [],
            "preset is 'papre'; it must be one of ladseg, paper, released-code; did you mean 'paper'?",
        ),
        ({}, ["--schedule.lr", "-1"], "schedule.lr is -1; it must be a number above 0"),
        ({"distill": {"method": "cdw"}}, [], "cdw"),
        ({"distill": {"tau": 0}}, [], "distill.tau is 0; it must be a number above 0 or null"),
        (
            {"distill": [{"method": "cwd"}, {"method": "kd", "tau": -1}]},
            [],
            "distill[1].tau is -1; it must be a number above 0 or null",
        ),
        ({"distill": [{"method": "cwd"}, {"method": "kd", "weight": "x"}]}, [], "distill[1].weight is 'x'; it must be"),
        ({"distill": [{"method": "cwd"}, {"weight": 2}]}, [], "a further method of distill names no method"),
        (
            {"distill": {"term_weights": {"cwd": -3}}},
            [],
            "distill.term_weights.cwd is -3; it must be a number of at least 0",
        ),
        ({}, ["--distill", "[cwd]"], "distill is a list, but not of sections such as {method: cwd, weight: 3}"),
        ({}, ["--distill", "[{method: cwd"], "command line: --distill: not valid YAML"),
        ({"baseline": False, "teacher": {"warm_start": True}}, [], "set baseline: true"),
        (
            {"teacher": {"warm_start": True, "model": "deeplabv3_r18"}},
            [],
            "needs the student's model 'pspnet_r18'",
        ),
        ({}, ["--schedule.lr"], "command line: --schedule.lr needs a value"),
    ],
)
def test_faults_are_one_line_that_says_the_way_out(values: dict, words: list[str], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        make_recipe(values, words)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("data: {layout: [")
    (tmp_path / "list.yaml").write_text("- a")
    for name, message in [
        ("broken.yaml", "not valid YAML"),
        ("list.yaml", "is a mapping"),
        ("no.yaml", "no such recipe"),
    ]:
        with pytest.raises(RecipeError, match=message):
            load_recipe(tmp_path / name)
    with pytest.raises(RecipeError, match="did you mean 'camvid'"):
        load_recipe("canvid")


def test_tensorboard_is_the_tracker_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert make_recipe({}).trackers == ["tensorboard"]
    monkeypatch.setattr("ladseg.recipe.find_spec", lambda name: None)
    assert make_recipe({}).trackers == []


def test_every_key_is_explained() -> None:
    """--help is made of the docstrings: a key without a word of its own would show up bare."""
    for cls in [Recipe, *(f.type for f in dataclasses.fields(Recipe) if dataclasses.is_dataclass(f.type))]:
        for field in dataclasses.fields(cls):  # type: ignore[arg-type]
            assert f"\n        {field.name}: " in (cls.__doc__ or ""), f"{cls} does not explain {field.name}"


def test_the_help_calls_a_size_height_and_width_and_a_range_a_pair() -> None:
    lines = keys_help().splitlines()
    of = {key.strip(): text for key, text in itertools.pairwise(lines) if key.startswith("  --")}
    assert "(height and width such as 360x480, each of at least 8" in of["--schedule.crop"]
    assert "(a pair such as [0, 4095], each a whole number of at least 0" in of["--data.value_range"]

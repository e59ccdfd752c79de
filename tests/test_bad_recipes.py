"""Wrong recipes and flags: each is one line that names the key and what is wanted, before anything else happens."""

from pathlib import Path

import pytest
import yaml

from ladseg.cli import main
from ladseg.errors import RecipeError
from ladseg.recipe_checks import unread_keys
from ladseg.recipe_files import load_recipe, make_recipe, recipe_names
from ladseg.recipe_yaml import read_yaml

COUNT = "it must be a whole number of at least 1"
POSITIVE = "it must be a number above 0"
NOT_NEGATIVE = "it must be a number of at least 0"
FINITE = "it must be a finite number"
SIDES = "height and width, such as 128x160 or [128, 160]"
SECTION = "needs keys below it"

# YAML, and words of the message.
RECIPES = [
    ("seed: 010", "010 on line 1 is 8 in YAML; write the number that you mean"),
    ("seed: 1:30", "1:30 on line 1 is 90 in YAML"),
    ("data:\n  label_map: {0010: 1}", "0010 on line 2 is 8 in YAML"),
    ("schedule: {lr: 1:30.5}", "1:30.5 on line 1 is 90.5 in YAML"),
    ("name: ' '", "it starts or ends with a space"),
    ("name: 'x '", "it starts or ends with a space"),
    ("data: {value_range: [4095, 0]}", "data.value_range is [4095, 0]; the lower value comes first"),
    ("data: {value_range: [7, 7]}", "data.value_range is [7, 7]; the lower value comes first"),
    ("data: {value_range: [0, 70000]}", "data.value_range"),
    ("data: {value_range: 5}", "data.value_range is 5; it must be a pair such as [0, 4095], each a whole number"),
    ("data: {value_range: 0x4095}", "data.value_range"),
    ("data: {value_range: [0, 1, 2]}", "data.value_range"),
    ("data: {value_range: [[0, 1], [2, 3], [9, 4]]}", "data.value_range is [9, 4]; the lower value comes first"),
    ("data: {value_range: [[0, 1], [0, 70000]]}", "data.value_range[1][1] is 70000; it must be a whole number"),
    ("data: {value_range: [[0, 1], [2, 3]]}", "data.value_range has 2 pairs, but data.channels is 3; give one a"),
    ("data: {channels: 2, value_range: [[0, 1]]}", "data.value_range has 1 pairs, but data.channels is 2"),
    ("data: {value_range: [0, .inf]}", "data.value_range[1] is inf; " + FINITE),
    ("schedule: {eval_window: [0, 0]}", "schedule.eval_window is [0, 0]"),
    ("{schedule: {eval_window: [64, 64]}, augment: {rescale: [64, 32]}}", "leave one out"),
    ("schedule: {eval_every: 0}", "schedule.eval_every is 0; " + COUNT + " or null"),
    ("schedule: {eval_every: -3}", "schedule.eval_every is -3; " + COUNT),
    ("schedule: {save_every: 0}", "schedule.save_every is 0; " + COUNT),
    ("schedule: {iterations: 0}", "schedule.iterations is 0; " + COUNT),
    ("schedule: {iterations: -1}", "schedule.iterations is -1; " + COUNT),
    ("schedule: {iterations: 1.5}", "schedule.iterations is 1.5; it must be a whole number"),
    ("schedule: {iterations: '40'}", "schedule.iterations is '40'; it must be a whole number"),
    ("schedule: {iterations: null}", "schedule.iterations is null; it must be a whole number"),
    ("schedule: {iterations: true}", "schedule.iterations is true; it must be a whole number"),
    ("schedule: {iterations: .inf}", "schedule.iterations is inf; " + FINITE),
    ("schedule: {batch_size: 0}", "schedule.batch_size is 0; " + COUNT),
    ("schedule: {batch_size: [4]}", "schedule.batch_size is [4]; it must be a whole number"),
    ("schedule: {crop: [1, 1]}", "schedule.crop is [1, 1]; it must be height and width"),
    ("schedule: {crop: [0, 32]}", "schedule.crop is [0, 32]"),
    ("schedule: {crop: [100000, 100000]}", "each of at least 8 and at most 16384"),
    ("schedule: {crop: [-32, 32]}", "schedule.crop is [-32, 32]"),
    ("schedule: {crop: [32]}", SIDES),
    ("schedule: {crop: [32, 32, 32]}", SIDES),
    ("schedule: {crop: 32}", SIDES),
    ("schedule: {crop: 32x}", SIDES),
    ("schedule: {crop: null}", SIDES),
    ("schedule: {crop: [32.5, 32]}", "schedule.crop[0] is 32.5; it must be a whole number"),
    ("schedule: {crop: [a, b]}", "schedule.crop[0] is 'a'; it must be a whole number"),
    ("schedule: {lr: 0}", "schedule.lr is 0; " + POSITIVE),
    ("schedule: {lr: -0.1}", "schedule.lr is -0.1; " + POSITIVE),
    ("schedule: {lr: .nan}", "schedule.lr is nan; " + FINITE),
    ("schedule: {lr: .inf}", "schedule.lr is inf; " + FINITE),
    ("schedule: {lr: -.inf}", "schedule.lr is -inf; " + FINITE),
    ("schedule: {lr: null}", "schedule.lr is null; it must be a number"),
    ("schedule: {lr: fast}", "schedule.lr is 'fast'; it must be a number"),
    ("schedule: {lr: 1" + "0" * 400 + "}", "schedule.lr is 1000"),
    ("schedule: {momentum: 1.5}", "schedule.momentum is 1.5; it must be a number of at least 0 and below 1"),
    ("schedule: {momentum: 1}", "schedule.momentum is 1; it must be a number of at least 0 and below 1"),
    ("schedule: {momentum: -0.5}", "schedule.momentum is -0.5"),
    ("schedule: {power: -1}", "schedule.power is -1; " + NOT_NEGATIVE),
    ("schedule: {weight_decay: -1}", "schedule.weight_decay is -1; " + NOT_NEGATIVE),
    ("schedule: {warmup: -1}", "schedule.warmup is -1; it must be a whole number of at least 0"),
    ("schedule: {clip_grad: 0}", "schedule.clip_grad is 0; " + POSITIVE + " or null"),
    ("schedule: {clip_grad: -1}", "schedule.clip_grad is -1; " + POSITIVE),
    ("schedule: {clip_grad: .nan}", "schedule.clip_grad is nan; " + FINITE),
    ("schedule: {optimizer: sdg}", "one of sgd, adamw; did you mean 'sgd'?"),
    ("schedule: {optimizer: no}", "schedule.optimizer is false; it must be one of sgd, adamw"),
    ("schedule: {precision: fp16}", "one of auto, fp32, bf16; did you mean 'bf16'?"),
    ("schedule: 5", "'schedule' " + SECTION),
    ("schedule: []", "'schedule' " + SECTION),
    ("schedule: null", "'schedule' " + SECTION),
    ("schedule: {iteration: 5}", "unknown key 'schedule.iteration'; did you mean 'iterations'?"),
    ("shedule: {}", "unknown key 'shedule'; did you mean 'schedule'?"),
    ("1: 2", "unknown key '1'"),
    ("teacher: {iterations: 0}", "teacher.iterations is 0; " + COUNT + " or null"),
    ("teacher: {lr: 0}", "teacher.lr is 0; " + POSITIVE + " or null"),
    ("teacher: {alpha: -0.1}", "teacher.alpha is -0.1; " + NOT_NEGATIVE),
    ("teacher: {alpha: .nan}", "teacher.alpha is nan; " + FINITE),
    ("teacher: {scale: -1}", "teacher.scale is -1; " + POSITIVE),
    ("teacher: {scale: 0}", "teacher.scale is 0; " + POSITIVE),
    ("teacher: {consistency: -1}", "teacher.consistency is -1; " + NOT_NEGATIVE),
    ("teacher: {consistency_form: both}", "teacher.consistency_form is 'both'; it must be one of one-way, symmetric"),
    ("teacher: {slice_std: -1}", "teacher.slice_std is -1; " + NOT_NEGATIVE),
    ("teacher: {slice_std: same}", "teacher.slice_std is 'same'; it must be a number or one of match"),
    ("teacher: {class_weights: [1, 2]}", "teacher.class_weights is [1, 2]; it must be one of random, fixed, none"),
    ("teacher: {class_weights: randm}", "one of random, fixed, none; did you mean 'random'?"),
    ("teacher: {ignore: off}", "teacher.ignore is false; it must be one of class, zero"),
    ("teacher: {label_assisted: 1}", "teacher.label_assisted is 1; it must be true or false"),
    ("teacher: {label_assisted: maybe}", "teacher.label_assisted is 'maybe'; it must be true or false"),
    ("teacher: {aux_weight: -1}", "teacher.aux_weight is -1; " + NOT_NEGATIVE),
    ("teacher: {warm_start: true, model: stdc1}", "teacher.warm_start needs the student's model"),
    ("{baseline: false, distill: {warm_start: true}}", "set baseline: true"),
    ("teacher: {weights: 5}", "teacher.weights is 5; it must be text (put it in quotes)"),
    ("student: {model: 18}", "student.model is 18; it must be text (put it in quotes)"),
    ("student: {model: null}", "student.model is null; it must be text"),
    ("student: {output_stride: 0}", "student.output_stride is 0; it must be a whole number of at least 1"),
    ("student: {aux_weight: .nan}", "student.aux_weight is nan; " + FINITE),
    ("student: {args: 5}", "student.args is 5; it must be a mapping"),
    ("student: {args: {p: .nan}}", "student.args.p is nan; " + FINITE),
    ("student: {args: {1: 2}}", "a key of student.args is 1; it must be text"),
    ("student: {args: {on: 2024-01-01}}", "a key of student.args is true; it must be text (put it in quotes)"),
    ("student: {args: {day: 2024-01-01}}", "student.args.day is 2024-01-01; it must be"),
    ("student: {modle: stdc1}", "unknown key 'student.modle'; did you mean 'model'?"),
    ("distill: {weight: -1}", "distill.weight is -1; " + NOT_NEGATIVE + " or null"),
    ("distill: {tau: 0}", "distill.tau is 0; " + POSITIVE),
    ("distill: {tau: .inf}", "distill.tau is inf; " + FINITE),
    ("distill: {alpha: -1}", "distill.alpha is -1; " + NOT_NEGATIVE),
    ("distill: {method: cdw}", "distill.method is 'cdw'; it must be one of none, kd,"),
    ("distill: {method: kd+}", "distill.method is 'kd+'; it must be one of none, kd,"),
    ("distill: {method: [cwd]}", "distill.method is ['cwd']; it must be one of"),
    ("distill: {method: null}", "distill.method is null; it must be one of"),
    ("distill: {method: kd, layer: backbone}", "distill.layer: kd does not read it; leave it out"),
    ("distill: {method: at, tau: 2}", "distill.tau: at does not read it"),
    ("distill: {method: none, weight: 2}", "distill.weight: none does not read it"),
    ("distill: {term_weights: {cdw: 3}}", "distill.term_weights: cwd has no 'cdw'; did you mean 'cwd'?"),
    ("distill: {term_weights: 3}", "distill.term_weights is 3; it must be a mapping"),
    ("distill: {term_weights: {cwd: .nan}}", "distill.term_weights.cwd is nan; " + FINITE),
    ("distill: {layer: neck}", "distill.layer is 'neck'; it must be one of head, backbone"),
    ("distill: {also: 5}", "distill.also is no longer a key"),
    ("distill: 5", "'distill' " + SECTION),
    ("distill: []", "distill is a list, but not of sections"),
    ("distill: [5]", "distill is a list, but not of sections"),
    ("distill: [{method: cwd}, {method: kd, tau: .nan}]", "distill[1].tau is nan; " + FINITE),
    ("distill: [{method: cwd}, {method: kdd}]", "distill[1].method is 'kdd'; it must be one of"),
    ("distill: [{method: cwd}, {warm_start: true}]", "unknown key 'warm_start' of a further method"),
    ("preset: []", "preset is []; it must be one of ladseg, paper, released-code"),
    ("preset: null", "preset is null; it must be one of ladseg, paper, released-code"),
    ("preset: released", "did you mean 'released-code'?"),
    ("data: {classes: [yes, no]}", "data.classes[0] is true; it must be text (put it in quotes)"),
    ("data: {classes: [road, 5]}", "data.classes[1] is 5; it must be text (put it in quotes)"),
    ("data: {classes: [road, null]}", "data.classes[1] is null; it must be text"),
    ("data: {classes: 19}", "data.classes is 19; it must be"),
    ("data: {classes: {road: 0}}", "data.classes is {'road': 0}; it must be a list of text or text"),
    ("data: {classes: [road, road]}", "data.classes has 'road' twice"),
    ("data: {classes: [road, '']}", "data.classes has an empty name"),
    ('data: {classes: [road, "a\\e[2Jb"]}', "data.classes has 'a\\x1b[2Jb', a name with control characters"),
    ("data: {label_map: {}}", "data.label_map is {}; it must be a mapping"),
    ("data: {label_map: {a: 1}}", "a key of data.label_map is 'a'; it must be a whole number"),
    ("data: {label_map: {1: -1}}", "data.label_map.1 is -1; it must be a whole number of at least 0"),
    ("data: {label_map: {1: true}}", "data.label_map.1 is true; it must be a whole number"),
    ("data: {label_map: [1, 2]}", "data.label_map is [1, 2]; it must be a mapping"),
    ("data: {ignore_index: -1}", "data.ignore_index is -1; it must be a whole number of at least 0"),
    ("data: {ignore_index: 1.5}", "data.ignore_index is 1.5; it must be a whole number or null"),
    ("data: {colors: [[0, 0]]}", "data.colors[0] is [0, 0]; it must be"),
    (
        "data: {colors: [[0, 0, 256]]}",
        "data.colors[0][2] is 256; it must be a whole number of at least 0 and at most 255",
    ),
    ("data: {colors: [[1, 2, 3], [1, 2, 3]]}", "data.colors has [1, 2, 3] twice"),
    ("data: {colors: red}", "data.colors is 'red'; it must be a list of"),
    ("data: {workers: -1}", "data.workers is -1; it must be a whole number of at least 0"),
    ("data: {workers: many}", "data.workers is 'many'; it must be a whole number"),
    ("data: {cache: disc}", "one of ram, disk or null"),
    ("data: {root: 5}", "data.root is 5; it must be text (put it in quotes)"),
    ("data: {root: [a]}", "data.root is ['a']; it must be text"),
    ("data: {augmented: 2}", "data.augmented is 2; it must be true or false"),
    ("name: 2024-01-01", "name is 2024-01-01; it must be text (put it in quotes)"),
    ("name: 5", "name is 5; it must be text (put it in quotes)"),
    ("name: ../../x", "name is '../../x'; it names a folder below runs/"),
    ("name: a/b", "name is 'a/b'; it names a folder below runs/"),
    ("name: 'a\\b'", "it names a folder below runs/"),
    ("name: ..", "it names a folder below runs/"),
    ("name: ''", "name has 0 characters; it must have 1 to 100"),
    ("name: " + 300 * "x", "name has 300 characters; it must have 1 to 100"),
    ('name: "a\\e[31mb"', "it has control characters"),
    ("seed: -1", "seed is -1; it must be a whole number of at least 0"),
    ("seed: 1.5", "seed is 1.5; it must be a whole number"),
    ("seed: 0x" + 20 * "f", "seed is 1208925819614629174706175; it must be a whole number"),
    ("seed: .nan", "seed is nan; " + FINITE),
    ("baseline: 2", "baseline is 2; it must be true or false"),
    ("trackers: wandb", "trackers is 'wandb'; it must be a list of one of tensorboard, wandb, mlflow"),
    (
        "trackers: [wandbb]",
        "trackers[0] is 'wandbb'; it must be one of tensorboard, wandb, mlflow; did you",
    ),
    ("out: 5", "out is 5; it must be text (put it in quotes)"),
    ("seed: 1\nseed: 2", "key 'seed' stands twice, on lines 1 and 2; keep one"),
    ("data: {root: a, root: b}", "key 'root' stands twice"),
    ("student: &a {args: *a}", "an anchor contains itself"),
    ("student: &a\n  args:\n    inner: *a", "nested more than 20 deep, or an anchor contains itself"),
    ("student: {args: {a: " + 30 * "[" + 30 * "]" + "}}", "nested more than 20 deep"),
    ("student: " + 5000 * "[" + 5000 * "]", "nested more than 20 deep"),
    ("name: !!python/object/apply:os.system ['true']", "not valid YAML"),
    ("name: 2024-13-45", "a value can't be read (month must be in 1..12"),
    ("a: b: c", "not valid YAML"),
    ("data: {layout: [", "not valid YAML"),
    ("name: \x00", "not valid YAML"),
    *(
        (text.replace("X", f'"a\\{end}"'), "text without NUL")
        for text in ("out: X", "data: {root: X}", "data: {pairs: X}", "data: {classes: X}", "student: {weights: X}")
        for end in ("0", "uD800")
    ),
    ("- a", "a recipe is a mapping"),
    ("just words", "a recipe is a mapping"),
    ("5", "a recipe is a mapping"),
]


@pytest.mark.parametrize(("text", "message"), RECIPES, ids=lambda value: value[:40].replace("\x00", "NUL"))
def test_a_wrong_recipe_is_one_line_that_names_the_key_and_what_is_wanted(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(text)
    assert main(["train", str(recipe)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.startswith(f"ladseg: {recipe}: ")
    assert message in printed.err
    assert "Union" not in printed.err
    assert len(printed.err) < len(str(recipe)) + 400


FLAGS = [
    (["--schedule.lr", "0"], "command line: schedule.lr is 0; " + POSITIVE),
    (["--schedule.lr", "nan"], "command line: schedule.lr is 'nan'; it must be a number"),
    (["--schedule.lr=.nan"], "command line: schedule.lr is nan; " + FINITE),
    (["--schedule.lr="], "command line: --schedule.lr needs a value"),
    (["--schedule.lr"], "command line: --schedule.lr needs a value"),
    (["--schedule.clip_grad", "-1"], "command line: schedule.clip_grad is -1; " + POSITIVE),
    (["--schedule.eval_every", "0"], "command line: schedule.eval_every is 0; " + COUNT),
    (["--schedule.crop", "1x1"], "command line: schedule.crop is '1x1'; it must be height and width"),
    (["--schedule.crop", "128"], SIDES),
    (["--schedule.crop", "-128x160"], SIDES),
    (["--schedule.crop", "[128"], "command line: --schedule.crop: not valid YAML"),
    (["--teacher.iterations", "0"], "command line: teacher.iterations is 0; " + COUNT),
    (["--teacher.alpha", "-1"], "command line: teacher.alpha is -1; " + NOT_NEGATIVE),
    (["--seed", "1.5"], "command line: seed is 1.5; it must be a whole number"),
    (["--name", "../../x"], "it names a folder below runs/"),
    (["--name", "a/b"], "it names a folder below runs/"),
    (["--name", ""], "name has 0 characters"),
    (["--name", 300 * "x"], "name has 300 characters"),
    (["--preset", "papr"], "one of ladseg, paper, released-code; did you mean 'paper'?"),
    (["--data", "5"], "command line: 'data' needs keys below it"),
    (["--data", "{rot: x}"], "command line: unknown key 'data.rot'; did you mean 'root'?"),
    (["--data.classes", "[yes, no]"], "data.classes[0] is true; it must be text (put it in quotes)"),
    (["--data.classes", "[a, a]"], "data.classes has 'a' twice"),
    (["--distill.method", "kd+"], "distill.method is 'kd+'; it must be one of"),
    (["--distill.also", "[]"], "distill.also is no longer a key"),
    (["--baseline", "perhaps"], "baseline is 'perhaps'; it must be true or false"),
    (["--student.args", "{a: *b}"], "not valid YAML"),
    (["--schedule.optimizer", "adam"], "one of sgd, adamw; did you mean 'adamw'?"),
    (["--schedule.iterations", "1", "--schedule.iterations", "-1"], "schedule.iterations is -1"),
]


@pytest.mark.parametrize(("words", "message"), FLAGS, ids=lambda value: " ".join(value)[:40])
def test_a_wrong_flag_is_one_line_that_names_the_key_and_what_is_wanted(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "demo", *words]) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert message in printed.err
    assert "Union" not in printed.err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name: café".encode("latin-1"), "byte 10 is not UTF-8; save the recipe as UTF-8"),
        ("name: a".encode("utf-16"), "byte 1 is not UTF-8; save the recipe as UTF-8"),
        (b"\x00" * 100, "not valid YAML"),
        (b"a: b\n" * 300_000, "too many for a recipe"),
    ],
    ids=["latin-1", "utf-16", "zeros", "large"],
)
def test_a_file_that_is_no_text_is_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "r.yaml")
    assert message in str(caught.value)


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_bytes("seed: 3".encode("utf-8-sig"))
    assert load_recipe(tmp_path / "r.yaml").seed == 3


def test_a_missing_recipe_says_what_relative_paths_are_relative_to() -> None:
    with pytest.raises(RecipeError, match=f"working directory {Path.cwd()}"):
        load_recipe("no.yaml")


def test_aliases_of_aliases_cost_no_time(tmp_path: Path) -> None:
    """Each line doubles nine times what the one before holds; nobody writes it all out."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join(9 * [f'*a{n - 1}'])}]" for n in range(1, 15)]
    (tmp_path / "r.yaml").write_text("\n".join(lines))
    with pytest.raises(RecipeError, match="unknown key 'a0'"):
        load_recipe(tmp_path / "r.yaml")


@pytest.mark.parametrize("value", ["128x160", "128X160", "[128, 160]"])
def test_a_crop_is_written_as_a_window_is(value: str) -> None:
    assert make_recipe({}, ["--schedule.crop", value]).schedule.crop == (128, 160)


def test_home_and_variables_in_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("DATA", "/data")
    recipe = make_recipe(
        {"data": {"root": "$DATA/voc", "classes": "~/c.txt"}, "student": {"weights": "~/w.pt"}},
        ["--out", "~/runs", "--teacher.weights=${DATA}/w.pt"],
    )
    assert (recipe.data.root, recipe.data.classes) == ("/data/voc", "/home/me/c.txt")
    assert (recipe.student.weights, recipe.teacher.weights, recipe.out) == (
        "/home/me/w.pt",
        "/data/w.pt",
        "/home/me/runs",
    )


def test_a_label_map_that_merges_classes_says_so(caplog: pytest.LogCaptureFixture) -> None:
    make_recipe({"data": {"label_map": {0: 0, 1: 255, 2: 255}}})
    assert caplog.text == ""
    make_recipe({"data": {"label_map": {0: 0, 7: 1, 8: 1}}})
    assert "data.label_map merges mask values: [7, 8] become class 1" in caplog.text


# A recipe, and the lines about keys that it sets and that the run does not read.
UNREAD: list[tuple[str, list[str]]] = [
    ("{}", []),
    ("preset: released-code", []),
    ("{preset: released-code, distill: {method: none}}", []),
    ("{distill: {method: none, alpha: 0.3}}", ["no effect, because nothing is distilled: distill.alpha"]),
    ("{distill: {method: none}, teacher: {lr: 0.3}}", ["no effect, because nothing is distilled: teacher.lr"]),
    (
        "{teacher: {label_assisted: false, consistency: 3, alpha: 0.3}, distill: {alpha: 0.1, class_weights: none}}",
        [
            "no effect, because the teacher sees no label: teacher.alpha, teacher.consistency, distill.alpha, "
            "distill.class_weights"
        ],
    ),
    ("{teacher: {label_assisted: false, lr: 0.1}, distill: {method: kd, tau: 2}}", []),
    ("{teacher: {consistency: 3, alpha: 0.3}, distill: {alpha: 0.1}}", []),
    (
        "schedule: {optimizer: adamw, momentum: 0.8}",
        ["no effect, because schedule.optimizer is adamw: schedule.momentum"],
    ),
    ("schedule: {decay: cosine, power: 2}", ["no effect, because schedule.decay is cosine: schedule.power"]),
    ("schedule: {warmup_ratio: 0.1}", ["no effect, because schedule.warmup is 0: schedule.warmup_ratio"]),
    ("loss: {focal_gamma: 1}", ["no effect, because loss.focal is 0: loss.focal_gamma"]),
    ("loss: {ohem_min_kept: 7}", ["no effect, because loss.ohem is null: loss.ohem_min_kept"]),
    ("augment: {color: none, jitter: 0.5}", ["no effect, because augment.color is none: augment.jitter"]),
    (
        "augment: {function: 'a.b:c', flip: 0, rescale: [64, 64]}",
        ["no effect, because augment.function makes the changes: augment.flip"],
    ),
]


@pytest.mark.parametrize(("text", "lines"), UNREAD)
def test_keys_that_the_run_does_not_read_are_said(text: str, lines: list[str]) -> None:
    assert unread_keys(make_recipe(yaml.safe_load(text))) == lines


def test_no_ready_recipe_sets_a_key_that_it_does_not_read() -> None:
    assert {name: lines for name in recipe_names() if (lines := unread_keys(load_recipe(name)))} == {}


def test_numbers_that_mean_the_same_in_every_reading_are_taken() -> None:
    text = "{seed: 007, data: {label_map: {000: 0, 001: 1}}, schedule: {iterations: 1_000, lr: 1e-3}}"
    recipe = make_recipe(read_yaml(text, "text"))
    assert (recipe.seed, recipe.data.label_map, recipe.schedule.iterations) == (7, {0: 0, 1: 1}, 1000)

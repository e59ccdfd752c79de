"""The commands as a user types them, on a data set in miniature."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from ladseg.cli import main
from ladseg.cli.terminal import print_paragraph
from ladseg.data import write_demo_scenes
from ladseg.deploy.student_file import load_student
from ladseg.recipe_files import load_recipe, recipe_names

SMALL = {
    "student.model": "pspnet@test_resnet",
    "schedule.iterations": "4",
    "teacher.iterations": "4",
    "schedule.batch_size": "4",
    "schedule.crop": "[32, 32]",
    "schedule.eval_every": "2",
    "schedule.precision": "fp32",
}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    write_demo_scenes(root, train=8, val=3, size=(32, 48))
    return root


def words(scenes: Path, out: Path, **changes: str) -> list[str]:
    values = {
        "data.root": str(scenes),
        "data.classes": str(scenes / "classes.txt"),
        "data.ignore_index": "9",
        "out": str(out),
        **SMALL,
        **{key.replace("__", "."): value for key, value in changes.items()},
    }
    return ["train", "demo", *(word for key, value in values.items() for word in (f"--{key}", value))]


def run_in_a_process(arguments: list[str], launcher: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *launcher, "-m", "ladseg", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)


def test_train_leaves_table_picture_and_weights_then_eval_agrees(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(words(scenes, out)) == 0
    first = printed = capsys.readouterr().out
    for word in ("student alone", "teacher", "LAD student", "mIoU", "parameters", "picture"):
        assert word in printed
    results = json.loads((out / "results.json").read_text())
    assert list(results["networks"]) == ["baseline", "teacher", "student"]
    assert results["networks"]["teacher"]["sees"] == "image + noised label"
    assert results["networks"]["teacher"]["parameters"] - results["networks"]["student"]["parameters"] == 16 * 3 * 3
    assert "from the image alone" in printed
    for name in ("recipe.yaml", "environment.json", "student.safetensors", "report.html"):
        assert (out / name).exists()
    for phase in ("baseline", "teacher", "student"):
        lines = [json.loads(line) for line in (out / phase / "metrics.jsonl").read_text().splitlines()]
        assert any("loss" in line for line in lines)
    with Image.open(out / "picture.png") as picture:
        assert picture.size[0] > 1000
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 100

    network, header = load_student(out / "student.safetensors")
    assert header.data.class_names[:2] == ("sky", "ground")
    assert network.aux_head is None
    trained = load_file(out / results["delivers"] / "weights.safetensors")
    assert all(torch.equal(value, trained[name]) for name, value in network.state_dict().items())

    for weights in (out, out / "student.safetensors"):  # on the data of the run
        assert main(["eval", str(weights)]) == 0
        printed = capsys.readouterr().out
        assert f"{100 * results['networks'][results['delivers']]['mean_iou']:.2f}" in printed

    # A finished run gives the same table at once, and writes nothing; another recipe is refused.
    written = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert main(words(scenes, out)) == 0
    again = capsys.readouterr().out
    assert f"{out} has finished before" in again
    assert first[first.index("LAD student") :].splitlines()[0] in again
    assert "weights: " in again
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == written
    assert main(words(scenes, out, schedule__lr="0.5")) == 2
    assert "holds a run of another recipe (schedule.lr: 0.004 there, 0.5 now)" in capsys.readouterr().err


def test_a_finished_run_or_comparison_loads_nothing_that_trains(scenes: Path, tmp_path: Path) -> None:
    """It reprints its table as soon as torch is there, which is half of the time that all imports take."""
    plain = {"distill.method": "none", "schedule.iterations": "2"}
    trained = words(scenes, tmp_path / "run", **plain)
    compared = ["compare", "demo", *words(scenes, tmp_path / "compared", **plain)[2:], "--methods=none", "--seeds=0"]
    heavy = {"timm", "torchvision", "accelerate", "matplotlib", "scipy", "jinja2"}
    code = f"import sys; from ladseg.cli import main; print(main(sys.argv[1:]), {heavy} & set(sys.modules))"
    for arguments in (trained, compared):
        assert main(arguments) == 0
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
        assert any("before" in line for line in done.stdout.splitlines()[:2])  # after a note on keys of no effect
        assert done.stdout.splitlines()[-1] == "0 set()"


@pytest.mark.parametrize(
    "changes",
    [
        {"baseline": "false"},
        {"distill.method": "none"},
        {"distill.method": "kd", "distill.tau": "1.0"},
        {"distill.method": "feature", "teacher.label_assisted": "false", "teacher.model": "fcn@test_efficientnet"},
        {"distill": '[{"method": "fitnet"}, {"method": "mgd"}]'},
        {"distill": '[{"method": "at", "weight": 100}, {"method": "dist"}]'},
        {"distill.method": "skd"},
        {"distill.method": "cirkd"},
        {"distill": '[{"method": "maskd"}, {"method": "dsd"}]'},
        {"distill.method": "ifvd", "schedule.optimizer": "adamw"},
        {"distill.method": "cwd-full", "distill.term_weights": "{cwd_features: 10}"},
        {"teacher.label_assisted": "false", "teacher.model": "fcn@test_efficientnet"},
        {"preset": "released-code", "teacher.lr": "0.01"},
        {"preset": "paper", "teacher.iterations": "2"},
        {"teacher.warm_start": "true", "schedule.optimizer": "sgd", "schedule.clip_grad": "1.0"},
    ],
    ids=lambda changes: " ".join(f"{k}={v}" for k, v in changes.items()),
)
def test_every_kind_of_run(
    scenes: Path, tmp_path: Path, changes: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(scenes, tmp_path / "run", **changes)) == 0
    networks = json.loads((tmp_path / "run/results.json").read_text())["networks"]
    assert ("baseline" in networks) == (changes.get("baseline") != "false")
    assert ("teacher" in networks) == (changes.get("distill.method") != "none")
    assert all(0 <= row["mean_iou"] <= 1 for row in networks.values())
    assert load_student(tmp_path / "run/student.safetensors")[1].num_classes == 9


def test_the_student_alone_and_the_distilled_one_start_equal_and_see_the_same(scenes: Path, tmp_path: Path) -> None:
    """With no weight on the teacher, the distilled student is the student alone."""
    assert main(words(scenes, tmp_path / "run", distill__weight="0.0", distill__warm_start="false")) == 0
    alone, helped = (load_file(tmp_path / f"run/{phase}/weights.safetensors") for phase in ("baseline", "student"))
    assert all(torch.equal(alone[name], helped[name]) for name in alone)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["skd", "cirkd"])
def test_a_killed_run_ends_at_the_same_weights(method: str, scenes: Path, tmp_path: Path) -> None:
    """SIGKILL at three moments of the three trainings; the weights are bit-identical to an unbroken run's.

    The methods have what is hardest to resume: an adversary with an optimizer of its own, a projector, random masks,
    memories of earlier steps.
    """
    length = {"schedule__iterations": "12", "teacher__iterations": "12"}
    methods = {"distill": f'[{{"method": "{method}"}}, {{"method": "mgd"}}]'}
    changes = {**length, **methods, "schedule__save_every": "1", "schedule__eval_every": "6"}
    assert run_in_a_process(words(scenes, tmp_path / "whole", **changes)).returncode == 0
    arguments = words(scenes, tmp_path / "broken", **changes)
    for phase in ("baseline", "teacher", "student"):
        kill_once_it_has_checkpoints(arguments, tmp_path / "broken" / phase / "checkpoints")
    finished = run_in_a_process(arguments)
    assert finished.returncode == 0, finished.stderr
    for phase in ("baseline", "teacher", "student"):
        whole, broken = (load_file(tmp_path / run / phase / "weights.safetensors") for run in ("whole", "broken"))
        assert all(torch.equal(whole[name], broken[name]) for name in whole), phase
    a, b = (json.loads((tmp_path / run / "results.json").read_text())["networks"] for run in ("whole", "broken"))
    assert [row["mean_iou"] for row in a.values()] == [row["mean_iou"] for row in b.values()]


def kill_once_it_has_checkpoints(arguments: list[str], folder: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "ladseg", *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 120
    while process.poll() is None and not list(folder.glob("step_*.pt")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert process.poll() is None, (process.stderr.read() if process.stderr else b"").decode()
    process.send_signal(signal.SIGKILL)
    process.communicate()


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def launchers(nodes: int) -> list[list[str]]:
    """torchrun for two processes: of one machine, or of two machines with one each, which are both this one."""
    if nodes == 1:
        return [["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", free_port()]]
    meeting = ["--nnodes", "2", "--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", free_port()]
    return [["-m", "torch.distributed.run", *meeting, "--node-rank", rank] for rank in "01"]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "nodes"), [("cwd", 2), ("skd", 1), ("cirkd", 1), ("mgd", 1)])
def test_two_processes_follow_one(method: str, nodes: int, scenes: Path, tmp_path: Path) -> None:
    """torchrun with two processes of 2 images each, against one process of 4.

    Without dropout, which is drawn for each process, and with the batch norms' first statistics, which on processors
    each process would take of its own images.
    """
    changes = {
        "distill__method": method,
        "schedule__iterations": "3",
        "teacher__iterations": "3",
        "schedule__eval_every": "3",
        "schedule__optimizer": "sgd",
        "schedule__lr": "0.01",
        "schedule__precision": "fp32",
    }
    if method == "cirkd":  # as published it compares the images of one process: here two by two in both runs
        changes["distill__options"] = '{"group": 2}'
    driver = tmp_path / "driver.py"
    driver.write_text(
        "import sys, torch\nfrom torch.nn.modules.batchnorm import _BatchNorm\n"
        "torch.nn.Dropout.forward = lambda self, x: x\n"
        "_BatchNorm.train = lambda self, mode=True: torch.nn.Module.train(self, False)\n"
        "from ladseg.cli import main\nsys.exit(main())\n"
    )
    runs = {}
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name, starts in {"one": [[]], "two": launchers(nodes)}.items():
        started = []
        for number, launcher in enumerate(starts):
            command = [sys.executable, *launcher, str(driver), *words(scenes, tmp_path / name, **changes)]
            with (tmp_path / f"{name}{number}.txt").open("w") as printed:
                started.append(subprocess.Popen(command, stdout=printed, stderr=subprocess.STDOUT, env=environment))
        for number, process in enumerate(started):
            status = process.wait(300)
            assert status == 0, (tmp_path / f"{name}{number}.txt").read_text()[-3000:]
        runs[name] = json.loads((tmp_path / name / "results.json").read_text())["networks"]
    for phase in ("baseline", "teacher", "student"):
        one, two = (load_file(tmp_path / run / phase / "weights.safetensors") for run in ("one", "two"))
        for name, value in one.items():
            difference, size = (two[name] - value).float(), value.float()
            # Of the tensor as a whole: a single weight whose gradients cancel out may differ by as much as itself.
            assert difference.norm() <= 2e-2 * size.norm() + 2e-4 * size.numel() ** 0.5, name
        assert runs["two"][phase]["mean_iou"] == pytest.approx(runs["one"][phase]["mean_iou"], abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "nosuch"], "no ready recipe is called 'nosuch'"),
        (["train", "nosuch.yaml"], "nosuch.yaml: no such recipe file"),
        (["train", "demo", "--schedule.iteratons", "3"], "did you mean 'schedule.iterations'?"),
        (["train", "demo", "--data.root", "/nowhere"], "data.root '/nowhere' is not a folder"),
        (["eval", "nosuch.safetensors"], "nosuch.safetensors: no such weights file"),
        (["recipes", "damo"], "did you mean 'demo'?"),
    ],
)
def test_faults_are_one_line_and_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_fault_in_the_data_stops_before_training(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(scenes, tmp_path / "run", data__ignore_index="255")) == 2
    assert "mask has value 9 (43 pixels) but there are 9 classes (0..8)" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_recipes_are_listed_and_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    assert (
        {line.split()[0] for line in capsys.readouterr().out.splitlines()} == set(recipe_names()) >= {"demo", "camvid"}
    )
    assert main(["recipes", "camvid"]) == 0
    (tmp_path / "copy.yaml").write_text(capsys.readouterr().out)
    assert load_recipe(tmp_path / "copy.yaml") == load_recipe("camvid")


@pytest.mark.parametrize("command", [[], ["train"], ["demo"], ["eval"], ["recipes"]])
def test_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--help"])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert "usage: ladseg" in printed
    if command in (["train"], ["demo"]):
        assert "--schedule.iterations" in printed
        assert "Training steps" in printed


@pytest.mark.parametrize("columns", [60, 80, 132])
def test_help_keeps_to_the_terminal(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    commands = [[], ["train"], ["compare"], ["reproduce"], ["check"], ["eval"], ["submit"], ["export"], ["bench"]]
    for command in commands:
        with pytest.raises(SystemExit):
            main([*command, "--help"])
        wide = [line for line in capsys.readouterr().out.splitlines() if len(line) > max(columns, 78)]
        assert not wide, command


def test_sentences_are_folded_on_a_terminal_and_whole_in_a_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sentence = "The distilled student is ahead of the student alone " * 4
    print_paragraph(sentence)
    assert capsys.readouterr().out == f"{sentence}\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    for columns in ("40", "80", "1"):
        monkeypatch.setenv("COLUMNS", columns)
        print_paragraph(sentence, indent=4)
        lines = capsys.readouterr().out.splitlines()
        assert " ".join(line.strip() for line in lines) == sentence.strip()
        assert all(len(line) <= max(int(columns), 24) for line in lines)
        assert all(line.startswith("    T") or line[:4].isspace() for line in lines[1:])


def test_unknown_words_of_commands_without_recipe_keys(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["recipes", "demo", "--fast"])
    assert stopped.value.code == 2
    assert "unrecognized arguments: --fast" in capsys.readouterr().err


FOREIGN = {
    "torchvision.models.segmentation:lraspp_mobilenet_v3_large": {"weights_backbone": None},
    "torchvision.models.segmentation:deeplabv3_mobilenet_v3_large": {"weights_backbone": None, "aux_loss": True},
    "segmentation_models_pytorch:Unet": {"encoder_name": "resnet18", "encoder_weights": None},
    "transformers:SegformerForSemanticSegmentation": {
        "hidden_sizes": [8, 16, 20, 32],
        "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 1, 2, 2],
        "decoder_hidden_size": 32,
    },
}


@pytest.mark.parametrize("model", FOREIGN)
def test_networks_of_other_libraries_from_the_recipe_alone(
    model: str, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(model.split(".")[0].split(":")[0])
    changes = {"student.model": model, "student.args": json.dumps(FOREIGN[model])}
    short = {"schedule.iterations": "2", "teacher.iterations": "2", "schedule.eval_every": "2"}
    assert main(words(scenes, tmp_path / "run", **changes, **short)) == 0
    capsys.readouterr()
    results = json.loads((tmp_path / "run/results.json").read_text())
    rows = results["networks"]
    assert [rows[key]["model"] for key in ("baseline", "teacher", "student")] == [model] * 3
    assert rows["teacher"]["parameters"] > rows["student"]["parameters"]
    weights = tmp_path / "run/student.safetensors"
    assert main(["eval", str(weights), "--data", str(scenes)]) == 2
    assert f"if you trust it, add --model {model}" in capsys.readouterr().err
    assert main(["eval", str(weights), "--data", str(scenes), "--model", model]) == 0
    assert f"{100 * rows[results['delivers']]['mean_iou']:.2f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher.model": "pspnet_r81"}, "no network is called 'pspnet_r81'"),
        ({"student.features": "backbone.layer44"}, "features 'backbone.layer44' is not a module"),
        ({"teacher.input_layer": "backbone.cnv1"}, "input_layer 'backbone.cnv1' is not a Conv2d"),
        ({"student.model": "nowhere.net:Net"}, "can't import 'nowhere.net'"),
    ],
)
def test_a_fault_in_either_network_shows_before_any_training(
    changes: dict[str, str], message: str, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(scenes, tmp_path / "run", **changes)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_models_lists_and_measures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "stdc1", "fcn@test_resnet"]) == 0
    printed = capsys.readouterr().out
    assert "8,275,104" in printed
    assert "16.86" in printed
    assert main(["models", "fcn@test_resnet", "--time", "--size", "32x64", "--classes", "3", "--markdown"]) == 0
    header, _, row = capsys.readouterr().out.splitlines()[2:]
    cells = dict(zip(header.split(" | "), row.split(" | "), strict=True))
    assert float(cells["predict ms"]) > 0
    assert float(cells["train ms"]) > 0
    assert main(["models", "pspnet_r19", "stdc1", "--size", "64x64", "--args", "{align_corners: false}"]) == 2
    printed = capsys.readouterr()
    assert "stdc1" in printed.out
    assert "left out: no network is called 'pspnet_r19'; did you mean" in printed.err
    with pytest.raises(SystemExit):
        main(["models", "--size", "wide"])
    assert "is not HEIGHTxWIDTH" in capsys.readouterr().err


def test_without_the_extras_their_networks_are_left_out_and_said_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setitem(sys.modules, "peft", None)
    assert main(["models", "--size", "64x64", "--markdown"]) == 0
    printed = capsys.readouterr()
    assert "stdc1" in printed.out
    assert "segformer_b0" not in printed.out
    assert "'segformer_b0' is transformers' implementation: pip install 'ladseg[transformers]'" in printed.err
    assert "DINOv2 is trained with LoRA from peft: pip install 'ladseg[lora]'" in printed.err
    assert main(["models", "segformer_b0"]) == 2


def test_the_page_of_networks_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[1] / "docs/models.md").read_text(encoding="utf-8")
    assert main(["models", "--markdown"]) == 0
    assert capsys.readouterr().out in page


def test_an_interrupt_that_a_package_swallows_is_no_internal_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As torch does while it loads: what follows is an error of another kind."""

    def swallowing() -> list[str]:
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        raise RecursionError("half loaded")

    monkeypatch.setattr("ladseg.recipe_files.recipe_names", swallowing)
    before = signal.getsignal(signal.SIGINT)
    assert main(["recipes"]) == 130
    assert signal.getsignal(signal.SIGINT) is before
    assert capsys.readouterr().err == "ladseg: stopped\n"
    monkeypatch.setattr("ladseg.recipe_files.recipe_names", lambda: 1 / 0)
    assert main(["recipes"]) == 3


def test_ctrl_c_while_the_command_line_loads_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted:
        def find_spec(self, name: str, *others: object) -> None:
            if name == "ladseg.cli.entry":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "ladseg.cli.entry")
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    assert main(["recipes"]) == 130
    assert capsys.readouterr().err == "ladseg: stopped\n"

"""Spoilt files of a run's folder: made again with a line that says so, or one line that says what to do."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ladseg
from ladseg.commands.report import write_report
from ladseg.data import write_demo_scenes
from ladseg.errors import RecipeError, UserError
from ladseg.lease import Lease
from ladseg.results import RunResults, read_results, to_json
from ladseg.runs.finished import finished_results
from ladseg.runs.parts import refuse_misplaced
from ladseg.training import make_accelerator, read_metrics, validation_curve
from ladseg.training.checkpoints import load_checkpoint, load_weights, save_weights
from ladseg.training.logs import RunLog, drop_later_metrics
from ladseg.training.result import load_result


class Network(nn.Module):
    """The smallest network."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, 4, 3, 2, 1)
        self.head = nn.Conv2d(4, num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.backbone(image).relu())


def recipe(root: Path, out: Path) -> dict[str, Any]:
    return {
        "data": {"root": str(root), "classes": str(root / "classes.txt"), "ignore_index": 9},
        "student": {"model": "tests.test_spoilt_folders:Network"},
        "distill": {"method": "cwd"},
        "schedule": {"iterations": 2, "batch_size": 2, "crop": [32, 32], "eval_every": 1, "precision": "fp32"},
        "trackers": [],
        "keep_checkpoints": True,
        "out": str(out),
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run, beside its data."""
    place = tmp_path_factory.mktemp("spoilt")
    write_demo_scenes(place / "scenes", train=4, val=2, size=(32, 48))
    ladseg.train(recipe(place / "scenes", place / "run"), log=lambda line: None)
    shutil.copytree(place / "run", place / "whole")
    return place / "run"


@pytest.fixture
def run(finished: Path) -> Path:
    """The same folder, whole again."""
    shutil.rmtree(finished)
    shutil.copytree(finished.parent / "whole", finished)
    return finished


def again(run: Path) -> tuple[RunResults, list[str]]:
    lines: list[str] = []
    results = ladseg.train(recipe(run.parent / "scenes", run), log=lines.append)
    assert results is not None
    return results, lines


def with_values(change: Callable[[Any], Any]) -> Callable[[Path], object]:
    return lambda path: path.write_text(json.dumps(change(json.loads(path.read_text()))))


def each(value: object) -> Callable[[Any], Any]:
    """Return what puts a value in the place of every leaf."""

    def changed(old: Any) -> Any:
        if isinstance(old, dict):
            return {key: changed(item) for key, item in old.items()}
        return [changed(item) for item in old] if isinstance(old, list) else value

    return changed


def linked(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


ANY: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "rubbish": lambda path: path.write_bytes(bytes(range(1, 256)) * 3),
    "no UTF-8": lambda path: path.write_bytes(b"\xe9" + path.read_bytes()),
    "gone": lambda path: path.unlink(),
    "a link to itself": linked,
}
JSON: dict[str, Callable[[Path], object]] = {
    "a list": lambda path: path.write_text("[1, 2]"),
    "no value": lambda path: path.write_text("null"),
    "NaN": lambda path: path.write_text("NaN"),
    "endless": lambda path: path.write_text("[" * 100_000),
    "no keys": lambda path: path.write_text("{}"),
    "text everywhere": with_values(each("x")),
    "null everywhere": with_values(each(None)),
    "minus seven everywhere": with_values(each(-7)),
}
TRAINED = ["student.safetensors", "teacher.safetensors", "student/row.json", "teacher/val.npz"]
FILES = ["results.json", "recipe.yaml", "environment.json", "picture.png", "samples/samples.json", *TRAINED]
CASES = [(name, kind) for name in FILES for kind in ({**ANY, **JSON} if name.endswith(".json") else ANY)]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_run_with_a_spoilt_file_has_not_finished(name: str, kind: str, run: Path) -> None:
    ({**ANY, **JSON})[kind](run / name)
    lines: list[str] = []
    assert finished_results(run, lines.append) is None
    if name == "results.json" and kind in ("gone", "a link to itself"):  # as in a run that has not come so far
        assert not lines
    else:
        (line,) = lines
        assert line.startswith(f"{run / name}: ")
        assert line.endswith("which are not repeated")
        assert line.isprintable()


@pytest.mark.parametrize("kind", ["zeros", "cut off"])
def test_the_same_command_makes_spoilt_files_again(kind: str, run: Path) -> None:
    before = read_results(run)
    assert isinstance(before, RunResults)
    for name in FILES[1:]:
        ANY[kind](run / name)
    results, lines = again(run)
    assert f"{run / 'recipe.yaml'}: can't be read" in lines[0]
    for key, row in results.networks.items():  # nothing is trained anew
        there = before.networks[key]
        assert to_json([row.iou, row.best_step, row.seconds]) == to_json([there.iou, there.best_step, there.seconds])
    finished = f"{run} has finished before, and {run.parent / 'scenes'} is unchanged since it was checked"
    assert again(run)[1] == [finished]
    write_report(run)


@pytest.mark.parametrize("kind", ["empty", "cut off", "zeros", "rubbish", "no UTF-8", "gone", "a link to itself"])
@pytest.mark.parametrize("name", ["recipe.yaml", "environment.json", "samples/samples.json", "teacher/val.npz"])
def test_a_report_of_spoilt_files_is_one_line(name: str, kind: str, run: Path) -> None:
    ANY[kind](run / name)
    with pytest.raises(RecipeError, match="start the command that made the run again") as caught:
        write_report(run)
    assert str(caught.value).startswith(f"{run / name}: ")


PLACED = {
    **dict.fromkeys([*FILES, "student/metrics.jsonl", "student/checkpoints/step_7.pt"], "is a folder, but a file"),
    **dict.fromkeys(("samples", "student", "teacher/checkpoints", "baseline/ladseg"), "is a file, but a folder"),
}


@pytest.mark.parametrize("name", PLACED)
def test_one_in_the_place_of_the_other_is_said_before_training(name: str, run: Path) -> None:
    path = run / name
    if path.is_dir():
        shutil.rmtree(path)
        path.write_text("x")
    elif name == "baseline/ladseg":
        path.write_text("x")
    else:
        path.unlink(missing_ok=True)
        path.mkdir()
    with pytest.raises(UserError, match=PLACED[name]) as caught:
        refuse_misplaced(run)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_folder_in_the_place_of_the_results_is_said_before_training(run: Path) -> None:
    (run / "results.json").unlink()
    (run / "results.json").mkdir()
    with pytest.raises(UserError, match=r"results.json: is a folder, but a file of this name"):
        again(run)


METRICS = {"step": 1, "lr": 0.1, "loss": 2.5}
LINES: dict[str, tuple[bytes, int]] = {
    "a power cut": (bytes(4096), 1),
    "half a line": (b'{"step": 2, "lo', 1),
    "another's": (b'[1, 2]\n"x"\nnull\n{}\n{"step": "x"}\n{"step": 3, "loss": []}\n{"step": NaN}\n', 1),
    "no UTF-8": (b"\xff\xfe\n", 1),
    "endless": (b"[" * 100_000 + b"\n", 1),
    "huge": (b'{"step": 1' + b"0" * 400 + b"}\n", 1),
    "not finite": (b'{"step": 2, "loss": null}\n', 2),
    "whole": (b'{"step": 2, "score": 0.5, "best_score": 0.5}\n', 2),
}


@pytest.mark.parametrize("kind", LINES)
def test_lines_that_are_no_metrics_are_left_out(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    content, count = LINES[kind]
    path.write_bytes(json.dumps(METRICS).encode() + b"\n" + content)
    found = read_metrics(path)
    assert (found[0], len(found)) == (METRICS, count)
    assert validation_curve(path) == ([(2, 0.5)] if kind == "whole" else [])
    drop_later_metrics(path, 1)
    assert path.read_text() == json.dumps(METRICS) + "\n"


RESULTS = ["", "[]", "null", "{}", "NaN", "[" * 100_000, '{"identity": 3}', "\0\0"]


@pytest.mark.parametrize("text", RESULTS)
def test_a_spoilt_result_counts_as_none(text: str, tmp_path: Path, run: Path) -> None:
    assert load_result(run / "student") is not None
    (run / "student/result.json").write_text(text)
    assert load_result(run / "student") is None


@pytest.mark.parametrize("identity", [None, 3, "", "x", "[]", "null"])
def test_a_result_of_no_training_counts_as_none(identity: object, run: Path) -> None:
    with_values(lambda values: {**values, "identity": identity})(run / "student/result.json")
    assert load_result(run / "student") is None


CHECKPOINTS: dict[str, dict[str, Any]] = {
    "identity of another kind": {"identity": 3},
    "identity that is no JSON": {"identity": "x"},
    "progress of another kind": {"progress": [1]},
    "progress without a step": {"progress": {}},
    "a step that is text": {"progress": {"step": "x", "seconds": 0.0}},
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_a_checkpoint_of_other_values_is_no_checkpoint(kind: str, run: Path) -> None:
    path = run / "student/checkpoints/step_000002.pt"
    torch.save({**load_checkpoint(path), **CHECKPOINTS[kind]}, path)
    with pytest.raises(UserError, match="not a readable checkpoint"):
        load_checkpoint(path)


@pytest.mark.parametrize("kind", ["another network's", "without one", "empty", "zeros"])
def test_spoilt_weights_come_from_the_checkpoint(kind: str, run: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = run / "student/weights.safetensors"
    good = path.read_bytes()
    if kind in ANY:
        ANY[kind](path)
    else:
        network = Network(7)
        save_weights(path, dict(list(network.state_dict().items())[: None if kind == "another network's" else 1]))
    classes = read_results(run).networks["student"].iou
    assert not load_weights(path, Network(len(classes)))
    if kind == "zeros":
        (run / "results.json").unlink()
        again(run)
        assert path.read_bytes() == good
        assert f"{path}: missing or damaged; student is trained again from its last checkpoint" in caplog.text


def test_counts_of_other_classes_are_measured_again(run: Path) -> None:
    np.savez(run / "student/val.npz", confusion=np.eye(3, dtype=np.int64), images=np.ones((2, 3, 3), np.int64))
    lines: list[str] = []
    assert finished_results(run, lines.append) is None
    assert "val.npz: is of other classes or images than the run" in lines[0]


@pytest.mark.parametrize("change", [{"networks": {}}, {"class_names": ["a"]}, {"colors": []}])
def test_results_that_do_not_fit_together_are_none(change: dict[str, Any], run: Path) -> None:
    with_values(lambda values: {**values, **change})(run / "results.json")
    with pytest.raises(RecipeError, match=r"results.json: made by an older ladseg, or changed \(.*classes|no student"):
        read_results(run)


def test_a_spoilt_report_is_written_again(run: Path) -> None:
    good = (run / "report.html").read_bytes()
    ANY["cut off"](run / "report.html")
    again(run)
    assert len((run / "report.html").read_bytes()) == len(good)


class Full:
    """A tracker on a full disk."""

    name = "tensorboard"

    def log(self, values: object, step: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def log_images(self, *words: object, **options: object) -> None:
        self.log({}, 0)

    def finish(self) -> None:
        self.log({}, 0)


FIGURES: dict[str, Callable[[RunLog], None]] = {
    "terms": lambda log: log.terms(1, 0.1, {"loss": 1.0}, 1.0, 1.0),
    "an evaluation": lambda log: log.evaluation(1, 0.5, 0.5, 1, 1.0),
    "pictures": lambda log: log.pictures(1, lambda: [np.zeros((2, 2, 3), np.uint8)]),
    "the end": lambda log: None,
}


@pytest.mark.parametrize("kind", FIGURES)
def test_a_tracker_on_a_full_disk_is_one_line(kind: str, tmp_path: Path) -> None:
    accelerator = make_accelerator("fp32", tmp_path)

    def write() -> None:
        with RunLog(tmp_path / "toy", "toy", 0, 2, accelerator) as log:
            accelerator.log_with, accelerator.trackers = ["tensorboard"], [Full()]
            FIGURES[kind](log)

    with pytest.raises(
        UserError, match=r"toy: tensorboard can't write there \(No space left on device\); put that right"
    ):
        write()


def test_a_lease_on_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class FullFile:
        def __enter__(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        def __exit__(self, *about: object) -> None:
            pass

    def full(descriptor: int, mode: str) -> FullFile:
        os.close(descriptor)
        return FullFile()

    monkeypatch.setattr("ladseg.lease.os.fdopen", full)
    with pytest.raises(UserError, match=r"\.lease: can't be written \(No space left on device\); make room"):
        Lease(tmp_path).acquire()
    assert not list(tmp_path.iterdir())

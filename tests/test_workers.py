"""Several processes share a comparison: none trains what another trains, the dead are followed, nothing is lost."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ladseg.cli import main
from ladseg.comparison import launch as launching
from ladseg.comparison import sharing
from ladseg.comparison.launch import Worker, launch, submit
from ladseg.data import write_demo_scenes
from ladseg.errors import FileError, TrainingError, UserError
from ladseg.lease import Lease
from tests.test_command_line import SMALL


def cell(folder: Path, finished: bool = False, shared: dict[str, Path] | None = None) -> Any:
    return SimpleNamespace(folder=folder, results="done" if finished else None, shared=shared or {})


def choose(cells: list[Any]) -> sharing.Choice:
    return sharing._choose(cells, [number for number, one in enumerate(cells) if one.results is None])


def test_a_worker_takes_the_first_cell_that_is_free(tmp_path: Path) -> None:
    teacher = tmp_path / "teacher"
    cells = [
        cell(tmp_path / "a", finished=True),
        cell(tmp_path / "b"),
        cell(tmp_path / "c", shared={"teacher": teacher}),
        cell(tmp_path / "d"),
    ]
    with Lease(tmp_path / "b"), Lease(teacher):
        choice = choose(cells)
        assert choice.number == 3
        assert choose(cells).number == sharing.WAIT
        assert choice.lease is not None
        choice.lease.release()
    first, second = choose(cells), choose(cells)
    assert (first.number, second.number) == (1, 2)
    for taken in (first, second):
        assert taken.lease is not None
        taken.lease.release()
    assert choose([cell(tmp_path / "a", finished=True)]).number == sharing.DONE


def test_a_trained_teacher_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "load_result", lambda folder: "trained")
    with Lease(tmp_path / "teacher"):  # another cell measures it again
        assert choose([cell(tmp_path / "c", shared={"teacher": tmp_path / "teacher"})]).number == 0


@pytest.mark.parametrize(
    ("error", "name", "told"),
    [
        (
            TrainingError("teacher: the loss is nan"),
            "lad",
            "lad, seed 3: teacher: the loss is nan; or leave lad out",
        ),
        # The plain students can't be left out.
        (TrainingError("baseline: the loss is nan"), "none-2x", "none-2x, seed 3: baseline: the loss is nan"),
        (FileError("a.png", "can't be read", "restore it"), "lad", "lad, seed 3: a.png: can't be read; restore it"),
    ],
)
def test_an_error_names_the_cell_that_failed(
    error: UserError, name: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(sharing, "train_networks", fail)
    workspace: Any = SimpleNamespace(accelerator=SimpleNamespace(is_main_process=True))
    failing = cell(tmp_path / "cell")
    failing.method, failing.seed, failing.recipe = SimpleNamespace(name=name), 3, None
    with pytest.raises(type(error)) as raised:
        sharing.train_shared([failing], workspace, print, wait=True)
    assert str(raised.value).startswith(told)
    assert ("--methods" in str(raised.value)) == told.endswith("leave lad out")
    assert not Lease(failing.folder).is_held()


def stand_in(words: Any) -> list[str]:
    """What runs in a worker's place: it writes down its command, and fails where that says so."""
    code = "import sys; print('worker', *sys.argv[1:]); sys.exit('fail' in sys.argv)"
    return [sys.executable, "-c", code, *words]


def test_workers_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "command_of", stand_in)
    said: list[str] = []
    assert launch("local:2", ["compare", "mine.yaml"], tmp_path, {}, said.append)
    logs = sorted((tmp_path / "workers").iterdir())
    assert [log.read_text() for log in logs] == ["worker compare mine.yaml\n"] * 2
    with pytest.raises(UserError, match=r"worker 0 of 2 failed: see .*worker-0.log"):
        launch("local:2", ["fail"], tmp_path, {}, said.append)


@pytest.mark.parametrize("where", ["", "local", "local:0", "local:x", "slurm:", "cloud:2"])
def test_an_unknown_place_is_refused(where: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="write local:2 or slurm:8"):
        launch(where, [], tmp_path, {})


def test_an_array_of_jobs_by_submitit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its local executor starts jobs as Slurm would, and pickles what they run."""
    monkeypatch.setattr(launching, "command_of", stand_in)
    said: list[str] = []
    jobs = submit(["compare", "mine.yaml"], tmp_path, 2, "local", {"timeout_min": 1}, said.append)
    assert [job.result() for job in jobs] == [0, 0]
    assert [job.stdout().count("worker compare mine.yaml") for job in jobs] == [1, 1]
    assert "ladseg compare mine.yaml" in said[-1]
    with pytest.raises(UserError, match="--launch local"):
        submit([], tmp_path, 1, "local", {"no_such_setting": 1}, said.append)


def test_a_pre_empted_worker_is_queued_again() -> None:
    worker = Worker(["true"], ".")
    again = worker.checkpoint()
    assert again.function is worker
    assert worker() == 0


@pytest.mark.slow
def test_workers_that_are_killed_at_random_give_what_one_process_gives(tmp_path: Path) -> None:
    scenes = tmp_path / "scenes"
    write_demo_scenes(scenes, train=8, val=3, size=(32, 48))
    words = ["compare", "demo", "--data.root", str(scenes), "--data.classes", str(scenes / "classes.txt")]
    words += [word for key, value in SMALL.items() for word in (f"--{key}", value)]
    words += ["--methods", "none,lad", "--seeds", "0,1", "--plain-lengths", "1,2", "--out"]
    assert main([*words, str(tmp_path / "one")]) == 0

    shared, when = tmp_path / "shared", random.Random(0)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "ladseg", *words, str(shared), "--worker"]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)

    workers, kills, deadline = [start(), start()], 0, time.monotonic() + 500
    while workers:
        assert time.monotonic() < deadline
        time.sleep(0.2)
        for worker in [worker for worker in workers if worker.poll() is not None]:
            assert worker.stderr is not None
            assert worker.returncode in (0, -signal.SIGKILL), worker.stderr.read().decode()
            workers.remove(worker)
            worker.stderr.close()
        # Only those that have begun to train: the others have nothing to lose.
        if kills < 2 and workers and len(list(shared.glob("seed-*/*/metrics.jsonl"))) > kills:
            time.sleep(when.uniform(0, 1))
            workers[0].kill()
            workers.append(start())
            kills += 1
    assert kills == 2
    # Whatever the last of them left, another start goes on with.
    assert main([*words, str(shared)]) == 0

    def figures(folder: Path) -> Any:
        methods = json.loads((folder / "results.json").read_text())["methods"]
        return {row["name"]: (row["mean_iou"], row["macs"], row.get("gain_at_equal_total")) for row in methods}

    assert figures(shared) == figures(tmp_path / "one")
    for log in shared.glob("seed-*/**/metrics.jsonl"):
        steps = [line["step"] for line in map(json.loads, log.read_text().splitlines()) if "loss" in line]
        assert steps == sorted(set(steps)), log
    assert not list(shared.glob("**/.lease"))

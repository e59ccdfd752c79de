"""A training that is killed and started again ends where an unbroken one ends, bit for bit."""

import json
import os
import random
import signal
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ladseg.training.interruption import interruption
from tests.training import toy

TIMES = {"seconds", "images_per_second", "evaluation_seconds"}


def finish(process: toy.BaseProcess) -> int | None:
    process.join(60)
    return process.exitcode


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    assert finish(toy.start(toy.run, folder)) == 0
    return folder / "toy"


def assert_same_end(folder: Path, unbroken: Path) -> None:
    delivered, expected = (
        load_file(folder / "weights.safetensors"),
        load_file(unbroken / "weights.safetensors"),
    )
    assert delivered.keys() == expected.keys()
    assert all(torch.equal(delivered[name], expected[name]) for name in expected)

    last = sorted(path.name for path in (unbroken / "checkpoints").iterdir())
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == last
    assert_same_steps(folder, unbroken)
    assert metrics(folder) == metrics(unbroken)


def assert_same_steps(folder: Path, unbroken: Path) -> None:
    last = sorted(path.name for path in (unbroken / "checkpoints").iterdir())
    ours = torch.load(folder / "checkpoints" / last[-1], weights_only=True)
    theirs = torch.load(unbroken / "checkpoints" / last[-1], weights_only=True)
    assert all(torch.equal(ours["objective"][name], theirs["objective"][name]) for name in theirs["objective"])
    for index, state in theirs["optimizer"]["state"].items():
        assert torch.equal(ours["optimizer"]["state"][index]["momentum_buffer"], state["momentum_buffer"])


def metrics(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


@pytest.mark.parametrize(
    "moments",
    [
        ["forward 3"],
        ["forward 7", "forward 1", "forward 6"],
        ["torch.save 1", "torch.save 2"],
        ["evaluate 1", "save_checkpoint 1", "save_weights 1"],
    ],
    ids=lambda moments: ", ".join(moments),
)
def test_killed_at_the_worst_moments(moments: list[str], unbroken: Path, tmp_path: Path) -> None:
    for moment in moments:
        assert finish(toy.start(toy.run_until_killed, tmp_path, moment)) == -signal.SIGKILL
    assert finish(toy.start(toy.run, tmp_path)) == 0
    assert_same_end(tmp_path / "toy", unbroken)


@pytest.fixture(scope="module")
def from_a_start_that_counts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("counted")
    assert finish(toy.start(partial(toy.run, start_counts=True), folder)) == 0
    return folder / "toy"


@pytest.mark.parametrize(
    "moment", ["evaluate 1", "torch.save 1", "save_checkpoint 1", "save_weights 1", "forward 1", "forward 7"]
)
def test_killed_at_a_start_that_counts(moment: str, from_a_start_that_counts: Path, tmp_path: Path) -> None:
    killed = partial(toy.run_until_killed, start_counts=True)
    assert finish(toy.start(killed, tmp_path, moment)) == -signal.SIGKILL
    assert finish(toy.start(partial(toy.run, start_counts=True), tmp_path)) == 0
    assert_same_end(tmp_path / "toy", from_a_start_that_counts)


def test_a_start_that_counts_is_one_evaluation_more(unbroken: Path, from_a_start_that_counts: Path) -> None:
    """The training itself stays the same, bit for bit."""
    first, *others = metrics(from_a_start_that_counts)
    assert (first["step"], "score" in first) == (0, True)
    without = metrics(unbroken)
    assert [{**line, "best_score": 0} for line in others] == [{**line, "best_score": 0} for line in without]
    assert_same_steps(from_a_start_that_counts, unbroken)


def test_ctrl_c_finishes_the_step_and_saves_it(unbroken: Path, tmp_path: Path) -> None:
    """Step 12 is neither evaluated nor saved otherwise; the next start goes on from it."""
    assert finish(toy.start(toy.run_until_killed, tmp_path, "interrupt 12")) == 1
    folder = tmp_path / "toy"
    assert (folder / "checkpoints" / "step_000012.pt").is_file()
    assert not (folder / "result.json").exists()
    assert "stopped: Ctrl-C after step 12" in (folder / "log.txt").read_text()
    assert finish(toy.start(toy.run, tmp_path)) == 0
    assert "goes on from step 12" in (folder / "log.txt").read_text()
    assert_same_end(folder, unbroken)


def test_a_second_ctrl_c_acts_at_once_and_the_handler_is_given_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interruption(several_processes=False) as asked:
        os.kill(os.getpid(), signal.SIGINT)
        assert asked.requested
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) is before
    with interruption(several_processes=True):
        assert signal.getsignal(signal.SIGINT) is before


def test_a_thread_can_not_listen_and_trains_all_the_same() -> None:
    def train() -> bool:
        with interruption(several_processes=False) as asked:
            return asked.requested

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(train).result() is False


def test_killed_at_any_moment(unbroken: Path, tmp_path: Path) -> None:
    delays, kills = random.Random(0), 0
    while True:
        process = toy.start(toy.run, tmp_path, toy.SCHEDULE, 0.3, 0.02)
        # Later and later, so that the training comes to its end.
        process.join(delays.uniform(0.1, 0.5) + 0.15 * kills)
        if process.exitcode is not None:
            break
        process.kill()
        process.join()
        kills += 1
    assert process.exitcode == 0
    assert kills >= 1
    assert_same_end(tmp_path / "toy", unbroken)


def test_training_really_depends_on_what_is_restored(unbroken: Path) -> None:
    """The guard of this file: momentum, batch statistics and scores are not trivially equal."""
    content = torch.load(sorted((unbroken / "checkpoints").iterdir())[-1], weights_only=True)
    assert content["objective"]["network.norm.num_batches_tracked"] == 24
    assert content["optimizer"]["state"][0]["momentum_buffer"].abs().max() > 0
    fresh = toy.build().network.state_dict()
    assert not any(torch.equal(fresh[k], v) for k, v in load_file(unbroken / "weights.safetensors").items())

"""The GPU session keeps its time, skips what is finished, and runs whole in its rehearsal."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.gpu_session import RESERVE, Part, parts_of, session

ROOT = Path(__file__).resolve().parent.parent


class FakeClock:
    """Time that passes only while a part runs: as long as ``takes`` says, at most its limit."""

    def __init__(self, takes: dict[str, float]) -> None:
        self.now, self.takes, self.ran = 0.0, takes, []

    def __call__(self) -> float:
        return self.now

    def run(self, part: Part, out: Path, seconds: float) -> str:
        needs = self.takes[part.name]
        self.ran.append((part.name, seconds))
        self.now += min(needs, seconds)
        return "done" if needs <= seconds else "stopped"


PARTS = [Part("a", (), 100), Part("b", (), 50), Part("c", (), 200, least=30), Part("d", (), None)]


@pytest.mark.parametrize(
    ("minutes", "takes", "states"),
    [
        (10, {"a": 90, "b": 10, "c": 100, "d": 60}, ["done", "done", "done", "done"]),
        (10, {"a": 900, "b": 10, "c": 900, "d": 900}, ["stopped", "done", "stopped", "stopped"]),
        (2, {"a": 100, "b": 20, "c": 5, "d": 5}, ["done", "no time", "no time", "no time"]),
        (2, {"a": 60, "b": 50, "c": 5, "d": 5}, ["done", "done", "no time", "no time"]),
    ],
)
def test_never_over_its_time(minutes: float, takes: dict[str, float], states: list[str], tmp_path: Path) -> None:
    clock = FakeClock(takes)
    found = session(PARTS, tmp_path, minutes, clock, clock.run)
    assert [found[part.name] for part in PARTS] == states
    assert clock.now <= 60 * minutes - RESERVE
    assert json.loads((tmp_path / "session.json").read_text()) == found


def test_goes_on_with_what_is_left(tmp_path: Path) -> None:
    first = FakeClock({"a": 90, "b": 500, "c": 10, "d": 1e6})
    session(PARTS, tmp_path, 10, first, first.run)
    second = FakeClock({"b": 5, "d": 5})
    found = session(PARTS, tmp_path, 10, second, second.run)
    assert [name for name, _ in second.ran] == ["b", "d"]
    assert set(found.values()) == {"done"}


def test_the_last_part_gets_all_that_is_left(tmp_path: Path) -> None:
    clock = FakeClock({"a": 10, "b": 10, "c": 10, "d": 1e6})
    session(PARTS, tmp_path, 10, clock, clock.run)
    assert dict(clock.ran)["d"] == pytest.approx(600 - RESERVE - 30)


def test_what_matters_most_comes_first() -> None:
    names = [part.name for part in parts_of("camvid", rehearse=False)]
    assert names[0] == "right"
    assert names[-1] == "true"
    rehearsed = [part.name for part in parts_of("camvid", rehearse=True)]
    assert set(names) - set(rehearsed) == {"loop"}


@pytest.mark.slow
def test_rehearsal(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks/gpu_session.py"), "--rehearse", "--minutes", "9"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True, env=environment)
    logs = "\n".join(f"{path.name}:\n{path.read_text()[-2000:]}" for path in tmp_path.glob("*.log"))
    assert done.returncode == 0, f"{done.stdout}{done.stderr}{logs}"
    right = json.loads((tmp_path / "right.json").read_text())
    assert not right["wrong"], right
    assert right["cases"]["resume"]["killed"]
    assert json.loads((tmp_path / "steps.out").read_text())["ratios"]["pspnet@test_resnet"]["student"] > 1
    assert json.loads((tmp_path / "d_time_pspnet_r18.json").read_text())["lad"]["milliseconds"] > 0
    assert json.loads((tmp_path / "fast.json").read_text())["loading"]["gives"] > 0
    assert set(json.loads((tmp_path / "true.json").read_text())) == {"scratch/plain-1", "scratch/lad"}

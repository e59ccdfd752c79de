"""Leases: one holder at a time, taken over from the dead and from the silent, by several processes at once."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ladseg.lease import NAME, Lease

# A process that takes a lease, says so, and holds it until it is killed.
HOLD = """
import sys, time
from pathlib import Path
from ladseg.lease import Lease
held = Lease(Path(sys.argv[1]), beat=0.05, patience=float(sys.argv[2])).acquire()
print("held" if held else "taken", flush=True)
time.sleep(60 if held else 0)
"""


def start(folder: Path, patience: float = 60.0) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", HOLD, str(folder), str(patience)], stdout=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    first, second = Lease(tmp_path), Lease(tmp_path)
    assert first.acquire()
    assert not second.acquire()
    assert second.is_held()
    assert f"process {os.getpid()} on " in second.holder()
    first.release()
    assert not second.is_held()
    with second:
        assert not first.acquire()
    assert list(tmp_path.iterdir()) == []


def test_of_many_processes_one_gets_it(tmp_path: Path) -> None:
    processes = [start(tmp_path) for _ in range(6)]
    assert sorted(said(process) for process in processes) == ["held", *["taken"] * 5]
    for process in processes:
        end(process)


def test_a_killed_holder_on_this_machine_is_followed_at_once(tmp_path: Path) -> None:
    process = start(tmp_path)
    assert said(process) == "held"
    assert not Lease(tmp_path).acquire()
    end(process)
    assert Lease(tmp_path).acquire()


def of_another_machine(folder: Path, age: float) -> Path:
    path = folder / NAME
    path.write_text(json.dumps({"host": "far", "system": "another boot", "pid": 1, "started": "7", "nonce": "a"}))
    os.utime(path, (time.time() - age, time.time() - age))
    return path


@pytest.mark.parametrize(("age", "free"), [(0, False), (50, False), (70, True), (1e6, True)])
def test_on_another_machine_the_heartbeat_counts(age: float, free: bool, tmp_path: Path) -> None:
    of_another_machine(tmp_path, age)
    lease = Lease(tmp_path, patience=60)
    assert lease.is_held() != free
    assert lease.acquire() == free


@pytest.mark.parametrize("text", ["", "[]", "no json", '{"pid": "x"}'])
def test_a_spoilt_lease_is_free_once_it_is_old(text: str, tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.write_text(text)
    lease = Lease(tmp_path, patience=60)
    assert not lease.acquire()
    os.utime(path, (0, 0))
    assert lease.acquire()


def test_the_holder_touches_it(tmp_path: Path) -> None:
    lease = Lease(tmp_path, beat=0.02, patience=60)
    assert lease.acquire()
    path = tmp_path / NAME
    os.utime(path, (0, 0))
    deadline = time.monotonic() + 10
    while path.stat().st_mtime == 0:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    lease.release()


def test_a_lease_that_was_taken_over_is_not_given_back_by_its_old_holder(tmp_path: Path) -> None:
    old = Lease(tmp_path, beat=60)
    assert old.acquire()
    of_another_machine(tmp_path, 0)
    old.release()
    assert (tmp_path / NAME).exists()


def test_of_many_that_take_over_from_the_dead_one_gets_it(tmp_path: Path) -> None:
    of_another_machine(tmp_path, 1e6)
    processes = [start(tmp_path) for _ in range(6)]
    assert sorted(said(process) for process in processes) == ["held", *["taken"] * 5]
    for process in processes:
        end(process)


def test_a_takeover_that_died_halfway_is_cleared(tmp_path: Path) -> None:
    of_another_machine(tmp_path, 1e6)
    guard = tmp_path / f"{NAME}.takeover"
    guard.touch()
    assert not Lease(tmp_path).acquire()
    os.utime(guard, (0, 0))
    assert Lease(tmp_path).acquire()

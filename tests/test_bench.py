"""``ladseg bench``: its contract, and that what it calls equal is equal."""

import json
import time

import pytest
import torch

from ladseg.bench import inference, loop, pieces, scaling, steps
from ladseg.bench.bench import bench
from ladseg.bench.scaling import bench_processes
from ladseg.bench.setting import Setting
from ladseg.cli import main
from ladseg.measure.timing import in_turns, ratio
from ladseg.report.bench_tables import bench_sheets


@pytest.fixture(autouse=True)
def two_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    for part in (steps, pieces, inference, scaling):
        monkeypatch.setattr(part, "in_turns", lambda runs, device, **_: in_turns(runs, device, rounds=2))
    for name, value in {"ROUNDS": 2, "SECONDS": 0.1, "SMALL_STEPS": 20}.items():
        monkeypatch.setattr(loop, name, value)


TINY = ["bench", "fcn@test_resnet", "--size", "32x48", "--classes", "5"]
CPU = torch.device("cpu")


def test_variants_are_timed_in_turns() -> None:
    calls: list[str] = []

    def work(name: str, seconds: float) -> None:
        calls.append(name)
        time.sleep(seconds)

    seconds = in_turns({"a": lambda: work("a", 0.01), "b": lambda: work("b", 0.03)}, CPU, rounds=4)
    assert calls == ["a", "b"] * 5
    assert [len(values) for values in seconds.values()] == [4, 4]
    assert min(seconds["b"]) >= 0.03
    assert ratio(seconds["b"], seconds["a"])["median"] > 1.5
    few = in_turns({"a": lambda: time.sleep(0.02)}, CPU, rounds=100, patience=0.05, fewest=2)
    assert 2 <= len(few["a"]) <= 4


def test_ratio_is_of_each_round() -> None:
    """A machine that gets slower from round to round changes neither it nor its spread."""
    assert ratio([2.0, 4.0, 8.0], [1.0, 2.0, 4.0]) == {"median": 2.0, "low": 2.0, "high": 2.0}


def test_json_of_the_steps_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TINY, "--parts", "steps", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert set(results["ratios"]) == {"fcn@test_resnet"}
    ratios = results["ratios"]["fcn@test_resnet"]
    assert set(ratios) == {"teacher", "student"}
    row = results["steps"]["fcn@test_resnet"]
    # Two paths, one of them with a channel more; one more forward pass.
    assert row["arithmetic"]["teacher"] == pytest.approx(1.0, abs=0.05)
    assert row["arithmetic"]["student"] == pytest.approx(4 / 3, abs=0.06)
    assert results["matrix_rate"] > max(row["rate"].values()) > 0
    for name, median in row["milliseconds"].items():
        assert 0 < sum(row["items"][name].values()) < 3 * median
    assert set(row["items"]["student"]) >= {"network", "teacher's network", "noise", "distillation", "update"}


def test_loop_and_its_share(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TINY, "--parts", "loop", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    measured = results["loop"]
    assert results["loop_overhead"] == measured["overhead"]["median"]
    assert measured["steps"]["bare"] > 0
    assert 0 < measured["waiting"] < 1


def test_tables_of_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    # Compiling takes minutes.
    monkeypatch.setattr(scaling, "_compiled", lambda setting: 1 / 0)
    said: list[str] = []
    setting = Setting(CPU, ("fcn@test_resnet",), (32, 48), num_classes=5)
    results = bench(setting, ["pieces", "inference", "scaling"], said.append)
    assert len(said) == 4
    assert [row["piece"] for row in results["pieces"]] == ["noise", "cross-entropy", "cwd"] * 3
    assert results["switches"]["torch.compile"] == "division by zero"
    assert {name: len(row["milliseconds"]) for name, row in results["growth"].items()} == dict.fromkeys(
        ("pixels", "classes", "batch"), 3
    )
    for sheet in bench_sheets(results):
        assert all(len(row) == len(sheet.columns) for row in sheet.rows)
        assert sheet.title in sheet.markdown()
        assert sheet.terminal().row_count == len(sheet.rows)


def test_one_core_has_no_second_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert bench_processes(Setting(CPU, ("fcn@test_resnet",), (32, 48), num_classes=5)) == {}


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--parts", "steps,lunch"], "no part is called 'lunch'"),
        (["--batch", "1"], "batch norm needs 2 images"),
        (["no_such_network"], "no_such_network"),
    ],
)
def test_what_can_not_be_measured_is_told_before(
    words: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *words]) == 2
    assert problem in capsys.readouterr().err

"""``ladseg.train`` and ``ladseg.compare`` do from Python what the commands do, with typed results and callbacks."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

import ladseg
from ladseg.data import write_demo_scenes
from ladseg.errors import RecipeError
from ladseg.recipe_files import make_recipe
from ladseg.results import read_results, to_json


@pytest.fixture
def recipe(tmp_path: Path) -> dict[str, Any]:
    write_demo_scenes(tmp_path / "scenes", train=4, val=2, size=(32, 48))
    schedule = {"iterations": 4, "batch_size": 2, "crop": [32, 32], "eval_every": 2, "precision": "fp32"}
    return {
        "data": {"root": str(tmp_path / "scenes"), "classes": str(tmp_path / "scenes/classes.txt"), "ignore_index": 9},
        "student": {"model": "pspnet@test_resnet"},
        "distill": {"method": "none"},
        "schedule": schedule,
        "trackers": [],
        "out": str(tmp_path / "run"),
    }


def test_train_takes_a_mapping_and_tells_every_figure(tmp_path: Path, recipe: dict[str, Any]) -> None:
    heard: list[tuple[str, dict[str, float]]] = []

    class Enough(Exception):
        pass

    def stop_at_the_first_evaluation(training: str, figures: dict[str, float]) -> None:
        heard.append((training, figures))
        if "score" in figures and figures["step"] == 2:
            raise Enough

    with pytest.raises(Enough):
        ladseg.train(recipe, [stop_at_the_first_evaluation], log=lambda line: None)
    assert heard[-1][1].keys() >= {"step", "score"}

    heard.clear()
    results = ladseg.train(recipe, [lambda training, figures: heard.append((training, figures))], lambda line: None)
    assert isinstance(results, ladseg.RunResults)
    assert to_json(results) == to_json(read_results(tmp_path / "run"))  # where NaN is null
    assert results.verdict is not None
    assert (tmp_path / "run/report.html").is_file()
    assert {training for training, _ in heard} == {"baseline"}
    lines = [json.loads(line) for line in (tmp_path / "run/baseline/metrics.jsonl").read_text().splitlines()]
    assert [figures for _, figures in heard] == lines[-len(heard) :]
    assert results.networks["baseline"].validation_curve == [(x["step"], x["score"]) for x in lines if "score" in x]


def test_a_finished_run_keeps_checkpoints_only_if_asked_and_is_readable_by_others(
    tmp_path: Path, recipe: dict[str, Any]
) -> None:
    told: list[str] = []
    ladseg.train({**recipe, "keep_checkpoints": True}, log=told.append)
    kept = sorted(path.name for path in (tmp_path / "run/baseline/checkpoints").iterdir())
    assert kept == ["step_000002.pt", "step_000004.pt"]
    ladseg.train(recipe, log=told.append)  # no weight depends on the key
    assert "has finished before" in told[-1]

    schedule = {**recipe["schedule"], "iterations": 2}
    distilled = {**recipe, "distill": {}, "schedule": schedule, "out": str(tmp_path / "lad")}
    before = os.umask(0o027)
    try:
        ladseg.train(distilled, log=told.append)
    finally:
        os.umask(before)
    files = [path for path in (tmp_path / "lad").rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"student.safetensors", "teacher.safetensors", "weights.safetensors"}
    assert not [path for path in (tmp_path / "lad").rglob("*") if "checkpoint" in path.name or path.suffix == ".pt"]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o640}
    taken = sum(path.stat().st_size for path in files if path.name != "report.html")
    assert f"{tmp_path / 'lad'} takes {taken / 1e6:.1f} MB" in told

    weights = tmp_path / "lad/student/weights.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(b"damaged")
    (tmp_path / "lad/results.json").unlink()
    ladseg.train(distilled, log=told.append)  # trained anew, where no checkpoint holds them
    assert weights.read_bytes() == good


def test_compare_returns_what_its_folder_holds(tmp_path: Path, recipe: dict[str, Any]) -> None:
    made = make_recipe(recipe)
    results = ladseg.compare(made, ["none"], [0, 1], log=lambda line: None, plain_lengths=[1])
    assert isinstance(results, ladseg.ComparisonResults)
    assert results == read_results(tmp_path / "run")
    assert results.methods[0].mean_iou.keys() == {0, 1}
    assert (tmp_path / "run/report.html").is_file()


def test_a_fault_is_one_line() -> None:
    with pytest.raises(RecipeError, match="unknown key 'studnt'"):
        ladseg.train({"studnt": {}})
    with pytest.raises(RecipeError, match="no-such"):
        ladseg.compare("no-such")

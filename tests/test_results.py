"""What is on disk: its keys are a contract with those who read it, and what was written before can still be read."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from ladseg.errors import RecipeError
from ladseg.results import (
    RESULTS,
    ComparisonResults,
    Difference,
    EvaluationResults,
    MeanInterval,
    MeasuredRow,
    MethodCost,
    NetworkCost,
    RunResults,
    Sample,
    StepTime,
    TeacherCost,
    from_json,
    read_comparison,
    read_if_complete,
    read_json,
    read_results,
    to_json,
    write_json,
)
from tests.made_results import comparison_results, environment, method_row, network_row, run_results

# The keys on disk in November 2026, written down from files of that time. A change of this table breaks the scripts of
# those who read the files.
ENVIRONMENT_KEYS = "python packages machine system processor threads gpu git_commit command"
ROW_KEYS = (
    "model sees parameters macs mean_iou pixel_accuracy iou best_step last_mean_iou steps precision seconds peak_memory"
)
ASSISTED_KEYS = "mean_iou_without_label mean_iou_without_image mean_kl_between_draws"
RUN_KEYS = "name seed label_assisted iterations class_names colors images crop networks difference prediction"
COMPARISON_KEYS = "name student weights layout iterations seeds methods environment"
METHOD_KEYS = (
    "name mean_iou mean std difference against_long seconds teacher_seconds macs step_ms step_memory student teacher"
)
EVALUATION_KEYS = (
    "weights split images inference boundary mean_iou mean_boundary_iou pixel_accuracy class_names iou boundary_iou "
    "confusion"
)
# A run as an earlier version wrote it.
RUN_TEXT = """{
  "name": "demo", "seed": 3, "label_assisted": true, "iterations": 4, "class_names": ["sky", "ground"],
  "colors": [[66, 143, 215], [136, 160, 34]], "images": {"train": 8, "val": 3}, "crop": [32, 48],
  "networks": {
    "baseline": {"model": "stdc1", "sees": "image", "parameters": 604697, "macs": 12249600, "mean_iou": 0.0625,
      "pixel_accuracy": 0.25, "iou": [0.125, null], "best_step": 4, "last_mean_iou": 0.0625, "steps": 4,
      "precision": "fp32", "seconds": 0.5, "peak_memory": null, "folder": "../baseline"},
    "teacher": {"model": "stdc1", "sees": "image + noised label", "parameters": 604841, "macs": 12286464,
      "mean_iou": 0.075, "pixel_accuracy": 0.25, "iou": [0.125, 0.025], "best_step": 4, "last_mean_iou": 0.07,
      "steps": 4, "precision": "fp32", "seconds": 0.5, "peak_memory": 903991296, "mean_iou_without_label": 0.05,
      "mean_iou_without_image": 0.09, "mean_kl_between_draws": 1.7e-08, "folder": "teacher"},
    "student": {"model": "stdc1", "sees": "image", "parameters": 604697, "macs": 12249600, "mean_iou": 0.05,
      "pixel_accuracy": 0.25, "iou": [0.1, 0.0], "best_step": 4, "last_mean_iou": 0.05, "steps": 4,
      "precision": "fp32", "seconds": 0.5, "peak_memory": 910475264, "first_stage_seconds": 0.0, "folder": "student"}
  },
  "difference": {"mean_iou": -0.0125, "interval": [-0.025, 0.0]},
  "prediction": {"size": [32, 48], "seconds": 0.0078125, "device": "cpu"}
}"""


def a_run() -> RunResults:
    assisted = {"mean_iou_without_label": 0.4, "mean_iou_without_image": 0.3, "mean_kl_between_draws": 0.01}
    networks = {
        "baseline": network_row(0.5, folder="baseline"),
        "teacher": network_row(0.6, folder="teacher", **assisted),
        "student": network_row(0.55, folder="student", first_stage_seconds=0.0),
    }
    return run_results(networks, difference=Difference(0.05, (0.01, 0.09)))


def a_comparison() -> ComparisonResults:
    teacher = TeacherCost("label", "pspnet_r18", 1100, 2100)
    lad = method_row("lad", 0.7, difference=MeanInterval(0.1, 0.05, 0.15), teacher=teacher, step_ms=7.5)
    return comparison_results([method_row("none", 0.6), lad])


def an_evaluation() -> EvaluationResults:
    return EvaluationResults(
        weights="student.safetensors",
        split="val",
        images=2,
        inference={"window": None, "stride": None, "scales": (1.0,), "flip": False},
        boundary=0.02,
        mean_iou=0.5,
        mean_boundary_iou=math.nan,
        pixel_accuracy=0.75,
        class_names=["a", "b"],
        iou=[0.5, math.nan],
        boundary_iou=[math.nan, math.nan],
        confusion=[[3, 1], [0, 0]],
    )


VALUES: dict[str, tuple[Any, Any]] = {
    "run": (RunResults, a_run()),
    "comparison": (ComparisonResults, a_comparison()),
    "row": (MeasuredRow, MeasuredRow("0123", network_row(0.5))),
    "samples": (list[Sample], [Sample(3, "a.png", "gained", {"student": 0.5}, {"image": "3-image.jpg"})]),
    "costs": (
        dict[str, MethodCost],
        {"lad": MethodCost({"student": 3}, NetworkCost(1, 2), NetworkCost(3, 4), "f0", StepTime(1.5, None))},
    ),
    "environment": (type(environment()), environment(seed=3)),
}


def test_keys_on_disk_are_a_contract() -> None:
    run, comparison = to_json(a_run()), to_json(a_comparison())
    assert list(run) == RUN_KEYS.split()
    assert list(run["networks"]["baseline"]) == [*ROW_KEYS.split(), "folder"]
    assert list(run["networks"]["teacher"]) == [*ROW_KEYS.split(), *ASSISTED_KEYS.split(), "folder"]
    assert list(run["networks"]["student"]) == [*ROW_KEYS.split(), "first_stage_seconds", "folder"]
    assert (list(run["images"]), list(run["difference"])) == (["train", "val"], ["mean_iou", "interval"])
    assert list(run["prediction"]) == ["size", "seconds", "device"]
    assert list(comparison) == COMPARISON_KEYS.split()
    none, lad = comparison["methods"]
    assert list(none) == list(lad) == METHOD_KEYS.split()
    assert (list(lad["student"]), list(lad["difference"])) == (["parameters", "macs"], ["mean", "low", "high"])
    assert list(lad["teacher"]) == ["name", "model", "parameters", "macs"]
    assert none["mean_iou"] == {"0": 0.6, "1": 0.6}
    assert none["teacher"] is none["difference"] is None
    assert list(comparison["environment"]) == ENVIRONMENT_KEYS.split()
    assert list(to_json(environment(seed=0))) == ["seed", *ENVIRONMENT_KEYS.split()]
    samples, row, costs = (to_json(VALUES[name][1]) for name in ("samples", "row", "costs"))
    assert list(samples[0]) == ["index", "name", "group", "mean_iou", "files"]
    assert list(row) == ["measured_on", "row"]
    assert list(costs["lad"]) == ["step_macs", "student", "teacher", "recipe", "time"]
    assert list(costs["lad"]["time"]) == ["milliseconds", "memory"]
    assert list(to_json(an_evaluation())) == EVALUATION_KEYS.split()


@pytest.mark.parametrize("name", VALUES)
def test_what_is_written_is_read_back_equal(name: str, tmp_path: Path) -> None:
    kind, value = VALUES[name]
    write_json(tmp_path / "values.json", value)
    assert read_json(kind, tmp_path / "values.json") == value


def test_a_run_of_an_earlier_version_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / RESULTS).write_text(RUN_TEXT)
    run = read_results(tmp_path)
    assert isinstance(run, RunResults)
    assert to_json(run) == json.loads(RUN_TEXT)
    assert (run.seed, run.crop, run.colors[1], run.images.val) == (3, (32, 48), (136, 160, 34), 3)
    assert run.delivered is run.networks["student"]
    assert run.networks["baseline"].iou[0] == 0.125
    assert math.isnan(run.networks["baseline"].iou[1])
    assert run.networks["teacher"].mean_kl_between_draws == 1.7e-8
    assert run.networks["baseline"].mean_iou_without_label is None
    assert run.difference == Difference(-0.0125, (-0.025, 0.0))


def test_nan_is_null_in_json_and_nan_again_when_read() -> None:
    """NaN is no JSON: browsers and jq refuse a file that holds it."""
    values = to_json(an_evaluation())
    text = json.dumps(values, allow_nan=False)
    assert (values["iou"], values["mean_boundary_iou"]) == ([0.5, None], None)
    back = from_json(EvaluationResults, json.loads(text))
    assert math.isnan(back.mean_boundary_iou)
    assert back.iou[0] == 0.5
    assert math.isnan(back.iou[1])
    assert to_json(dataclasses.replace(back, mean_iou=-math.inf))["mean_iou"] is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda values: values.pop("prediction"), "no key 'prediction'"),
        (lambda values: values.update(seed="three"), "'three' is not of type int"),
        (lambda values: values.update(class_names="road"), "'road' is not of type list"),
        (lambda values: values["networks"]["student"].pop("macs"), "no key 'macs'"),
        (lambda values: values.update(crop=[1, 2, 3]), "zip"),
    ],
)
def test_a_file_that_lacks_something_is_told_in_one_line(change: Any, told: str, tmp_path: Path) -> None:
    values = json.loads(RUN_TEXT)
    change(values)
    (tmp_path / RESULTS).write_text(json.dumps(values))
    with pytest.raises(RecipeError, match="made by an older ladseg, or changed") as caught:
        read_results(tmp_path)
    assert told in str(caught.value)
    assert str(tmp_path / RESULTS) in str(caught.value)
    assert read_if_complete(RunResults, tmp_path / RESULTS) is None


def test_a_folder_without_results_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no results\.json"):
        read_results(tmp_path)
    write_json(tmp_path / RESULTS, a_run())
    with pytest.raises(RecipeError, match="is not the folder of a comparison"):
        read_comparison(tmp_path)
    write_json(tmp_path / RESULTS, a_comparison())
    assert read_comparison(tmp_path) == read_results(tmp_path) == a_comparison()
    (tmp_path / RESULTS).write_text("{")
    with pytest.raises(RecipeError, match="Expecting property name"):
        read_results(tmp_path)

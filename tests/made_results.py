"""Results as runs and comparisons write them, made by hand for tests."""

from typing import Any

from ladseg.results import (
    ComparisonResults,
    Environment,
    ImageCounts,
    MethodRow,
    NetworkCost,
    NetworkRow,
    PredictionTime,
    RunResults,
)


def environment(**changes: Any) -> Environment:
    values = {
        "python": "3.12.1",
        "packages": {"ladseg": "0.1.0", "torch": "2.9.0"},
        "machine": "x86_64",
        "system": "Linux",
        "processor": "CPU x 4",
        "threads": 4,
        "gpu": None,
        "git_commit": None,
        "command": "ladseg train demo",
    }
    return Environment(**{**values, **changes})


def network_row(mean_iou: float, **changes: Any) -> NetworkRow:
    values = {
        "model": "pspnet_r18",
        "sees": "image",
        "parameters": 1000,
        "macs": 2000,
        "pixel_accuracy": 0.75,
        "iou": [mean_iou, mean_iou],
        "best_step": 10,
        "last_mean_iou": mean_iou,
        "steps": 10,
        "precision": "fp32",
        "seconds": 1.5,
        "peak_memory": None,
    }
    return NetworkRow(mean_iou=mean_iou, **{**values, **changes})


def run_results(networks: dict[str, NetworkRow], **changes: Any) -> RunResults:
    values = {
        "name": "made",
        "seed": 0,
        "label_assisted": True,
        "iterations": 10,
        "class_names": ["ground", "sky"],
        "colors": [(0, 128, 0), (0, 0, 255)],
        "images": ImageCounts(8, 4),
        "crop": (32, 48),
        "difference": None,
        "prediction": PredictionTime((32, 48), 0.01, "cpu"),
    }
    return RunResults(networks=networks, **{**values, **changes})


def method_row(name: str, mean: float | None, **changes: Any) -> MethodRow:
    values = {
        "mean_iou": {} if mean is None else {0: mean, 1: mean},
        "std": None,
        "difference": None,
        "against_long": None,
        "seconds": 12.0,
        "teacher_seconds": 0.0,
        "macs": 1000,
        "step_ms": None,
        "step_memory": None,
        "student": NetworkCost(1000, 2000),
        "teacher": None,
    }
    return MethodRow(name=name, mean=mean, **{**values, **changes})


def comparison_results(methods: list[MethodRow], **changes: Any) -> ComparisonResults:
    values = {
        "name": "made",
        "student": "pspnet_r18",
        "weights": None,
        "layout": "folder",
        "iterations": 9,
        "seeds": [0, 1],
        "environment": environment(),
    }
    return ComparisonResults(methods=methods, **{**values, **changes})

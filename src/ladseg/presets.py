"""The two recipes that go by the name of LAD: the paper's, and that of the authors' released code."""

from typing import Any

# The columns of the comparison in docs/deviations.md. What a preset does not name is the defaults' business
# (or, for the paper, not named there either).
PRESETS: dict[str, dict[str, Any]] = {
    "ladseg": {},
    "paper": {
        "teacher": {
            "alpha": 0.01,
            "class_weights": "random",
            "scale": 1.0,
            "ignore": "class",
            "slice_std": 0.1,
            "consistency": 1.0,
            "consistency_form": "one-way",
            "warm_start": False,
        },
        "distill": {"method": "cwd", "weight": 3.0, "tau": 4.0, "warm_start": False},
    },
    "released-code": {
        "student": {"aux_weight": 0.02},
        "teacher": {
            "alpha": 0.03,
            "class_weights": "random",
            "scale": 1.7,
            "ignore": "class",
            "slice_std": 0.1,
            "consistency": 5.0,
            "consistency_form": "symmetric",
            "warm_start": False,
            "aux_weight": 0.4,
        },
        "distill": {
            "method": "cwd",
            "weight": 3.0,
            "tau": 4.0,
            "warm_start": True,
            "alpha": 0.02,
            "class_weights": "fixed",
        },
        "schedule": {
            "iterations": 40000,
            "batch_size": 16,
            "crop": [512, 512],
            "optimizer": "sgd",
            "lr": 0.001,
            "momentum": 0.9,
            "weight_decay": 1e-4,
            "power": 0.9,
        },
    },
}

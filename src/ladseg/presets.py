"""The presets: the settings of the paper, and those of the authors' released code, which differ."""

from typing import Any

# These are the columns of docs/deviations.md; keys that a preset does not name have their defaults. No key concerns the
# student alone, which is the control of a comparison and keeps the learning rate and auxiliary weight of its recipe.
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
        "student": {"dropout": 0.01, "input": "bgr"},
        "teacher": {
            "alpha": 0.03,
            "class_weights": "random",
            "scale": 1.735,  # 100 on images of 0..255
            "ignore": "class",
            "slice_std": 0.1,
            "consistency": 5.0,
            "consistency_form": "symmetric",
            "warm_start": False,
            "aux_weight": 0.4,
            "lr": 0.001,
        },
        "distill": {
            "method": "cwd",
            "weight": 3.0,
            "tau": 4.0,
            "warm_start": True,
            "alpha": 0.02,
            "class_weights": "fixed",
            "aux_weight": 0.02,
            "lr": 0.001,
        },
        "schedule": {
            "iterations": 40000,
            "batch_size": 16,
            "crop": [512, 512],
            "optimizer": "sgd",
            "momentum": 0.9,
            "weight_decay": 1e-4,
            "power": 0.9,
        },
    },
}

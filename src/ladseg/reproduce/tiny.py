"""Make the same cells in miniature, with small networks on the built-in scenes."""

from collections.abc import Sequence
from pathlib import Path

from ladseg.recipe import Recipe
from ladseg.recipe_files import load_recipe

# Small networks that replace the paper's; they don't resemble them, but networks of one table are different.
NETWORKS = {
    "deeplabv3_r18": "deeplabv3@test_resnet",
    "pspnet_r18": "pspnet@test_resnet",
    "deeplabv3_r101": "deeplabv3@test_efficientnet",
    "pspnet_r101_mmseg": "pspnet@test_efficientnet",
    "fcn_r18": "fcn@test_resnet",
    "fcn_r50": "fcn@test_efficientnet",
    "stdc1_mmseg": "fcn@test_resnet",
    "stdc2_mmseg": "pspnet@test_resnet",
    "ocrnet_w18s": "fcn@test_resnet",
    "ocrnet_w18": "pspnet@test_resnet",
    "ocrnet_w48": "deeplabv3@test_resnet",
    "pspnet_r50_mmseg": "pspnet@test_resnet",
    "deeplabv3_r50_mmseg": "deeplabv3@test_resnet",
    "dinov2_s14": "fcn@test_resnet",
    "dinov2_b14": "pspnet@test_resnet",
}
TRAIN, VAL, VOID = 120, 24, 9
SCHEDULE = {
    "iterations": "100",
    "batch_size": "8",
    "crop": "[64, 80]",
    "optimizer": "adamw",
    "lr": "0.004",
    "weight_decay": "0.01",
    "warmup": "10",
    "eval_every": "50",
}


def tiny_recipe(name: str, scenes: Path, overrides: Sequence[str]) -> Recipe:
    """Return a ready recipe with a small network, the built-in scenes and a short schedule.

    Args:
        name: The recipe.
        scenes: Folder of the scenes.
        overrides: Recipe keys of the command line, which take precedence.
    """
    full = load_recipe(name)
    values = {
        "student.model": NETWORKS[full.student.model],
        "student.weights": "null",
        "teacher.weights": "null",
        "data.layout": "folder",
        "data.root": str(scenes),
        "data.classes": str(scenes / "classes.txt"),
        "data.ignore_index": str(VOID),
        "data.augmented": "false",
        "data.workers": "0",
        "augment.rescale": "null",
        **{f"schedule.{key}": value for key, value in SCHEDULE.items()},
    }
    if full.teacher.model:
        values["teacher.model"] = NETWORKS[full.teacher.model]
    words = [word for key, value in values.items() for word in (f"--{key}", value)]
    return load_recipe(name, [*words, *overrides])


def tiny_method(word: str) -> str:
    """Return the method with a small network in place of its teacher."""
    name, plus, model = word.partition("+")
    return f"{name}{plus}{NETWORKS[model]}" if model else word

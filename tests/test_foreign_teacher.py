"""A finished network of another library teaches as it is: its own answers, its classes by name, nothing at random."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
import torchvision
import transformers
from torch import Tensor, nn

from ladseg.cli import main
from ladseg.data import write_demo_scenes
from ladseg.deploy.student_file import save_student
from ladseg.errors import ModelError, RecipeError, UserError
from ladseg.models import build_model
from ladseg.objectives import LabelAssisted
from ladseg.recipe import Recipe
from ladseg.recipe_files import make_recipe
from ladseg.runs.finished_teacher import with_finished_teacher
from ladseg.runs.networks import build_teacher
from tests.test_command_line import SMALL

THEIRS = ["sky", "tree", "Road ", "car", "person"]
OURS = ["road", "sky"]
LRASPP = "torchvision.models.segmentation:lraspp_mobilenet_v3_large"
SEGFORMER = {
    "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2],
    "decoder_hidden_size": 16,
}  # fmt: skip


def lraspp(folder: Path) -> tuple[nn.Module, dict[str, Any], Callable[[Any], Tensor]]:
    network = torchvision.models.segmentation.lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=5
    )
    torch.save(network.state_dict(), folder / "w.pth")
    settings = {"model": LRASPP, "args": {"weights_backbone": None}, "weights": str(folder / "w.pth")}
    return network, {**settings, "class_names": THEIRS}, lambda result: result["out"]


def unet(folder: Path) -> tuple[nn.Module, dict[str, Any], Callable[[Any], Tensor]]:
    args = {"encoder_name": "mobileone_s0", "encoder_weights": None}
    network = smp.Unet(**args, classes=5)
    torch.save({"state_dict": network.state_dict()}, folder / "w.pth")
    (folder / "names.txt").write_text("\n".join(name.strip() for name in THEIRS))
    settings = {"model": "segmentation_models_pytorch:Unet", "args": args, "weights": str(folder / "w.pth")}
    return network, {**settings, "class_names": str(folder / "names.txt")}, lambda result: result


def segformer(folder: Path) -> tuple[nn.Module, dict[str, Any], Callable[[Any], Tensor]]:
    """As ``save_pretrained`` writes it; the names are those of its own configuration."""
    names = {number: name.strip() for number, name in enumerate(THEIRS)}
    config = transformers.SegformerConfig(**SEGFORMER, id2label=names)
    network = transformers.SegformerForSemanticSegmentation(config)
    network.save_pretrained(folder)
    settings = {
        "model": "transformers:SegformerForSemanticSegmentation",
        "weights": str(folder / "model.safetensors"),
        "class_names": str(folder / "config.json"),
    }
    return network, settings, lambda result: result.logits


LIBRARIES = {"torchvision": lraspp, "segmentation_models_pytorch": unet, "transformers": segformer}


def recipe_of(root: Path, settings: dict[str, Any], classes: list[str] | None = None) -> Recipe:
    if not root.exists():
        write_demo_scenes(root, train=2, val=1, size=(32, 48))
    data = {"root": str(root), "classes": classes or OURS}
    return make_recipe({"data": data, "teacher": {**settings, "train": False}})


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_it_answers_as_its_library_has_it_in_the_datas_classes(library: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, settings, logits_of = LIBRARIES[library](tmp_path)
    recipe = with_finished_teacher(recipe_of(tmp_path / "d", settings))
    assert (recipe.teacher.classes, recipe.teacher.label_assisted) == ([2, 0], False)
    teacher = build_teacher(recipe, len(OURS), start=None)
    assert not isinstance(teacher, LabelAssisted)
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        expected = logits_of(network.eval()(image))[:, [2, 0]]
        torch.testing.assert_close(teacher(image).logits, expected)
    assert with_finished_teacher(recipe) == recipe


def without_a_layer(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    state = torch.load(settings["weights"], weights_only=True)
    torch.save({k: v for k, v in state.items() if not k.startswith("classifier.high")}, settings["weights"])
    return settings


REFUSED: dict[str, tuple[Callable[[Path, dict[str, Any]], dict[str, Any]], str]] = {
    "no model": (lambda folder, s: {**s, "model": None}, "not one of ladseg's files, so teacher.model must name"),
    "a class it lacks": (lambda folder, s: {**s, "class_names": ["sky", *"abcd"]}, "among them: road"),
    "another number of classes": (lambda folder, s: {**s, "class_names": ["sky", "road", "x"]}, "of 3 classes match"),
    "no names, and another number": (lambda folder, s: {**s, "class_names": None}, "of 2 classes match"),
    "a part is missing": (without_a_layer, "are missing"),
    "another network": (lambda folder, s: {**s, "model": "stdc1", "args": None}, "tensors of"),
    "ids beyond its classes": (lambda folder, s: {**s, "classes": [7, 0]}, r"class ids of 0\.\.4"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    change, words = REFUSED[name]
    settings = change(tmp_path, lraspp(tmp_path)[1])
    with pytest.raises(UserError, match=words) as caught:
        build_teacher(with_finished_teacher(recipe_of(tmp_path / "d", settings)), len(OURS), start=None)
    assert "\n" not in str(caught.value)


def test_names_of_classes_are_for_files_that_do_not_tell_them(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"teacher\.class_names are those of a finished teacher"):
        make_recipe({"teacher": {"class_names": THEIRS}})
    data = {"class_names": OURS, "colors": [(0, 0, 0)] * 2}
    save_student(tmp_path / "s.safetensors", build_model("pspnet@test_resnet", 2), data)
    settings = {"weights": str(tmp_path / "s.safetensors"), "class_names": THEIRS}
    with pytest.raises(RecipeError, match="tells its classes itself"):
        with_finished_teacher(recipe_of(tmp_path / "d", settings))
    with pytest.raises(ModelError, match="no such weights file"):
        with_finished_teacher(recipe_of(tmp_path / "d", {**settings, "weights": "gone.pth", "class_names": None}))


def test_a_student_learns_from_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, settings, _ = lraspp(tmp_path)
    write_demo_scenes(tmp_path / "d", train=4, val=2, size=(32, 48))
    names = (tmp_path / "d/classes.txt").read_text().split("\n")
    theirs = [name for name in names if name][:5]
    values = {
        "data.root": str(tmp_path / "d"),
        "data.classes": json.dumps(theirs[::-1]),
        "data.label_map": str({number: 4 - number for number in range(5)}),
        "teacher.train": "false",
        "teacher.model": LRASPP,
        "teacher.args": json.dumps(settings["args"]),
        "teacher.weights": settings["weights"],
        "teacher.class_names": json.dumps(theirs),
        "trackers": "[]",
        "out": str(tmp_path / "run"),
        **SMALL,
    }
    words = [word for key, value in values.items() for word in (f"--{key}", value)]
    (tmp_path / "r.yaml").write_text("name: r\n")
    assert main(["train", str(tmp_path / "r.yaml"), *words]) == 0, capsys.readouterr().err
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["networks"]["teacher"]["steps"] == 0
    assert not (tmp_path / "run/teacher.safetensors").exists()
    assert main(["train", str(tmp_path / "r.yaml"), *words]) == 0
    assert "has finished before" in capsys.readouterr().out

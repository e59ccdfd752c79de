"""Parts that are not trained, and networks that see BGR less its mean."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor

from ladseg.deploy.student_file import load_student, save_student
from ladseg.errors import ModelError, RecipeError
from ladseg.files import write_text
from ladseg.models import build_model
from ladseg.objectives import LabelAssisted
from ladseg.recipe import Recipe, Schedule, StudentSettings, TeacherSettings
from ladseg.recipe_files import dump_recipe, load_recipe, make_recipe
from ladseg.results import STUDENT
from ladseg.runs.finished import refuse_other_recipe
from ladseg.runs.networks import build_student, build_teacher
from ladseg.runs.trainings import Training, baseline_training, teacher_training
from ladseg.training import build_optimizer
from ladseg.training.step import train_step

CLASSES = 4
BASE = Recipe(
    student=StudentSettings(model="pspnet@test_resnet"),
    schedule=Schedule(batch_size=2, crop=(32, 48), precision="fp32", weight_decay=0.1),
)
# Of ImageNet in BGR of 0..255, as CIRKD's loaders have it.
BGR_MEAN = (104.00698793, 116.66876762, 122.67891434)


@pytest.fixture(autouse=True)
def _own_accelerator() -> Iterator[None]:
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return {
        "image": torch.randn(2, 3, 32, 48, generator=generator),
        "label": torch.randint(CLASSES, (2, 32, 48), generator=generator),
        "seed": torch.arange(2),
    }


def changed(training: Training, schedule: Schedule) -> set[str]:
    """Train two steps; return the names of parameters and buffers that are others afterwards."""
    before = {name: value.clone() for name, value in training.network.state_dict().items()}
    optimizer = build_optimizer(training.objective, schedule)
    parameters = [value for group in optimizer.param_groups for value in group["params"]]
    training.objective.train()
    for _ in range(2):
        train_step(training.objective, batch(), optimizer, parameters, 0.01, schedule, Accelerator(cpu=True))
    return {name for name, value in training.network.state_dict().items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize("freeze", [[], ["backbone"], ["batch_norm"], ["backbone", "batch_norm"]])
def test_what_is_frozen_stays_bit_for_bit(freeze: list) -> None:
    recipe = replace(BASE, schedule=replace(BASE.schedule, freeze=freeze))
    training = baseline_training(recipe, CLASSES)
    norms = {
        f"{path}.{key}"
        for path, module in training.network.named_modules()
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
        for key in module.state_dict()
    }
    names = set(training.network.state_dict())
    backbone = {name for name in names if name.startswith("backbone.")}
    frozen = (backbone if "backbone" in freeze else set()) | (norms if "batch_norm" in freeze else set())
    assert frozen != set() or not freeze
    assert changed(training, recipe.schedule) == names - frozen


def test_a_labels_weights_are_trained_in_a_frozen_backbone() -> None:
    recipe = replace(BASE, schedule=replace(BASE.schedule, freeze=["backbone"]))
    training = teacher_training(recipe, CLASSES, None)
    moved = {name for name in changed(training, recipe.schedule) if name.startswith("network.backbone.")}
    assert len(moved) == 1
    (entrance,) = moved
    assert training.network.state_dict()[entrance].shape[1] == 4


def test_a_network_without_such_a_part_is_told() -> None:
    recipe = replace(BASE, schedule=replace(BASE.schedule, freeze=["backbone"]))
    own = replace(recipe, student=StudentSettings(model="tests.test_frozen_and_bgr:plain"))
    with pytest.raises(ModelError, match=r"schedule\.freeze: .* has no backbone; leave it out"):
        build_student(own, CLASSES)
    with pytest.raises(RecipeError, match=r"schedule\.freeze\[0\] is 'head'; it must be one of backbone, batch_norm"):
        make_recipe({"schedule": {"freeze": ["head"]}})


def plain(num_classes: int = 2) -> torch.nn.Module:
    return torch.nn.Conv2d(3, num_classes, 3, padding=1)


def bgr_of(image: Tensor) -> Tensor:
    """What CIRKD feeds for RGB of 0..1."""
    return 255 * image.flip(1) - torch.tensor(BGR_MEAN).view(3, 1, 1)


@pytest.mark.parametrize("model", ["pspnet@test_resnet", "stdc1"])
def test_bgr_is_what_the_same_weights_see(model: str, tmp_path: Path) -> None:
    """The network as built, fed as CIRKD feeds it, against ours, fed RGB; before and after delivery."""
    recipe = replace(BASE, student=StudentSettings(model=model))
    usual = build_student(recipe, CLASSES).eval()
    network = build_student(replace(recipe, student=StudentSettings(model=model, input="bgr")), CLASSES).eval()
    image = torch.rand(2, 3, 64, 96)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (network.input_mean, network.input_std))
    with torch.no_grad():
        expected = usual(bgr_of(image)).logits
        torch.testing.assert_close(network((image - mean) / std).logits, expected, rtol=1e-3, atol=1e-3)
        assert not torch.allclose(usual((image - mean) / std).logits, expected, rtol=1e-3, atol=1e-3)
    data = {"class_names": [f"class {n}" for n in range(CLASSES)], "colors": [(0, 0, n) for n in range(CLASSES)]}
    save_student(tmp_path / "student.safetensors", network, data)
    delivered, header = load_student(tmp_path / "student.safetensors")
    assert (header.mean, header.std) == (network.input_mean, network.input_std)
    # As the start of another run it is not turned round a second time, whether the recipe says bgr again or not.
    for word in (None, "bgr"):
        settings = StudentSettings(model=model, input=word, weights=str(tmp_path / "student.safetensors"))  # type: ignore[arg-type]
        again = build_student(replace(recipe, student=settings), CLASSES).eval()
        assert again.input_mean == network.input_mean
        with torch.no_grad():
            torch.testing.assert_close(again(image).logits, network(image).logits)
    assert delivered.input_mean == network.input_mean


def test_the_teacher_sees_what_its_student_sees() -> None:
    student = StudentSettings(model="pspnet@test_resnet", input="bgr")
    teacher = build_teacher(replace(BASE, student=student), CLASSES, None)
    assert isinstance(teacher, LabelAssisted)
    assert teacher.network.input_mean == pytest.approx([value / 255 for value in reversed(BGR_MEAN)])
    # The label is as large beside its image of 0..255 as beside a normalised one: the released code's 1.735 is 100.
    released = TeacherSettings(scale=1.735)
    scales = [
        build_teacher(replace(BASE, student=replace(student, input=word), teacher=released), CLASSES, None).noise.scale
        for word in (None, "bgr")
    ]
    assert scales == [1.735, pytest.approx(100, rel=1e-3)]
    other = TeacherSettings(label_assisted=False, model="fcn@test_efficientnet")
    classic = build_teacher(replace(BASE, student=student, teacher=other), CLASSES, None)
    assert classic.input_mean == build_model("fcn@test_efficientnet", CLASSES).input_mean


def test_a_longer_schedule_on_a_finished_run_is_refused_with_the_way_on(tmp_path: Path) -> None:
    recipe = replace(BASE, out=str(tmp_path / "run"))
    write_text(recipe.folder / "recipe.yaml", dump_recipe(recipe))
    longer = replace(recipe, schedule=replace(recipe.schedule, iterations=9000))
    with pytest.raises(RecipeError) as unfinished:
        refuse_other_recipe(longer)
    assert "to train on" not in str(unfinished.value)
    write_text(recipe.folder / STUDENT, "")
    with pytest.raises(RecipeError) as finished:
        refuse_other_recipe(longer)
    way = f"--student.weights {recipe.folder / STUDENT} --out {recipe.folder}-longer"
    assert f"to train longer, start a new run from its weights: {way}; or choose another" in str(finished.value)
    assert load_recipe(recipe.folder / "recipe.yaml", way.split()).student.weights == str(recipe.folder / STUDENT)
    with pytest.raises(RecipeError) as other:
        refuse_other_recipe(replace(longer, seed=3))
    assert "to train on" not in str(other.value)

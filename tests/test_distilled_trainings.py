"""Every method with either kind of teacher: trained, stopped, resumed and delivered by the loop."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file, save_file
from torch import Tensor

from ladseg.comparison.methods import RIVALS, default_teacher, make_method
from ladseg.objectives import Network
from ladseg.recipe import Recipe, Schedule, StudentSettings, TeacherSettings
from ladseg.runs.trainings import (
    Training,
    baseline_training,
    first_stage_training,
    student_training,
    teacher_training,
)
from ladseg.seeds import generator_for
from ladseg.training import fit, make_accelerator

CLASSES = 9
STEPS = 2
BASE = Recipe(
    student=StudentSettings(model="pspnet@test_resnet"),
    teacher=TeacherSettings(iterations=3),
    schedule=Schedule(iterations=STEPS, batch_size=2, crop=(32, 48), precision="fp32", eval_every=STEPS, save_every=1),
)
LABELLED, CLASSIC = "label", "fcn@test_efficientnet"


class Killed(Exception):
    """As it were."""


@pytest.fixture(autouse=True)
def _own_accelerator() -> Iterator[None]:
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def student_of(method: str, teacher: str, optimizer: str) -> Training:
    """Student, teacher and distiller as they start; the teacher untrained."""
    recipe = make_method(BASE, f"{method}+{teacher}", default_teacher(BASE)).recipe
    recipe = replace(recipe, schedule=replace(recipe.schedule, optimizer=optimizer))  # type: ignore[arg-type]
    network = teacher_training(recipe, CLASSES, None).network
    assert isinstance(network, Network)
    return student_training(recipe, CLASSES, None, network)


def train(training: Training, folder: Path, killed_at: int | None = None) -> None:
    def batches(start: int) -> Iterator[dict[str, Tensor]]:
        for step in range(start, STEPS):
            if step == killed_at:
                raise Killed
            generator = generator_for("batch", step)
            label = torch.randint(CLASSES, (2, 4, 6), generator=generator).repeat_interleave(8, 1)
            label[:, :3] = 255
            yield {
                "image": torch.randn(2, 3, 32, 48, generator=generator),
                "label": label.repeat_interleave(8, 2).to(torch.uint8),
                "seed": torch.arange(2) + step,
            }

    accelerator = make_accelerator("fp32", folder)
    fit(
        training.objective,
        training.network,
        batches,
        None,
        training.schedule,
        folder,
        accelerator,
        seed=0,
        title="student",
    )


@pytest.mark.parametrize("method", RIVALS)
def test_a_stopped_training_ends_as_an_unbroken_one(method: str, tmp_path: Path) -> None:
    optimizer = "adamw" if method in ("ifvd", "mgd") else "sgd"
    train(student_of(method, LABELLED, optimizer), tmp_path / "whole")
    with pytest.raises(Killed):
        train(student_of(method, LABELLED, optimizer), tmp_path / "broken", killed_at=1)
    train(student_of(method, LABELLED, optimizer), tmp_path / "broken")
    whole, broken = (last_checkpoint(tmp_path / run) for run in ("whole", "broken"))
    for key in ("objective", "optimizer"):
        assert_equal(whole[key], broken[key])


@pytest.mark.parametrize("method", RIVALS)
def test_what_a_distiller_trains_is_kept_and_not_delivered(method: str, tmp_path: Path) -> None:
    """With a classic teacher of another network and other widths."""
    training = student_of(method, CLASSIC, "sgd")
    distiller = training.objective.distiller
    before = {name: value.clone() for name, value in distiller.state_dict().items()}
    train(training, tmp_path)
    kept = last_checkpoint(tmp_path)["objective"]
    assert {name.split(".")[0] for name in kept} == {"student", *(["distiller"] if before else [])}
    assert all(torch.equal(kept[f"distiller.{name}"], value) for name, value in distiller.state_dict().items())
    for name, parameter in distiller.named_parameters():
        # Biases may have no gradient: the sides of a hinge loss cancel, and a softmax does not see a key's.
        if parameter.ndim > 1 or not parameter.requires_grad:
            assert torch.equal(parameter, before[name]) != parameter.requires_grad, name
    assert load_file(tmp_path / "weights.safetensors").keys() == training.network.state_dict().keys()


def last_checkpoint(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(folder / f"checkpoints/step_{STEPS:06d}.pt", weights_only=True)
    return content


def assert_equal(one: object, two: object) -> None:
    """Bit for bit, whatever holds the tensors."""
    if isinstance(one, Tensor):
        assert torch.equal(one, two)  # type: ignore[arg-type]
    elif isinstance(one, dict):
        assert one.keys() == two.keys()  # type: ignore[attr-defined]
        for key, value in one.items():
            assert_equal(value, two[key])  # type: ignore[index]
    elif isinstance(one, list | tuple):
        for a, b in zip(one, two, strict=True):  # type: ignore[call-overload]
            assert_equal(a, b)
    else:
        assert one == two


def test_learning_rate_decay_auxiliary_weight_and_dropout_are_those_of_the_recipe() -> None:
    """``distill`` is about the distilled student alone; dropout is every network's."""
    distill = replace(BASE.distill, lr=0.5, weight_decay=0.0, min_lr=0.1, aux_weight=0.25)
    recipe = replace(BASE, student=replace(BASE.student, dropout=0.01, aux_weight=0.75), distill=distill)
    recipe = replace(recipe, teacher=replace(recipe.teacher, weight_decay=0.25))
    plain = baseline_training(recipe, CLASSES)
    teacher = teacher_training(recipe, CLASSES, None)
    assert isinstance(teacher.network, Network)
    student = student_training(recipe, CLASSES, None, teacher.network)
    assert (student.schedule.lr, plain.schedule.lr) == (0.5, BASE.schedule.lr)
    decays = [training.schedule.weight_decay for training in (plain, teacher, student)]
    assert decays == [BASE.schedule.weight_decay, 0.25, 0.0]
    assert [training.schedule.min_lr for training in (plain, teacher, student)] == [0.0, 0.0, 0.1]
    assert (student.objective.aux_weight, plain.objective.aux_weight) == (0.25, 0.75)
    for training in (plain, teacher, student):
        rates = [module.p for module in training.network.modules() if isinstance(module, torch.nn.Dropout)]
        assert rates
        assert set(rates) == {0.01}


@pytest.mark.parametrize("own", [True, False])
def test_each_training_names_the_key_of_its_learning_rate(own: bool) -> None:
    lr = 0.5 if own else None
    recipe = make_method(BASE, f"maskd+{CLASSIC}", default_teacher(BASE)).recipe
    recipe = replace(recipe, teacher=replace(recipe.teacher, lr=lr), distill=replace(recipe.distill, lr=lr))
    teacher = teacher_training(recipe, CLASSES, None)
    assert isinstance(teacher.network, Network)
    student = student_training(recipe, CLASSES, None, teacher.network)
    first = first_stage_training(recipe, student)
    assert first is not None
    trainings = [baseline_training(recipe, CLASSES), teacher, first, student]
    keys = ["schedule.lr", "teacher.lr", None, "distill.lr"] if own else [*["schedule.lr"] * 2, None, "schedule.lr"]
    assert [training.lr_key for training in trainings] == keys
    rates = [training.schedule.lr for training in trainings]
    assert rates == ([0.02, 0.5, 0.1, 0.5] if own else [0.02, 0.02, 0.1, 0.02])


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("warm", "alone", "expected"),
    [(None, True, (True, False)), (None, False, (True, True)), (False, True, (True, True)), (True, True, (False,) * 2)],
)
def test_a_finished_start_counts_for_each_student_that_has_it(
    warm: bool | None, alone: bool, expected: tuple[bool, bool], finished: bool, tmp_path: Path
) -> None:
    recipe = make_method(BASE, f"kd+{CLASSIC}", default_teacher(BASE)).recipe
    recipe = replace(recipe, baseline=alone, distill=replace(recipe.distill, warm_start=warm))
    if finished:
        network = baseline_training(recipe, CLASSES).network
        save_file(network.state_dict(), tmp_path / "w.safetensors")
        recipe = replace(recipe, student=replace(recipe.student, weights=str(tmp_path / "w.safetensors")))
    teacher = teacher_training(recipe, CLASSES, None)
    assert isinstance(teacher.network, Network)
    trainings = baseline_training(recipe, CLASSES), student_training(recipe, CLASSES, None, teacher.network)
    assert tuple(training.start_counts for training in trainings) == (expected if finished else (False, False))
    assert not teacher.start_counts

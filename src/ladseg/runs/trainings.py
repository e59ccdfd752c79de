"""The trainings that a run is made of: what each minimises, what it delivers, and for how long it goes."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ladseg.models import Segmenter
from ladseg.objectives import FirstStageObjective, LabelAssisted, Plain, StudentObjective, TeacherObjective
from ladseg.recipe import Recipe, Schedule
from ladseg.objectives import Network, segmenter
from ladseg.runs.networks import build_student, build_teacher, make_distiller, teacher_network


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        key: ``"baseline"``, ``"teacher"``, ``"first-stage"`` or ``"student"``.
        objective: What is minimised.
        network: The part of it that is delivered.
        reads: The network whose image normalisation the batches have.
        schedule: How it is trained.
        depends_on: The sections of the recipe that its end depends on, beside the schedule.
    """

    key: str
    objective: nn.Module
    network: nn.Module
    reads: Segmenter
    schedule: Schedule
    depends_on: dict[str, Any]


def baseline_training(recipe: Recipe, num_classes: int) -> Training:
    """The student without help."""
    network = build_student(recipe, num_classes)
    objective = Plain(network, _aux_weight(recipe.student.aux_weight, network))
    return Training("baseline", objective, network, network, recipe.schedule, _sections(recipe, "student"))


def teacher_training(recipe: Recipe, num_classes: int, baseline: Network | None) -> Training:
    """The network that the student is to learn from: Eq. 7, or plainly if it does not see labels.

    Args:
        recipe: The run.
        num_classes: Number of classes.
        baseline: The trained plain student, which the teacher starts from if the recipe says so.
    """
    settings = recipe.teacher
    start = baseline.state_dict() if recipe.teacher_starts_warm and baseline is not None else None
    teacher = build_teacher(recipe, num_classes, start)
    aux_weight = _aux_weight(settings.aux_weight, segmenter(teacher))
    objective: nn.Module
    if isinstance(teacher, LabelAssisted):
        objective = TeacherObjective(teacher, settings.consistency, settings.consistency_form, aux_weight)
    else:
        objective = Plain(teacher, aux_weight)
    schedule = dataclasses.replace(
        recipe.schedule,
        iterations=settings.iterations or recipe.schedule.iterations,
        lr=settings.lr or recipe.schedule.lr,
    )
    depends_on = {"teacher": dataclasses.asdict(settings), "network": dataclasses.asdict(teacher_network(recipe))}
    return Training("teacher", objective, teacher, segmenter(teacher), schedule, depends_on)


def student_training(recipe: Recipe, num_classes: int, baseline: Network | None, teacher: Network) -> Training:
    """The student with help: Eq. 8.

    Args:
        recipe: The run.
        num_classes: Number of classes.
        baseline: The trained plain student, which the student starts from if the recipe says so.
        teacher: The trained teacher.
    """
    distill = recipe.distill
    student = build_student(recipe, num_classes)
    if distill.warm_start and baseline is not None:
        student.load_state_dict(baseline.state_dict())
    if isinstance(teacher, LabelAssisted):
        teacher.noise.alpha = teacher.noise.alpha if distill.alpha is None else distill.alpha
        teacher.noise.class_weights = distill.class_weights or teacher.noise.class_weights
    objective = StudentObjective(
        student,
        teacher,
        make_distiller(recipe, student, teacher),
        aux_weight=_aux_weight(recipe.student.aux_weight, student),
        teacher_input=_teacher_input(student, segmenter(teacher)),
    )
    return Training(
        "student", objective, student, student, recipe.schedule, _sections(recipe, "student", "teacher", "distill")
    )


def first_stage_training(recipe: Recipe, student: Training) -> Training | None:
    """What the student's distiller learns of the teacher first, by the schedule of MasKD; None for most methods.

    Args:
        recipe: The run.
        student: From :func:`student_training`, whose distiller the result belongs to.
    """
    objective = student.objective
    assert isinstance(objective, StudentObjective)
    part = objective.distiller.first_stage()
    if part is None:
        return None
    schedule = dataclasses.replace(
        recipe.schedule,
        iterations=first_stage_steps(recipe),
        optimizer="sgd",
        lr=0.1,
        momentum=0.9,
        weight_decay=1e-3,
        warmup=0,
    )
    first = FirstStageObjective(objective.teacher, part, objective.teacher_input)
    return Training("first-stage", first, part, student.reads, schedule, student.depends_on)


def first_stage_steps(recipe: Recipe) -> int:
    """A quarter of the student's, as MasKD's 10,000 of 40,000."""
    return max(1, recipe.schedule.iterations // 4)


def _sections(recipe: Recipe, *names: str) -> dict[str, Any]:
    return {name: dataclasses.asdict(getattr(recipe, name)) for name in names}


def _aux_weight(asked: float | None, network: Segmenter) -> float:
    """Weight of the training-only heads: what the recipe says, else the network's own."""
    return network.aux_weight if asked is None else asked


def _teacher_input(student: Segmenter, teacher: Segmenter) -> tuple[Tensor, Tensor] | None:
    """Scale and offset from the student's image normalisation to the teacher's; None where they are the same."""
    if (student.input_mean, student.input_std) == (teacher.input_mean, teacher.input_std):
        return None
    mean_s, std_s = torch.tensor(student.input_mean), torch.tensor(student.input_std)
    mean_t, std_t = torch.tensor(teacher.input_mean), torch.tensor(teacher.input_std)
    return std_s / std_t, (mean_s - mean_t) / std_t

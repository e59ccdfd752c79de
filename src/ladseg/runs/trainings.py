"""The trainings of a run, with the objective, the network and the schedule of each."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ladseg.data import SegmentationDataset, train_loader
from ladseg.losses.class_loss import make_class_loss
from ladseg.models import Segmenter
from ladseg.objectives import (
    FirstStageObjective,
    LabelAssisted,
    Network,
    Plain,
    SnapshotObjective,
    StudentObjective,
    TeacherObjective,
    segmenter,
)
from ladseg.recipe import Augment, Loss, Recipe, Schedule
from ladseg.runs.finished_teacher import teacher_digest
from ladseg.runs.networks import build_student, build_teacher, make_distiller, teacher_network, teacher_seed
from ladseg.seeds import derive_seed


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        key: ``"baseline"``, ``"teacher"``, ``"first-stage"`` or ``"student"``.
        objective: The objective to minimise.
        network: The part of the objective that is delivered.
        reads: The network whose image normalisation the batches have.
        schedule: The training schedule.
        depends_on: The sections of the recipe, besides the schedule, on which the trained weights depend.
        seed: Of batches, augmentation and dropout.
        lr_key: The recipe's key that its learning rate comes from; None where the method fixes the rate.
        start_counts: Whether the network starts as one that could be delivered, such as an earlier run's student.
    """

    key: str
    objective: nn.Module
    network: nn.Module
    reads: Segmenter
    schedule: Schedule
    depends_on: dict[str, Any]
    seed: int
    lr_key: str | None = "schedule.lr"
    start_counts: bool = False


def baseline_training(recipe: Recipe, num_classes: int) -> Training:
    """Return the training of the student alone, without distillation."""
    network = build_student(recipe, num_classes)
    objective = Plain(network, recipe.student.aux_weight, make_class_loss(recipe.loss, num_classes))
    depends_on = _sections(recipe, "student")
    return Training(
        "baseline",
        objective,
        network,
        network,
        recipe.schedule,
        depends_on,
        recipe.seed,
        start_counts=_start_counts(recipe, network),
    )


def teacher_training(recipe: Recipe, num_classes: int, baseline: Network | None) -> Training:
    """Return the training of the teacher: by Eq. 7 if it is label-assisted, else by the class loss alone.

    Args:
        recipe: The recipe.
        num_classes: Number of classes.
        baseline: The trained plain student, from which the teacher starts if the recipe says so.
    """
    settings = recipe.teacher
    start = baseline.state_dict() if recipe.teacher_starts_warm and baseline is not None else None
    teacher = build_teacher(recipe, num_classes, start)
    objective: nn.Module
    class_loss = make_class_loss(recipe.loss, num_classes)
    if isinstance(teacher, LabelAssisted):
        objective = TeacherObjective(
            teacher, settings.consistency, settings.consistency_form, settings.aux_weight, class_loss=class_loss
        )
    else:
        objective = Plain(teacher, settings.aux_weight, class_loss)
    schedule = dataclasses.replace(
        recipe.schedule,
        iterations=settings.iterations or recipe.schedule.iterations,
        lr=settings.lr or recipe.schedule.lr,
        weight_decay=recipe.schedule.weight_decay if settings.weight_decay is None else settings.weight_decay,
    )
    depends_on = _sections(recipe, "teacher") | {"network": dataclasses.asdict(teacher_network(recipe))}
    if settings.label_assisted and settings.paths == 1:  # earlier versions had two paths in any case
        depends_on["paths"] = 1
    lr_key = "schedule.lr" if settings.lr is None else "teacher.lr"
    seed = teacher_seed(recipe)
    return Training("teacher", objective, teacher, segmenter(teacher), schedule, depends_on, seed, lr_key)


def student_training(recipe: Recipe, num_classes: int, baseline: Network | None, teacher: Network | None) -> Training:
    """Return the training of the distilled student (Eq. 8).

    Args:
        recipe: The recipe.
        num_classes: Number of classes.
        baseline: The trained plain student, from which the distilled student starts if the recipe says so.
        teacher: The trained teacher; None for a student that teaches itself.
    """
    distill = recipe.distill
    student = build_student(recipe, num_classes)
    # One that goes on from the plain student competes with that one when the run delivers the better.
    start_counts = not recipe.student_starts_warm and _start_counts(recipe, student)
    if recipe.student_starts_warm and baseline is not None:
        student.load_state_dict(baseline.state_dict())
    aux_weight = recipe.student.aux_weight if distill.aux_weight is None else distill.aux_weight
    class_loss = make_class_loss(recipe.loss, num_classes)
    distiller = make_distiller(recipe, student, teacher or student)
    objective: StudentObjective
    if teacher is None:
        start = recipe.snapshot_step
        assert start is not None
        objective = SnapshotObjective(student, distiller, start, aux_weight=aux_weight, class_loss=class_loss)
    else:
        read = _teacher_input(student, segmenter(teacher))
        objective = StudentObjective(
            student,
            teacher,
            distiller,
            aux_weight=aux_weight,
            teacher_input=read,
            class_loss=class_loss,
            start=recipe.untaught_steps,
        )
    if isinstance(objective.teacher, LabelAssisted):  # this is a view, so the trained teacher keeps its own noise
        noise = objective.teacher.noise
        noise.alpha = noise.alpha if distill.alpha is None else distill.alpha
        noise.class_weights = distill.class_weights or noise.class_weights
    schedule = dataclasses.replace(
        recipe.schedule,
        lr=distill.lr or recipe.schedule.lr,
        weight_decay=recipe.schedule.weight_decay if distill.weight_decay is None else distill.weight_decay,
        min_lr=recipe.schedule.min_lr if distill.min_lr is None else distill.min_lr,
    )
    depends_on = _sections(recipe, "student", "teacher", "distill")
    if digest := teacher_digest(recipe):
        del depends_on["teacher"]["weights"]  # where the file lies does not matter
        depends_on["teacher.file"] = digest
    if recipe.data.unlabelled is not None:
        depends_on["data.unlabelled_share"] = recipe.data.unlabelled_share
    lr_key = "schedule.lr" if distill.lr is None else "distill.lr"
    # From its own start it sees the plain student's batches, so that the two differ by distillation alone. If it goes
    # on from the plain student, it has seen these already.
    seed = derive_seed(recipe.seed, "student") if recipe.student_starts_warm else recipe.seed
    return Training("student", objective, student, student, schedule, depends_on, seed, lr_key, start_counts)


def first_stage_training(recipe: Recipe, student: Training) -> Training | None:
    """Return the training of the distiller's first stage, by MasKD's schedule; None for methods without one.

    Args:
        recipe: The recipe.
        student: The result of :func:`student_training`, whose distiller is trained.
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
        min_lr=0.0,
        decay="poly",
        head_lr=1.0,
        weight_decay=1e-3,
        norm_decay=None,
        warmup=0,
        ema=None,
    )
    first = FirstStageObjective(objective.teacher, part, objective.teacher_input)
    return Training("first-stage", first, part, student.reads, schedule, student.depends_on, student.seed, lr_key=None)


def planned_work(recipe: Recipe) -> dict[str, tuple[int, float]]:
    """Return the trainings of a run in order, with their steps and the work of a step relative to the student alone.

    This rough estimate serves to show the time left. With a consistency loss the teacher predicts twice in a step; in a
    step of the distilled student the teacher only predicts. A teacher with another network counts like the student.
    """
    distilled, settings = recipe.distill.method != "none", recipe.teacher
    work = {}
    if recipe.baseline or not distilled:
        work["baseline"] = (recipe.schedule.iterations, 1.0)
    if distilled and settings.train and settings.snapshot is None:
        work["teacher"] = (settings.iterations or recipe.schedule.iterations, float(settings.paths))
    if recipe.distill.method == "maskd":
        work["first-stage"] = (first_stage_steps(recipe), 2 / 3)
    if distilled:
        steps = recipe.schedule.iterations
        work["student"] = (steps, 1 + (steps - recipe.untaught_steps) / steps / 3)
    return work


def batches_of(
    training: Training,
    recipe: Recipe,
    dataset: SegmentationDataset,
    accelerator: Accelerator,
    start: int,
    steps: int,
    unlabelled: SegmentationDataset | None = None,
) -> Iterable[dict[str, Tensor]]:
    """Return the batches of a training from step ``start`` to ``steps``, this process's share of each.

    Args:
        training: The training.
        recipe: The run.
        dataset: The training split.
        accelerator: The processes.
        start: The first step.
        steps: The step to stop before.
        unlabelled: Images without masks, of which each batch has ``recipe.unlabelled_images``.
    """
    return train_loader(
        dataset,
        unlabelled=unlabelled,
        unlabelled_images=recipe.unlabelled_images if unlabelled is not None else 0,
        crop=training.schedule.crop,
        batch_size=training.schedule.batch_size,
        seed=training.seed,
        mean=training.reads.input_mean,
        std=training.reads.input_std,
        start_step=start,
        steps=steps,
        settings=recipe.augment,
        workers=recipe.data.workers,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
    )


def first_stage_steps(recipe: Recipe) -> int:
    """Return a quarter of the student's steps; MasKD trains its tokens for 10,000 steps before 40,000."""
    return max(1, recipe.schedule.iterations // 4)


def _start_counts(recipe: Recipe, student: Segmenter) -> bool:
    """Return whether the start of the student's trainings is evaluated too.

    A recipe that starts one student of a comparison from another has it for neither: each is chosen from as many.
    """
    return student.is_finished and recipe.distill.warm_start is not True


def _sections(recipe: Recipe, *names: str) -> dict[str, Any]:
    """Return sections of the recipe, and loss and augmentation unless they equal what earlier versions had fixed."""
    changed = [name for name, own in {"loss": Loss(), "augment": Augment()}.items() if getattr(recipe, name) != own]
    sections = {name: dataclasses.asdict(getattr(recipe, name)) for name in (*names, *changed)}
    data = recipe.data
    if data.channels != 3 or data.mean is not None:
        sections["image"] = {"channels": data.channels, "mean": data.mean, "std": data.std}
    if "teacher" in sections and recipe.teacher.train:  # as recorded by earlier versions
        for key in ("train", "classes", "class_names"):
            del sections["teacher"][key]
    if "distill" in sections and sections["distill"]["start"] is None:  # as recorded before there was this key
        del sections["distill"]["start"]
    return sections


def _teacher_input(student: Segmenter, teacher: Segmenter) -> tuple[Tensor, Tensor] | None:
    """Return scale and offset from the student's image normalisation to the teacher's; None if they are equal."""
    if (student.input_mean, student.input_std) == (teacher.input_mean, teacher.input_std):
        return None
    mean_s, std_s = torch.tensor(student.input_mean), torch.tensor(student.input_std)
    mean_t, std_t = torch.tensor(teacher.input_mean), torch.tensor(teacher.input_std)
    return std_s / std_t, (mean_s - mean_t) / std_t

"""The main job: the student alone, the teacher, the student distilled from it; then what a user takes away."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ladseg.data import (
    SegmentationDataset,
    check_dataset,
    eval_loader,
    fingerprint,
    keep_decoded,
    open_dataset,
    portable,
    train_loader,
)
from ladseg.delivery import save_student
from ladseg.evaluation import ConfusionMatrix, Predictor, evaluate
from ladseg.files import write_text
from ladseg.models import Segmenter
from ladseg.objectives import LabelAssisted, Plain, StudentObjective, TeacherObjective
from ladseg.objectives.noise_draws import noise_generators
from ladseg.recipe import Recipe, Schedule
from ladseg.studies.networks import build_student, build_teacher, check_networks, make_distiller
from ladseg.studies.run_folder import claim_folder, write_results
from ladseg.studies.showcase import save_showcase
from ladseg.training import FitResult, fit, make_accelerator

Network = Segmenter | LabelAssisted

SPLITS = ("train", "val")
# In the run's folder: what the data looked like when it was checked.
CHECKED = "checked.txt"


def train(recipe: Recipe, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Run a recipe from check to picture; run again on the same folder, go on where it stopped.

    Args:
        recipe: What to run.
        say: Takes the few lines about where the run is, on the main process.

    Returns:
        What ``results.json`` holds.

    Raises:
        UserError: Anything a user can put right: the data, the recipe, a folder that holds another run.
    """
    run = Run(recipe, say)
    networks: dict[str, Network] = {}
    rows: dict[str, dict[str, Any]] = {}
    distilled = recipe.distill.method != "none"
    if recipe.baseline or not distilled:
        networks["baseline"], rows["baseline"] = run.train_baseline()
    if distilled:
        networks["teacher"], rows["teacher"] = run.train_teacher(networks.get("baseline"))
        networks["student"], rows["student"] = run.train_student(networks.get("baseline"), networks["teacher"])
    return run.deliver(networks, rows)


class Run:
    """One recipe's data, processes and folder, and its three trainings."""

    def __init__(self, recipe: Recipe, say: Callable[[str], None]) -> None:
        self.recipe = recipe
        self.folder = recipe.folder
        self.accelerator = make_accelerator(recipe.schedule.precision, self.folder)
        self.say = say if self.accelerator.is_main_process else lambda line: None
        sets: list[SegmentationDataset] = []
        if self.accelerator.is_main_process:
            sets = self._open()
            looked_at = self._check_data(sets)
            check_networks(recipe, sets[0].spec.num_classes)
            claim_folder(recipe)
            write_text(self.folder / CHECKED, looked_at)
        self.accelerator.wait_for_everyone()
        sets = sets or self._open()
        with self.accelerator.local_main_process_first():
            self.train_set, self.val_set = (
                keep_decoded(dataset, recipe.data.cache, split) for dataset, split in zip(sets, SPLITS, strict=True)
            )
        self.spec = self.train_set.spec
        self.say(
            f"{len(self.train_set)} training and {len(self.val_set)} validation images, "
            f"{self.spec.num_classes} classes; writing to {self.folder}"
        )

    def _open(self) -> list[SegmentationDataset]:
        return [open_dataset(self.recipe.data, split) for split in SPLITS]

    def _check_data(self, sets: list[SegmentationDataset]) -> str:
        """Look at every file, unless an earlier start of this run has; the fingerprint of what was looked at."""
        data, record = self.recipe.data, self.folder / CHECKED
        found = "\n".join(map(fingerprint, sets))
        if record.is_file() and record.read_text(encoding="utf-8") == found:
            self.say(f"{data.root} is unchanged since it was checked")
            return found
        self.say(f"checking {data.root}")
        for warning in check_dataset(data, SPLITS):
            self.say(f"warning: {warning}")
        return found

    def train_baseline(self) -> tuple[Segmenter, dict[str, Any]]:
        """The student without help."""
        network = build_student(self.recipe, self.spec.num_classes)
        objective = Plain(network, aux_weight(self.recipe.student.aux_weight, network))
        return network, self._fit("baseline", objective, network, self.recipe.schedule)

    def train_teacher(self, baseline: Network | None) -> tuple[Network, dict[str, Any]]:
        """The network that the student is to learn from: Eq. 7, or plainly if it does not see labels."""
        settings = self.recipe.teacher
        start = baseline.state_dict() if self.recipe.teacher_starts_warm and baseline is not None else None
        teacher = build_teacher(self.recipe, self.spec.num_classes, start)
        objective: nn.Module
        if isinstance(teacher, LabelAssisted):
            objective = TeacherObjective(
                teacher,
                settings.consistency,
                settings.consistency_form,
                aux_weight(settings.aux_weight, segmenter(teacher)),
                self.recipe.distill.tau or 4.0,
            )
        else:
            objective = Plain(teacher, aux_weight(settings.aux_weight, teacher))
        schedule = dataclasses.replace(
            self.recipe.schedule,
            iterations=settings.iterations or self.recipe.schedule.iterations,
            lr=settings.lr or self.recipe.schedule.lr,
        )
        return teacher, self._fit("teacher", objective, teacher, schedule)

    def train_student(self, baseline: Network | None, teacher: Network) -> tuple[Segmenter, dict[str, Any]]:
        """The student with help: Eq. 8."""
        distill = self.recipe.distill
        student = build_student(self.recipe, self.spec.num_classes)
        if distill.warm_start and baseline is not None:
            student.load_state_dict(baseline.state_dict())
        if isinstance(teacher, LabelAssisted):
            teacher.noise.alpha = teacher.noise.alpha if distill.alpha is None else distill.alpha
            teacher.noise.class_weights = distill.class_weights or teacher.noise.class_weights
        objective = StudentObjective(
            student,
            teacher,
            make_distiller(self.recipe, student, teacher),
            aux_weight=aux_weight(self.recipe.student.aux_weight, student),
            teacher_input=teacher_input(student, segmenter(teacher)),
        )
        return student, self._fit("student", objective, student, self.recipe.schedule)

    def deliver(self, networks: dict[str, Network], rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """Write the student's weights, the figures and the picture; return the figures."""
        delivered = networks.get("student") or networks["baseline"]
        results = {
            "name": self.recipe.name,
            "seed": self.recipe.seed,
            "label_assisted": self.recipe.teacher.label_assisted,
            "iterations": self.recipe.schedule.iterations,
            "class_names": list(self.spec.class_names),
            "networks": rows,
        }
        if self.accelerator.is_main_process:
            assert isinstance(delivered, Segmenter)
            data = {**dataclasses.asdict(self.spec), "recipe": portable(self.recipe.data, self.spec)}
            save_student(self.folder / "student.safetensors", delivered, data)
            save_showcase(self.folder / "picture.png", networks, self.val_set, results, self.accelerator.device)
            write_results(self.folder, results)
        self.accelerator.end_training()
        return results

    def _fit(self, key: str, objective: nn.Module, network: Network, schedule: Schedule) -> dict[str, Any]:
        """Train one network, leave its best weights in it, and measure them."""

        def batches(start_step: int) -> Iterable[dict[str, Tensor]]:
            return train_loader(
                self.train_set,
                crop=schedule.crop,
                batch_size=schedule.batch_size,
                seed=self.recipe.seed,
                mean=segmenter(network).input_mean,
                std=segmenter(network).input_std,
                start_step=start_step,
                steps=schedule.iterations,
                workers=self.recipe.data.workers,
                rank=self.accelerator.process_index,
                world_size=self.accelerator.num_processes,
            )

        def validate() -> float:
            with self.accelerator.autocast():
                return self._measure(network, predictor(network)).mean_iou()

        fitted = fit(
            objective,
            network,
            batches,
            validate,
            schedule,
            self.folder / key,
            self.accelerator,
            seed=self.recipe.seed,
            title=key,
        )
        return self._row(network.eval(), fitted)

    def _measure(self, network: Network, predict: Predictor) -> ConfusionMatrix:
        """Val, each process its share, in full precision unless the caller says otherwise."""
        loader = eval_loader(
            self.val_set,
            mean=segmenter(network).input_mean,
            std=segmenter(network).input_std,
            workers=self.recipe.data.workers,
            rank=self.accelerator.process_index,
            world_size=self.accelerator.num_processes,
        )
        return evaluate(predict, loader, self.spec.num_classes, self.accelerator.device)

    def _row(self, network: Network, fitted: FitResult) -> dict[str, Any]:
        matrix = self._measure(network, predictor(network))
        iou = [None if value != value else value for value in matrix.iou().tolist()]
        row = {
            "model": segmenter(network).name,
            "sees": "image + noised label" if isinstance(network, LabelAssisted) else "image",
            "parameters": segmenter(network).deployed_parameters(),
            "mean_iou": matrix.mean_iou(),
            "pixel_accuracy": matrix.pixel_accuracy(),
            "iou": iou,
            "best_step": fitted.best_step,
            "last_mean_iou": fitted.last_score,
            "seconds": fitted.seconds,
        }
        if isinstance(network, LabelAssisted):
            blind = self._measure(network, lambda batch: network.without_label(batch["image"]).logits)
            row["mean_iou_without_label"] = blind.mean_iou()
        return row


def segmenter(network: Network) -> Segmenter:
    """The segmentation network inside a label-assisted one, or the network itself."""
    inner = network.network if isinstance(network, LabelAssisted) else network
    assert isinstance(inner, Segmenter)
    return inner


def predictor(network: Network) -> Predictor:
    """How a network predicts: a label-assisted one from image and noised label, any other from the image."""
    if isinstance(network, LabelAssisted):
        return lambda batch: network(batch["image"], batch["label"], noise_generators(batch, 1)).logits
    return lambda batch: network(batch["image"]).logits


def aux_weight(asked: float | None, network: Segmenter) -> float:
    """Weight of the training-only heads: what the recipe says, else the network's own."""
    return network.aux_weight if asked is None else asked


def teacher_input(student: Segmenter, teacher: Segmenter) -> tuple[Tensor, Tensor] | None:
    """Scale and offset from the student's image normalisation to the teacher's; None where they are the same."""
    if (student.input_mean, student.input_std) == (teacher.input_mean, teacher.input_std):
        return None
    mean_s, std_s = torch.tensor(student.input_mean), torch.tensor(student.input_std)
    mean_t, std_t = torch.tensor(teacher.input_mean), torch.tensor(teacher.input_std)
    return std_s / std_t, (mean_s - mean_t) / std_t

"""A run: teacher, student and control, trained one after the other in one folder."""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock
from torch import Tensor

from ladseg.data import eval_loader, fingerprint, portable, train_loader
from ladseg.delivery import save_student
from ladseg.evaluation import ConfusionMatrix, Predictor, evaluate
from ladseg.files import write_text
from ladseg.models import Segmenter
from ladseg.objectives import LabelAssisted
from ladseg.objectives.noise_draws import noise_generators
from ladseg.recipe import Recipe
from ladseg.studies.networks import Network, check_networks, segmenter
from ladseg.studies.prepare import Say, Sets, prepare
from ladseg.studies.run_folder import claim_folder, write_results
from ladseg.studies.showcase import save_showcase
from ladseg.studies.trainings import (
    Training,
    baseline_training,
    first_stage_training,
    student_training,
    teacher_training,
)
from ladseg.training import FitResult, fit, make_accelerator

Results = dict[str, Any]

# In a training's folder: the figures of its network.
ROW = "row.json"


def train(
    recipe: Recipe, say: Say = print, sets: Sets | None = None, shared: Mapping[str, Path] | None = None
) -> Results:
    """Run a recipe from check to picture; run again on the same folder, go on where it stopped.

    Args:
        recipe: What to run.
        say: Takes the few lines about where the run is, on the main process.
        sets: Its data from :func:`prepare`, if other runs use it too.
        shared: Where trainings are that other runs use too: ``"baseline"`` or ``"teacher"`` to the training's folder,
            instead of one below the run's own. Who comes first trains it; who comes meanwhile waits.

    Returns:
        What ``results.json`` holds.

    Raises:
        UserError: Anything a user can put right: the data, the recipe, a folder that holds another run.
    """
    run = Run(recipe, say, sets, shared or {})
    networks: dict[str, Network] = {}
    rows: dict[str, dict[str, Any]] = {}

    def fit_one(training: Training) -> Network:
        network, rows[training.key] = run.fit(training)
        networks[training.key] = network
        return network

    classes = run.spec.num_classes
    distilled = recipe.distill.method != "none"
    if recipe.baseline or not distilled:
        fit_one(baseline_training(recipe, classes))
    if distilled:
        teacher = fit_one(teacher_training(recipe, classes, networks.get("baseline")))
        student = student_training(recipe, classes, networks.get("baseline"), teacher)
        before = run.fit_first_stage(first_stage_training(recipe, student))
        fit_one(student)
        rows["student"]["first_stage_seconds"] = before
    results = run.deliver(networks, rows)
    if sets is None:  # else there are other runs to come, which need the processes' group
        run.accelerator.end_training()
    return results


class Run:
    """One recipe's data, processes and folder."""

    def __init__(self, recipe: Recipe, say: Say, sets: Sets | None, shared: Mapping[str, Path]) -> None:
        self.recipe = recipe
        self.folder = recipe.folder
        self.shared = shared
        self.accelerator = make_accelerator(recipe.schedule.precision, self.folder)
        say = say if self.accelerator.is_main_process else lambda line: None
        if sets is None:
            sets = prepare(recipe, say)
        elif self.accelerator.is_main_process:
            check_networks(recipe, sets[0].spec.num_classes)
            claim_folder(recipe)
        self.accelerator.wait_for_everyone()
        self.train_set, self.val_set = sets
        self.spec = self.train_set.spec
        say(
            f"{len(self.train_set)} training and {len(self.val_set)} validation images, "
            f"{self.spec.num_classes} classes; writing to {self.folder}"
        )

    def fit(self, training: Training) -> tuple[Network, dict[str, Any]]:
        """Train a network, leave its best weights in it, and measure them; what is done is not done again."""
        network = training.network
        assert isinstance(network, Network)
        folder = self.shared.get(training.key, self.folder / training.key)
        with self._alone_in(folder):
            fitted = self._fit(training, folder, network)
            network.eval()
            record = folder / ROW
            measured_on = fingerprint(self.val_set)
            if record.is_file():
                known = json.loads(record.read_text(encoding="utf-8"))
                if known["measured_on"] == measured_on:
                    return network, known["row"]
            row = self._row(network, fitted)
            if self.accelerator.is_main_process:
                write_text(record, json.dumps({"measured_on": measured_on, "row": row}, indent=2) + "\n")
        return network, row

    def fit_first_stage(self, training: Training | None) -> float:
        """Train what a distiller learns before the student's training, if anything; the seconds that it took."""
        if training is None:
            return 0.0
        fitted = self._fit(training, self.folder / training.key, None)
        training.network.requires_grad_(False)
        return fitted.seconds

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
        for tracker in self.accelerator.trackers:
            tracker.finish()
        self.accelerator.wait_for_everyone()
        return results

    @contextmanager
    def _alone_in(self, folder: Path) -> Iterator[None]:
        """Let other runs wait that share a training, until this one has finished it."""
        lock = FileLock(folder / ".lock") if self.accelerator.is_main_process else None
        if lock is not None:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        self.accelerator.wait_for_everyone()
        try:
            yield
        finally:
            if lock is not None:
                lock.release()

    def _fit(self, training: Training, folder: Path, measured: Network | None) -> FitResult:
        """Train; the best weights are those that ``measured`` does best with on val, or the last ones without it."""
        schedule = training.schedule

        def batches(start_step: int) -> Iterable[dict[str, Tensor]]:
            return train_loader(
                self.train_set,
                crop=schedule.crop,
                batch_size=schedule.batch_size,
                seed=self.recipe.seed,
                mean=training.reads.input_mean,
                std=training.reads.input_std,
                start_step=start_step,
                steps=schedule.iterations,
                workers=self.recipe.data.workers,
                rank=self.accelerator.process_index,
                world_size=self.accelerator.num_processes,
            )

        def validate() -> float:
            assert measured is not None
            with self.accelerator.autocast():
                return self._measure(measured, predictor(measured)).mean_iou()

        return fit(
            training.objective,
            training.network,
            batches,
            validate if measured is not None else None,
            schedule,
            folder,
            self.accelerator,
            seed=self.recipe.seed,
            title=training.key,
            fingerprint=training.depends_on,
        )

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


def predictor(network: Network) -> Predictor:
    """How a network predicts: a label-assisted one from image and noised label, any other from the image."""
    if isinstance(network, LabelAssisted):
        return lambda batch: network(batch["image"], batch["label"], noise_generators(batch, 1)).logits
    return lambda batch: network(batch["image"]).logits

"""A run: teacher, student and control, trained one after the other in one folder."""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock
from torch import Tensor

from ladseg.data import portable, train_loader
from ladseg.deploy.student_file import save_student
from ladseg.evaluation import Evaluation, paired_interval
from ladseg.models import Segmenter
from ladseg.recipe import Recipe
from ladseg.measure.peak_memory import PeakMemory
from ladseg.measure.model_times import prediction_seconds
from ladseg.objectives import Network
from ladseg.runs.networks import check_networks
from ladseg.runs.preparation import Say, Sets, prepare
from ladseg.runs.run_folder import claim_folder, write_results
from ladseg.runs.samples import sample_strips, save_samples
from ladseg.runs.run_picture import save_showcase
from ladseg.runs.trainings import Training, baseline_training, first_stage_training, student_training, teacher_training
from ladseg.runs.validation import Validation
from ladseg.training import FitResult, fit, load_result, make_accelerator

Results = dict[str, Any]


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
        self.accelerator = make_accelerator(recipe.schedule.precision, self.folder, recipe.trackers)
        say = say if self.accelerator.is_main_process else lambda line: None
        if sets is None:
            sets = prepare(recipe, say)
        elif self.accelerator.is_main_process:
            check_networks(recipe, sets[0].spec.num_classes)
            claim_folder(recipe)
        self.accelerator.wait_for_everyone()
        self.train_set, self.val_set = sets
        self.spec = self.train_set.spec
        self.evaluations: dict[str, Evaluation] = {}
        self.validation = Validation(self.val_set, recipe.data.workers, self.accelerator)
        say(
            f"{len(self.train_set)} training and {len(self.val_set)} validation images, "
            f"{self.spec.num_classes} classes; writing to {self.folder}"
        )

    def fit(self, training: Training) -> tuple[Network, dict[str, Any]]:
        """Train a network, leave its best weights in it, and measure them; what is done is not done again."""
        network = training.network
        assert isinstance(network, Network)
        folder = self.folder_of(training.key)
        with self._alone_in(folder):
            finished = load_result(folder) is not None
            peak = PeakMemory(self.accelerator.device)
            fitted = self._fit(training, folder, network)
            memory = None if finished else peak.total
            row, self.evaluations[training.key] = self.validation.figures(
                network.eval(), fitted, training.schedule.crop, memory, folder
            )
        return network, row

    def folder_of(self, key: str) -> Path:
        """Of a training: below the run's own, unless other runs share it."""
        return self.shared.get(key, self.folder / key)

    def fit_first_stage(self, training: Training | None) -> float:
        """Train what a distiller learns before the student's training, if anything; the seconds that it took."""
        if training is None:
            return 0.0
        fitted = self._fit(training, self.folder / training.key, None)
        training.network.requires_grad_(False)
        return fitted.seconds

    def deliver(self, networks: dict[str, Network], rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """Write the student's weights, the figures and the pictures; return the figures."""
        delivered = networks.get("student") or networks["baseline"]
        assert isinstance(delivered, Segmenter)
        for key, row in rows.items():
            row["folder"] = os.path.relpath(self.folder_of(key), self.folder)
        results: Results = {
            "name": self.recipe.name,
            "seed": self.recipe.seed,
            "label_assisted": self.recipe.teacher.label_assisted,
            "iterations": self.recipe.schedule.iterations,
            "class_names": list(self.spec.class_names),
            "colors": self.spec.colors,
            "images": {"train": len(self.train_set), "val": len(self.val_set)},
            "crop": list(self.recipe.schedule.crop),
            "networks": rows,
            "difference": self._difference(rows),
        }
        if self.accelerator.is_main_process:
            height, width = self.val_set.read(0)[1].shape
            results["prediction"] = {
                "size": [height, width],
                "seconds": prediction_seconds(delivered, (height, width), self.accelerator.device),
                "device": self.accelerator.device.type,
            }
            data = {**dataclasses.asdict(self.spec), "recipe": portable(self.recipe.data, self.spec)}
            save_student(self.folder / "student.safetensors", delivered, data)
            save_showcase(self.folder / "picture.png", networks, self.val_set, results, self.accelerator.device)
            save_samples(self.folder / "samples", networks, self.evaluations, self.val_set, self.accelerator.device)
            write_results(self.folder, results)
        for tracker in self.accelerator.trackers:
            tracker.finish()
        self.accelerator.wait_for_everyone()
        return results

    def _difference(self, rows: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
        """What help changed, with what other validation images might have shown; None without a pair to compare."""
        if not {"baseline", "student"} <= set(rows):
            return None
        before, after = (self.evaluations[key].images for key in ("baseline", "student"))
        return {
            "mean_iou": rows["student"]["mean_iou"] - rows["baseline"]["mean_iou"],
            "interval": paired_interval(before, after),
        }

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
                return self.validation.evaluate(measured).matrix.mean_iou()

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
            pictures=lambda: [] if measured is None else sample_strips(measured, self.val_set, self.accelerator.device),
        )

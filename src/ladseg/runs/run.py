"""A run, which trains the student alone, the teacher and the distilled student, one after the other."""

import dataclasses
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ladseg.data import portable
from ladseg.deploy.student_file import save_student
from ladseg.deploy.teacher_file import is_ladsegs, save_teacher
from ladseg.evaluation import Evaluation, Inference, paired_interval
from ladseg.files import folder_bytes, write_atomically
from ladseg.lease import Lease
from ladseg.measure.model_times import prediction_seconds
from ladseg.measure.peak_memory import PeakMemory
from ladseg.models import Segmenter
from ladseg.objectives import Network
from ladseg.recipe import Recipe
from ladseg.report.verdict import run_verdict
from ladseg.results import (
    OTHER_STUDENT,
    RESULTS,
    STUDENT,
    TEACHER_FILE,
    Difference,
    ImageCounts,
    NetworkRow,
    PredictionTime,
    RunResults,
    write_json,
)
from ladseg.runs.class_weights import with_class_weights
from ladseg.runs.finished import Log
from ladseg.runs.networks import build_teacher
from ladseg.runs.parts import PICTURE, SAMPLES, fault_of, refuse_misplaced
from ladseg.runs.pictures import sample_strips, save_run_picture, save_samples
from ladseg.runs.preparation import Workspace, claim_folder, open_workspace
from ladseg.runs.trainings import (
    Training,
    baseline_training,
    batches_of,
    first_stage_training,
    planned_work,
    student_training,
    teacher_training,
)
from ladseg.runs.validation import Validation
from ladseg.training import (
    Callback,
    FitResult,
    Stage,
    fit,
    load_result,
    median_of,
    remove_checkpoints,
    validation_curve,
    wait_patiently,
)


def train_networks(
    recipe: Recipe,
    log: Log,
    workspace: Workspace | None = None,
    shared: Mapping[str, Path] | None = None,
    callbacks: Sequence[Callback] = (),
) -> RunResults | None:
    """Train the networks of a recipe, evaluate them, and write the results; see :func:`ladseg.runs.train.train`.

    Args:
        recipe: The recipe.
        log: Receives lines about the progress, on the main process.
        workspace: The result of :func:`ladseg.runs.preparation.open_workspace`, if other runs use it too.
        shared: Folders of trainings that other runs use too, by ``"baseline"`` or ``"teacher"``; other trainings are
            below the run's own folder. The first process that needs a shared training trains it; others wait.
        callbacks: As for :func:`ladseg.training.fit`, for every training of the run.
    """
    run = Run(recipe, log, workspace, shared, callbacks)
    networks: dict[str, Network] = {}
    rows: dict[str, NetworkRow] = {}

    def fit_one(training: Training) -> Network:
        network, rows[training.key] = run.fit(training)
        networks[training.key] = network
        return network

    recipe = with_class_weights(recipe, run.train_set)
    classes = run.spec.num_classes
    distilled = recipe.distill.method != "none"
    if recipe.baseline or not distilled:
        fit_one(baseline_training(recipe, classes))
    if distilled:
        baseline = networks.get("baseline")
        if recipe.snapshot_step is None and recipe.teacher.train:
            fit_one(teacher_training(recipe, classes, baseline))
        elif recipe.snapshot_step is None:
            start = None if baseline is None else baseline.state_dict()
            networks["teacher"], rows["teacher"] = run.measure_teacher(build_teacher(recipe, classes, start))
        student = student_training(recipe, classes, baseline, networks.get("teacher"))
        before = run.fit_first_stage(first_stage_training(recipe, student))
        fit_one(student)
        rows["student"] = dataclasses.replace(rows["student"], first_stage_seconds=before)
    results = None
    if run.accelerator.is_main_process:
        results = run.deliver(networks, rows)
        log(f"{run.folder} takes {folder_bytes(run.folder) / 1e6:.1f} MB")
    wait_patiently(run.accelerator)
    if workspace is None:  # otherwise later runs need the process group
        run.accelerator.end_training()
    return results


class Run:
    """One recipe's data, processes and folder.

    Args:
        recipe: The recipe.
        log: Receives lines about the progress, on the main process.
        workspace: Data and processes that are already open; None opens them.
        shared: As for :func:`train_networks`.
        callbacks: As for :func:`train_networks`.
    """

    def __init__(
        self,
        recipe: Recipe,
        log: Log,
        workspace: Workspace | None = None,
        shared: Mapping[str, Path] | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.callbacks = callbacks
        # A cell of a comparison delivers its method's student, whichever is better.
        self.chooses = workspace is None
        self.recipe = recipe
        self.log = log
        self.folder = recipe.folder
        self.shared = shared or {}
        # What another run has trained is no stage of this one.
        shared_results = {key: load_result(folder) for key, folder in self.shared.items()}
        self.stages = [key for key in planned_work(recipe) if shared_results.get(key) is None]
        opened = workspace or open_workspace(recipe, log)
        self.accelerator = opened.accelerator
        if workspace is not None:
            if self.accelerator.is_main_process:
                claim_folder(recipe, opened.num_classes, opened.checked)
            wait_patiently(self.accelerator)
        self.train_set, self.val_set, self.unlabelled = opened.train_set, opened.val_set, opened.unlabelled
        self.test_set = opened.test_set
        self.spec = self.train_set.spec
        self.evaluations: dict[str, Evaluation] = {}
        box = recipe.augment.rescale
        how = Inference(window=recipe.schedule.eval_window, rescale=None if box is None else (box[0], box[1]))
        self.validation = Validation(self.val_set, recipe.data.workers, self.accelerator, how, self.test_set)
        if self.accelerator.is_main_process:
            log(
                f"{len(self.train_set)} training and {len(self.val_set)} validation images, "
                f"{self.spec.num_classes} classes; writing to {self.folder}"
            )

    def fit(self, training: Training) -> tuple[Network, NetworkRow]:
        """Train a network, load the delivered weights into it, and evaluate them; skip what is done already."""
        network = training.network
        assert isinstance(network, Network)
        folder = self.folder_of(training.key)
        with self._exclusively(folder):
            finished = load_result(folder) is not None
            peak = PeakMemory(self.accelerator.device)
            fitted = self._fit(training, folder, network)
            memory = None if finished else peak.total
            row, self.evaluations[training.key] = self.validation.measure(
                network.eval(), fitted, training.schedule.crop, memory, folder
            )
        return network, row

    def measure_teacher(self, teacher: Network) -> tuple[Network, NetworkRow]:
        """Evaluate a finished teacher."""
        folder = self.folder_of("teacher")
        teacher.to(self.accelerator.device)
        untrained = FitResult(
            best_score=None, best_step=0, last_score=None, iterations=0, seconds=0.0, precision="fp32"
        )
        with self._exclusively(folder):
            row, self.evaluations["teacher"] = self.validation.measure(
                teacher.eval(), untrained, self.recipe.schedule.crop, None, folder
            )
        return teacher, row

    def folder_of(self, key: str) -> Path:
        """Return the folder of a training, which is below the run's own unless other runs share it."""
        return self.shared.get(key, self.folder / key)

    def fit_first_stage(self, training: Training | None) -> float:
        """Train the first stage of the distiller if it has one; return the seconds."""
        if training is None:
            return 0.0
        folder = self.folder_of(training.key)
        with self._exclusively(folder):
            fitted = self._fit(training, folder, None)
        training.network.requires_grad_(False)
        return fitted.seconds

    def deliver(self, networks: dict[str, Network], rows: dict[str, NetworkRow]) -> RunResults:
        """Write the delivered weights, the pictures and the results; return the results."""
        students = [key for key in ("student", "baseline") if key in rows]
        best = max(students, key=lambda key: rows[key].mean_iou)  # of equal ones the distilled student
        chosen = best if self.chooses and len(students) == 2 else None
        delivered = networks[chosen or students[0]]
        assert isinstance(delivered, Segmenter)
        device = self.accelerator.device
        height, width = self.val_set.read(0)[1].shape
        results = RunResults(
            name=self.recipe.name,
            seed=self.recipe.seed,
            label_assisted=self.recipe.teacher.label_assisted,
            iterations=self.recipe.schedule.iterations,
            class_names=list(self.spec.class_names),
            colors=list(self.spec.colors),
            images=ImageCounts(
                len(self.train_set), len(self.val_set), None if self.test_set is None else len(self.test_set)
            ),
            crop=self.recipe.schedule.crop,
            networks={
                key: dataclasses.replace(
                    row,
                    folder=os.path.relpath(self.folder_of(key), self.folder),
                    validation_curve=validation_curve(self.folder_of(key) / "metrics.jsonl"),
                    gradient_ratio=median_of(self.folder_of(key) / "metrics.jsonl", "gradient_ratio"),
                )
                for key, row in rows.items()
            },
            difference=self._difference(rows),
            prediction=PredictionTime(
                (height, width), prediction_seconds(delivered, (height, width), device), device.type
            ),
            constant_mean_iou=next(iter(self.evaluations.values())).matrix.constant_mean_iou(),
            delivers=chosen,
            student_starts_warm=self.recipe.student_starts_warm or None,
        )
        results = dataclasses.replace(results, verdict=run_verdict(results))
        data = {**dataclasses.asdict(self.spec), "recipe": portable(self.recipe.data, self.spec)}
        save_student(self.folder / STUDENT, delivered, data)
        if chosen is not None:
            self._save_other(networks, chosen, data)
        how = self.validation.how
        if "teacher" in networks:
            self._save_teacher(networks["teacher"], data)
        save_run_picture(self.folder / PICTURE, networks, self.val_set, results, device, how)
        save_samples(self.folder / SAMPLES, networks, self.evaluations, self.val_set, device, how)
        write_json(self.folder / RESULTS, results)
        return results

    def _save_other(self, networks: dict[str, Network], chosen: str, data: dict[str, Any]) -> None:
        """Keep the student that is not delivered, under the name of what it is."""
        for key, name in OTHER_STUDENT.items():
            network = networks[key]
            assert isinstance(network, Segmenter)
            if key == chosen:
                (self.folder / name).unlink(missing_ok=True)
            else:
                save_student(self.folder / name, network, data)

    def _save_teacher(self, teacher: Network, data: dict[str, Any]) -> None:
        """Save the teacher for further students, in the run's folder, or in its own if several runs share it."""
        path = self.shared.get("teacher", self.folder) / TEACHER_FILE
        settings = self.recipe.teacher
        file = settings.finished_file
        if file is None:
            save_teacher(path, teacher, data, settings.input_layer)
        elif is_ladsegs(Path(file)) and fault_of(path) is not None:
            write_atomically(path, lambda temporary: shutil.copyfile(file, temporary))

    def _difference(self, rows: dict[str, NetworkRow]) -> Difference | None:
        """Return the gain by distillation with its interval over the validation images; None without both students."""
        if not {"baseline", "student"} <= set(rows):
            return None
        before, after = (self.evaluations[key].images for key in ("baseline", "student"))
        gain = rows["student"].mean_iou - rows["baseline"].mean_iou
        if len(before) < 2:
            return Difference(
                gain, None, "there is one validation image, but an interval over images needs two or more"
            )
        return Difference(gain, paired_interval(before, after))

    @contextmanager
    def _exclusively(self, folder: Path) -> Iterator[None]:
        """Within the context, be the only process that trains a shared training; the others wait."""
        if self.accelerator.is_main_process:
            refuse_misplaced(folder)
        lease = Lease(folder) if self.accelerator.is_main_process else None
        if lease is not None and not lease.acquire():
            self.log(f"waiting for {folder.name}, which {lease.holder()} trains")
            lease.wait()
        wait_patiently(self.accelerator)
        try:
            yield
        finally:
            if lease is not None:
                lease.release()

    def _fit(self, training: Training, folder: Path, measured: Network | None) -> FitResult:
        """Train, and keep the weights with the best mIoU of ``measured`` on val; without it keep the last weights."""
        schedule = training.schedule
        # The student alone learns on images without masks.
        unlabelled = self.unlabelled if training.key == "student" else None
        data = {"data.train": self.train_set.contents, "data.val": self.val_set.contents}
        if unlabelled is not None:
            data |= {"data.unlabelled": unlabelled.contents}

        def batches(start_step: int) -> Iterable[dict[str, Tensor]]:
            steps = start_step, schedule.iterations
            return batches_of(training, self.recipe, self.train_set, self.accelerator, *steps, unlabelled)

        def validate() -> float:
            assert measured is not None
            with self.accelerator.autocast():
                return self.validation.evaluate(measured).matrix.mean_iou()

        def pictures() -> list[np.ndarray]:
            if measured is None:
                return []
            return sample_strips(measured, self.val_set, self.accelerator.device, self.validation.how)

        fitted = fit(
            training.objective,
            training.network,
            batches,
            validate if measured is not None else None,
            schedule,
            folder,
            self.accelerator,
            seed=training.seed,
            title=training.key,
            depends_on={**training.depends_on, **data},
            pictures=pictures,
            callbacks=self.callbacks,
            stage=self._stage(training.key),
            lr_key=training.lr_key,
            start_counts=training.start_counts,
        )
        if self.accelerator.is_main_process and not self.recipe.keep_checkpoints:
            remove_checkpoints(folder)
        return fitted

    def _stage(self, key: str) -> Stage:
        """Return the place of a training in the run; what has finished already is not counted as work to come."""
        work = {each: value for each, value in planned_work(self.recipe).items() if each == key or each in self.stages}
        place = list(work).index(key)
        to_come = (
            steps * weight
            for later, (steps, weight) in list(work.items())[place + 1 :]
            if load_result(self.folder_of(later)) is None
        )
        return Stage(place + 1, len(work), sum(to_come) / work[key][1])

"""The figures of a run's networks on its validation split."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from ladseg.data import SegmentationDataset, eval_loader, fingerprint
from ladseg.evaluation import Evaluation, Predictor, by_argmax, mean_pairwise_kl
from ladseg.evaluation.evaluate import evaluate
from ladseg.files import write_atomically, write_text
from ladseg.objectives import LabelAssisted
from ladseg.objectives.noise_draws import noise_generators
from ladseg.objectives import Network, segmenter
from ladseg.measure.step_costs import prediction_macs
from ladseg.outputs import SegmentationOutput
from ladseg.training import FitResult

# In a training's folder: the figures of its network, and the counts that they are read off.
ROW, COUNTS = "row.json", "val.npz"
# Table 8's m, and the most images that it is measured on.
DRAWS, STABILITY_IMAGES = 3, 50


class Validation:
    """One code for student, teacher and plain student.

    Args:
        dataset: The validation split.
        workers: Loader processes.
        accelerator: Knows the processes that share the work.
    """

    def __init__(self, dataset: SegmentationDataset, workers: int, accelerator: Accelerator) -> None:
        self.dataset = dataset
        self.workers = workers
        self.accelerator = accelerator

    def evaluate(self, network: Network, predictor: Predictor | None = None) -> Evaluation:
        """Each process its share, in full precision unless the caller says otherwise.

        Args:
            network: Whose image normalisation the batches have.
            predictor: How it predicts; None is as it is used: a label-assisted one from image and noised label.
        """
        loader = eval_loader(
            self.dataset,
            mean=segmenter(network).input_mean,
            std=segmenter(network).input_std,
            workers=self.workers,
            rank=self.accelerator.process_index,
            world_size=self.accelerator.num_processes,
        )
        device = self.accelerator.device
        return evaluate(predictor or predictor_of(network), loader, self.dataset.spec.num_classes, device)

    def figures(
        self, network: Network, fitted: FitResult, crop: tuple[int, int], memory: int | None, folder: Path
    ) -> tuple[dict[str, Any], Evaluation]:
        """What is known of a trained network, as plain values, and its counts; measured once, then kept in ``folder``.

        Args:
            network: Trained, in eval mode.
            fitted: How its training went.
            crop: Height and width that its arithmetic is counted for.
            memory: Most bytes of memory during its training; None where it was not watched.
            folder: Of the training.
        """
        measured_on = fingerprint(self.dataset)
        if (folder / ROW).is_file() and (folder / COUNTS).is_file():
            known = json.loads((folder / ROW).read_text(encoding="utf-8"))
            if known["measured_on"] == measured_on:
                return known["row"], load_counts(folder)
        evaluation = self.evaluate(network)
        row = _row(network, fitted, evaluation, crop) | {"peak_memory": memory}
        if isinstance(network, LabelAssisted):
            row |= self._what_the_teacher_uses(network)
        if self.accelerator.is_main_process:
            _save_counts(folder, evaluation)
            write_text(folder / ROW, json.dumps({"measured_on": measured_on, "row": row}, indent=2) + "\n")
        return row, evaluation

    def _what_the_teacher_uses(self, network: LabelAssisted) -> dict[str, float]:
        """Either input taken away (section 4.2), and how much the draw of the noise matters (Table 8)."""

        def without_label(batch: dict[str, Tensor]) -> SegmentationOutput:
            return network.without_label(batch["image"])

        def without_image(batch: dict[str, Tensor]) -> SegmentationOutput:  # zeros are the mean colour
            return network(torch.zeros_like(batch["image"]), batch["label"], noise_generators(batch, 1))

        return {
            "mean_iou_without_label": self.evaluate(network, by_argmax(without_label)).matrix.mean_iou(),
            "mean_iou_without_image": self.evaluate(network, by_argmax(without_image)).matrix.mean_iou(),
            "mean_kl_between_draws": self._mean_kl(network),
        }

    @torch.inference_mode()
    def _mean_kl(self, network: LabelAssisted) -> float:
        """KL_mean of section 4.3 over images spread evenly, in nats a position."""
        count = min(STABILITY_IMAGES, len(self.dataset))
        indices = [place * len(self.dataset) // count for place in range(count)]
        inner = segmenter(network)
        total = 0.0
        for batch in eval_loader(self.dataset, mean=inner.input_mean, std=inner.input_std, indices=indices):
            image, label = (batch[key].to(self.accelerator.device) for key in ("image", "label"))
            batch = {**batch, "label": label.long()}
            total += mean_pairwise_kl(
                [network(image, batch["label"], noise_generators(batch, draw)).logits for draw in range(1, DRAWS + 1)]
            )
        return total / count


def predictor_of(network: Network) -> Predictor:
    """How a network predicts: a label-assisted one from image and noised label, any other from the image."""
    if isinstance(network, LabelAssisted):
        return by_argmax(lambda batch: network(batch["image"], batch["label"], noise_generators(batch, 1)))
    return by_argmax(lambda batch: network(batch["image"]))


def load_counts(folder: Path) -> Evaluation:
    """What a training's network made of the validation split."""
    with np.load(folder / COUNTS) as arrays:
        return Evaluation.of(torch.from_numpy(arrays["confusion"]), torch.from_numpy(arrays["images"]))


def _save_counts(folder: Path, evaluation: Evaluation) -> None:
    confusion, images = evaluation.matrix.counts.numpy(), evaluation.images.numpy()
    write_atomically(
        folder / COUNTS, lambda temporary: np.savez_compressed(temporary, confusion=confusion, images=images)
    )


def _row(network: Network, fitted: FitResult, evaluation: Evaluation, crop: tuple[int, int]) -> dict[str, Any]:
    matrix = evaluation.matrix
    return {
        "model": segmenter(network).name,
        "sees": "image + noised label" if isinstance(network, LabelAssisted) else "image",
        "parameters": segmenter(network).deployed_parameters(),
        "macs": prediction_macs(network, crop),
        "mean_iou": matrix.mean_iou(),
        "pixel_accuracy": matrix.pixel_accuracy(),
        "iou": [None if value != value else value for value in matrix.iou().tolist()],
        "best_step": fitted.best_step,
        "last_mean_iou": fitted.last_score,
        "steps": fitted.iterations,
        "precision": fitted.precision,
        "seconds": fitted.seconds,
    }

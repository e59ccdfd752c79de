"""Evaluate a run's networks on its validation split."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor

from ladseg.data import SegmentationDataset, eval_loader, fingerprint
from ladseg.evaluation import WHOLE, Evaluation, Inference, Predictor, by_argmax, class_ids, mean_pairwise_kl
from ladseg.evaluation.evaluate import evaluate
from ladseg.files import write_atomically
from ladseg.measure.step_costs import prediction_macs
from ladseg.objectives import LabelAssisted, Network, noise_generators, segmenter
from ladseg.outputs import SegmentationOutput
from ladseg.progress import progress
from ladseg.results import MeasuredRow, NetworkRow, read_if_complete, write_json
from ladseg.runs.parts import COUNTS, ROW, fault_of, read_counts
from ladseg.training import FitResult

# What a label-assisted network sees, by its placebo.
SEES = {None: "image + noised label", "shuffled": "image + another's label", "noise": "image + noise"}
# Number of noise draws as in Table 8 (m), and the most images on which their divergence is computed.
DRAWS, STABILITY_IMAGES = 3, 50


class Validation:
    """Evaluates all networks of a run in the same way.

    Args:
        dataset: The validation split.
        workers: Number of loader processes.
        accelerator: Device, and the processes that share the work.
        how: How to predict images.
        test: The test split, on which finished networks are measured too.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        workers: int,
        accelerator: Accelerator,
        how: Inference = WHOLE,
        test: SegmentationDataset | None = None,
    ) -> None:
        self.how = how
        self.test = test
        self.dataset = dataset
        self.workers = workers
        self.accelerator = accelerator

    def evaluate(self, network: Network, predictor: Predictor | None = None, title: str = "evaluating") -> Evaluation:
        """Evaluate on the whole split, each process on its share, in float32 unless the caller sets autocast.

        Args:
            network: The network, whose image normalisation the batches get.
            predictor: How it predicts; None for :func:`predictor_of`.
            title: Name of the work on the screen.
        """
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        loader = eval_loader(
            self.dataset,
            mean=segmenter(network).input_mean,
            std=segmenter(network).input_std,
            workers=self.workers,
            rank=rank,
            world_size=processes,
        )
        share = len(range(rank, len(self.dataset), processes))
        batches = progress(loader, share, title, "images") if self.accelerator.is_main_process else loader
        predictor = predictor or predictor_of(network, self.how, self.dataset)
        return evaluate(predictor, batches, self.dataset.spec.num_classes, self.accelerator.device)

    def measure(
        self, network: Network, fitted: FitResult, crop: tuple[int, int], memory: int | None, folder: Path
    ) -> tuple[NetworkRow, Evaluation]:
        """Return the row of a trained network and its evaluation, computed once and then kept in ``folder``.

        Args:
            network: The trained network, in eval mode.
            fitted: The result of its training.
            crop: Height and width for which its multiply-accumulates are counted.
            memory: Peak memory of its training in bytes; None if it was not measured.
            folder: The training's folder.
        """
        splits = [self.dataset] if self.test is None else [self.dataset, self.test]
        measured_on = " ".join(split.contents or fingerprint(split) for split in splits)
        known = read_if_complete(MeasuredRow, folder / ROW)
        if known is not None and known.measured_on == measured_on:
            kept = self._kept(folder)
            if kept is not None:
                return known.row, kept
        if known is not None and memory is None:
            memory = known.row.peak_memory
        evaluation = self.evaluate(network, title=f"measuring {folder.name}")
        row = _row(network, fitted, evaluation, crop, memory)
        if isinstance(network, LabelAssisted) and network.placebo is None:
            row = replace(
                row,
                mean_iou_without_label=self._without_label(network),
                mean_iou_without_image=self._without_image(network),
                mean_kl_between_draws=self._mean_kl(network),
            )
        if self.test is not None:
            test = Validation(self.test, self.workers, self.accelerator, self.how)
            row = replace(row, test_mean_iou=test.evaluate(network).matrix.mean_iou())
        if self.accelerator.is_main_process:
            _save_evaluation(folder, evaluation)
            write_json(folder / ROW, MeasuredRow(measured_on, row))
        return row, evaluation

    def _kept(self, folder: Path) -> Evaluation | None:
        """Return the evaluation that a training's folder keeps; None if its file is missing or spoilt."""
        if fault_of(folder / COUNTS) is not None:
            return None
        confusion, images = map(torch.from_numpy, read_counts(folder / COUNTS))
        fits = (len(confusion), len(images)) == (self.dataset.spec.num_classes, len(self.dataset))
        return Evaluation.of(confusion, images) if fits else None

    def _without_label(self, network: LabelAssisted) -> float:
        """Return the mIoU with zeros as the noised label (section 4.2)."""
        predictor = by_argmax(lambda batch: network.without_label(batch["image"]), self.how)
        return self.evaluate(network, predictor, "measuring without label").matrix.mean_iou()

    def _without_image(self, network: LabelAssisted) -> float:
        """Return the mIoU with zeros, the mean colour, as the image (section 4.2)."""

        def output_of(batch: dict[str, Tensor]) -> SegmentationOutput:
            return network(torch.zeros_like(batch["image"]), batch["label"], noise_generators(batch, 1))

        return self.evaluate(
            network, by_argmax_of_both(output_of, self.how), "measuring without image"
        ).matrix.mean_iou()

    @torch.inference_mode()
    def _mean_kl(self, network: LabelAssisted) -> float:
        """Return KL_mean of section 4.3 in nats per pixel, over images spread evenly."""
        count = min(STABILITY_IMAGES, len(self.dataset))
        indices = [place * len(self.dataset) // count for place in range(count)]
        inner = segmenter(network)
        total = 0.0
        loader = eval_loader(self.dataset, mean=inner.input_mean, std=inner.input_std, indices=indices)
        shown = self.accelerator.is_main_process
        for batch in progress(loader, count, "measuring stability", "images") if shown else loader:
            image, label = (self._middle(batch[key]).to(self.accelerator.device) for key in ("image", "label"))
            batch = {**batch, "label": label.long()}
            total += mean_pairwise_kl(
                [network(image, batch["label"], noise_generators(batch, draw)).logits for draw in range(1, DRAWS + 1)]
            )
        return total / count

    def _middle(self, values: Tensor) -> Tensor:
        """Return the middle window of an image or a label; all of it where images are predicted whole."""
        sizes = values.shape[-2:] if self.how.window is None else self.how.window
        starts = [max(0, (side - size) // 2) for side, size in zip(values.shape[-2:], sizes, strict=True)]
        return values[..., starts[0] : starts[0] + sizes[0], starts[1] : starts[1] + sizes[1]]


def predictor_of(network: Network, how: Inference = WHOLE, dataset: SegmentationDataset | None = None) -> Predictor:
    """Return a network's predictor, which reads image and noised label if it is label-assisted, else the image.

    Args:
        network: The network.
        how: How to predict images.
        dataset: The split, for a placebo that shows the labels of other images.
    """

    def assisted(batch: dict[str, Tensor]) -> SegmentationOutput:
        return network(batch["image"], batch["label"], noise_generators(batch, 1))

    if not isinstance(network, LabelAssisted):
        return by_argmax(lambda batch: network(batch["image"]), how)
    predict = by_argmax_of_both(assisted, how)
    return lambda batch: predict(with_label_to_see(network, batch, dataset))


def by_argmax_of_both(network: Callable[[dict[str, Tensor]], SegmentationOutput], how: Inference) -> Predictor:
    """Return the predictor of a network that sees the image and its label: of each the same part at the same size."""
    if how.window is None:
        return by_argmax(lambda batch: network(with_label_of_its_size(batch)), how)

    def predict(batch: dict[str, Tensor]) -> Tensor:
        both = torch.cat([batch["image"], batch["label"][:, None].to(batch["image"].dtype)], 1)

        def output_of(part: Tensor) -> SegmentationOutput:
            return network({**batch, "image": part[:, :-1], "label": part[:, -1].long()})

        return class_ids(output_of, both, how)

    return predict


def with_label_to_see(
    network: Network, batch: dict[str, Tensor], dataset: SegmentationDataset | None
) -> dict[str, Tensor]:
    """Return a batch of one image with the label that the network is to see: for a shuffled one, the split's label
    before it, at the image's size.
    """
    if dataset is None or not isinstance(network, LabelAssisted) or network.placebo != "shuffled":
        return batch
    other = dataset.read((int(batch["index"]) - 1) % len(dataset))[1]
    return with_label_of_its_size({**batch, "label": other[None].to(batch["image"].device).long()})


def with_label_of_its_size(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the batch with the label resized to its image, for a network that sees both."""
    size = batch["image"].shape[-2:]
    if batch["label"].shape[-2:] == size:
        return batch
    resized = F.interpolate(batch["label"][:, None].double(), size, mode="nearest-exact")[:, 0]
    return {**batch, "label": resized.to(batch["label"].dtype)}


def _save_evaluation(folder: Path, evaluation: Evaluation) -> None:
    confusion, images = evaluation.matrix.counts.numpy(), evaluation.images.numpy()
    write_atomically(
        folder / COUNTS, lambda temporary: np.savez_compressed(temporary, confusion=confusion, images=images)
    )


def _row(
    network: Network, fitted: FitResult, evaluation: Evaluation, crop: tuple[int, int], memory: int | None
) -> NetworkRow:
    mean_iou = evaluation.matrix.mean_iou()
    # Scores of a training come in its precision: the last would differ by rounding from that of the same weights here.
    keeps_last = fitted.last_score is not None and fitted.best_step == fitted.iterations
    return NetworkRow(
        model=segmenter(network).name,
        sees=SEES[network.placebo] if isinstance(network, LabelAssisted) else "image",
        parameters=segmenter(network).deployed_parameters(),
        macs=prediction_macs(network, crop),
        mean_iou=mean_iou,
        pixel_accuracy=evaluation.matrix.pixel_accuracy(),
        iou=evaluation.matrix.iou().tolist(),
        best_step=fitted.best_step,
        last_mean_iou=mean_iou if keeps_last else fitted.last_score,
        steps=fitted.iterations,
        precision=fitted.precision,
        seconds=fitted.seconds,
        peak_memory=memory,
    )

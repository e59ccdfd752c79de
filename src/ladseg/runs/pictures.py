"""Draw pictures from a run's validation images: one of all networks, and samples for the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ladseg.data import SegmentationDataset, eval_loader
from ladseg.data.bands import pictured, shown
from ladseg.evaluation import WHOLE, Evaluation, Inference, iou_of
from ladseg.files import write_atomically
from ladseg.objectives import LabelAssisted, Network, noise_generators, segmenter
from ladseg.report.picture import Panel, color_table, save_picture
from ladseg.report.run_tables import role
from ladseg.results import RunResults, Sample, write_json
from ladseg.runs.parts import SAMPLE_LIST
from ladseg.runs.validation import predictor_of, with_label_to_see

# Rows of the run's picture; images per group of samples; pixels of a sample's longer side.
ROWS, EACH, SIDE = 4, 3, 480
# Colours of pixels where only the second prediction is right, only the first, or neither and they differ.
BETTER, WORSE, OTHER = (0, 114, 178), (213, 94, 0), (240, 228, 66)


@dataclass(frozen=True)
class Predictions:
    """A network's predictions, one entry per image.

    Attributes:
        labels: Class ids ``(H, W)``.
        noised: The noised label that a label-assisted network sees, ``(H, W)`` float; empty for other networks.
    """

    labels: list[Tensor]
    noised: list[Tensor]


@torch.inference_mode()
def predict_images(
    network: Network,
    dataset: SegmentationDataset,
    indices: Sequence[int],
    device: torch.device,
    how: Inference = WHOLE,
) -> Predictions:
    """Predict the images at ``indices`` as the evaluation does, with the same noise."""
    inner, predict = segmenter(network), predictor_of(network, how, dataset)
    labels, noised = [], []
    for batch in eval_loader(dataset, mean=inner.input_mean, std=inner.input_std, indices=indices):
        batch = {**batch, "image": batch["image"].to(device), "label": batch["label"].to(device).long()}
        labels.append(predict(batch)[0].cpu())
        if isinstance(network, LabelAssisted):
            seen = with_label_to_see(network, batch, dataset)
            noised.append(network.channel(seen["label"], noise_generators(batch, 1))[0, 0].cpu())
    return Predictions(labels, noised)


def save_run_picture(
    path: Path,
    networks: Mapping[str, Network],
    dataset: SegmentationDataset,
    results: RunResults,
    device: torch.device,
    how: Inference = WHOLE,
) -> None:
    """Draw image, label, noised label and the predictions of all networks for a few images.

    The images are spread evenly over the validation split, and not chosen by their result.
    """
    count = min(ROWS, len(dataset))
    indices = [round(i * (len(dataset) - 1) / max(count - 1, 1)) for i in range(count)]
    raw = [dataset.read(index) for index in indices]
    panels = [Panel("image", [shown(image) for image, _ in raw]), Panel("label", [label.long() for _, label in raw])]
    for key in ("teacher", "baseline", "student"):
        if key in networks:
            predicted = predict_images(networks[key], dataset, indices, device, how)
            if predicted.noised:
                panels.append(Panel("noised label (teacher's 4th channel)", predicted.noised))
            title = f"{role(key, results)}: {100 * results.networks[key].mean_iou:.1f} % mIoU"
            panels.append(Panel(title, predicted.labels))
    caption = (
        f"{results.name}, seed {results.seed}: {count} frames spread evenly over the {len(dataset)} of val. "
        "Black is ignored. mIoU is over the whole of val."
    )
    save_picture(path, panels, dataset.spec.class_names, dataset.spec.colors, caption)


def save_samples(
    folder: Path,
    networks: Mapping[str, Network],
    evaluations: Mapping[str, Evaluation],
    dataset: SegmentationDataset,
    device: torch.device,
    how: Inference = WHOLE,
) -> None:
    """Write pictures of the images where distillation changed the student most, of the worst and of a few others.

    Args:
        folder: Where to write the pictures.
        networks: The run's networks by training.
        evaluations: Evaluations of the networks on all of ``dataset``.
        dataset: The validation split.
        device: Where to predict.
        how: How to predict.
    """
    scores = {key: iou_of(evaluation.images).nanmean(-1) for key, evaluation in evaluations.items()}
    groups = _choose(scores)
    indices = sorted({index for group in groups.values() for index in group})
    predicted = {key: predict_images(network, dataset, indices, device, how) for key, network in networks.items()}
    files: dict[int, dict[str, str]] = {}
    for place, index in enumerate(indices):
        pictures = _pictures(place, index, predicted, dataset)
        files[index] = {kind: f"{index}-{kind}.{_suffix(kind)}" for kind in pictures}
        for kind, pixels in pictures.items():
            _save(folder / files[index][kind], pixels)
    samples = [
        Sample(index, _name(dataset, index), name, {key: float(v[index]) for key, v in scores.items()}, files[index])
        for name, group in groups.items()
        for index in group
    ]
    write_json(folder / SAMPLE_LIST, samples)


def sample_strips(
    network: Network, dataset: SegmentationDataset, device: torch.device, how: Inference = WHOLE
) -> list[np.ndarray]:
    """Return image, label and prediction side by side, ``(H, 3 W, 3)`` uint8, for a few images spread evenly."""
    count = min(EACH, len(dataset))
    indices = [place * len(dataset) // count for place in range(count)]
    strips = []
    for index, prediction in zip(indices, predict_images(network, dataset, indices, device, how).labels, strict=True):
        image, label = dataset.read(index)
        parts = [pictured(image), _colored(label, dataset), _colored(prediction, dataset)]
        strips.append(np.asarray(_shrunk(np.concatenate(parts, axis=1), 3 * SIDE)))
    return strips


def _choose(scores: Mapping[str, Tensor]) -> dict[str, list[int]]:
    """Choose images by the networks' mIoU of each, NaN where nothing is labelled.

    Those with the largest gain and the largest loss, if there are both students; those that the delivered network does
    worst; and some spread evenly, the same for every run on these images.
    """
    groups = {}
    if {"baseline", "student"} <= set(scores):
        gain = (scores["student"] - scores["baseline"]).nan_to_num()
        order = gain.argsort(descending=True, stable=True).tolist()
        groups["gained"] = [index for index in order[:EACH] if gain[index] > 0]
        groups["lost"] = [index for index in order[: -EACH - 1 : -1] if gain[index] < 0]
    delivered = scores["student" if "student" in scores else "baseline"]
    images, labelled = len(delivered), int(delivered.isfinite().sum())
    groups["worst"] = delivered.argsort(stable=True).tolist()[: min(EACH, labelled)]  # NaN comes last
    count = min(EACH, images)
    groups["spread"] = [place * images // count for place in range(count)]
    return groups


def _pictures(
    place: int, index: int, predicted: Mapping[str, Predictions], dataset: SegmentationDataset
) -> dict[str, np.ndarray]:
    """Return the pictures of one image by what they show; ``place`` is the index of its predictions."""
    image, label = dataset.read(index)
    pictures = {"image": pictured(image), "label": _colored(label, dataset)}
    for key, one in predicted.items():
        if one.noised:
            pictures["noised"] = _grey(one.noised[place])
        pictures[key] = _colored(one.labels[place], dataset)
    if {"baseline", "student"} <= set(predicted):
        before, after = (predicted[key].labels[place] for key in ("baseline", "student"))
        pictures["difference"] = _difference(pictures["image"], label, before, after)
    return pictures


def _name(dataset: SegmentationDataset, index: int) -> str:
    source = dataset.pairs[index][0]
    return source.name if isinstance(source, Path) else str(source)


def _colored(label: Tensor, dataset: SegmentationDataset) -> np.ndarray:
    return color_table(dataset.spec.colors)[label.numpy()]


def _grey(values: Tensor) -> np.ndarray:
    low, high = torch.aminmax(values)
    return ((values - low) / (high - low).clamp(min=1e-9) * 255).to(torch.uint8).numpy()


def _difference(image: np.ndarray, label: Tensor, before: Tensor, after: Tensor) -> np.ndarray:
    """Return the image in pale grey, coloured where the two predictions differ on labelled pixels."""
    pixels = (255 - (255 - image.astype(np.uint16)) // 3).astype(np.uint8)
    differ = (before != after) & (label != 255)
    for color, where in ((OTHER, differ), (BETTER, differ & (after == label)), (WORSE, differ & (before == label))):
        pixels[where.numpy()] = color
    return pixels


def _suffix(kind: str) -> str:
    """Return the format: JPEG for photographs, PNG for flat colours."""
    return "jpg" if kind in ("image", "difference") else "png"


def _save(path: Path, pixels: np.ndarray) -> None:
    flat = path.suffix == ".png" and pixels.ndim == 3
    small = _shrunk(pixels, SIDE, Image.Resampling.NEAREST if flat else Image.Resampling.LANCZOS)
    if flat:  # a palette makes the file small
        small = small.convert("P", palette=Image.Palette.ADAPTIVE, colors=256)
    options: dict[str, Any] = {} if flat else {"quality": 85}
    write_atomically(path, lambda temporary: small.save(temporary, **options))


def _shrunk(pixels: np.ndarray, longest: int, how: Image.Resampling = Image.Resampling.NEAREST) -> Image.Image:
    """Return the picture with a longer side of at most ``longest`` pixels."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    scale = min(1.0, longest / max(image.size))
    return image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), how)

"""The validation images where help changed the student most, as small pictures for the report."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ladseg.data import SegmentationDataset
from ladseg.report.picture import color_table
from ladseg.evaluation import Evaluation, iou_of
from ladseg.files import write_atomically, write_text
from ladseg.runs.predictions import answers
from ladseg.objectives import Network

# Images of either kind, pixels of a picture's longer side, and the file that lists them.
EACH, SIDE, INDEX = 3, 480, "samples.json"
# Where one of two answers is right, and it is the second; or the first; or both are wrong, and differ.
BETTER, WORSE, OTHER = (0, 114, 178), (213, 94, 0), (240, 228, 66)


def save_samples(
    folder: Path,
    networks: Mapping[str, Network],
    evaluations: Mapping[str, Evaluation],
    dataset: SegmentationDataset,
    device: torch.device,
) -> None:
    """Write the pictures and their list.

    Args:
        folder: Where to.
        networks: The run's, by training.
        evaluations: Theirs on all of ``dataset``.
        dataset: The validation split.
        device: Where to predict.
    """
    scores = {key: iou_of(evaluation.images).nanmean(-1).nan_to_num() for key, evaluation in evaluations.items()}
    groups = _choose(scores, len(dataset))
    indices = [index for group in groups.values() for index in group]
    given = {key: answers(network, dataset, indices, device) for key, network in networks.items()}
    listed = []
    for place, index in enumerate(indices):
        image, label = dataset.read(index)
        pictures = {"image": image.permute(1, 2, 0).numpy(), "label": _colored(label, dataset)}
        for key, answer in given.items():
            if answer.noised:
                pictures["noised"] = _grey(answer.noised[place])
            pictures[key] = _colored(answer.labels[place], dataset)
        if {"baseline", "student"} <= set(given):
            both = (given[key].labels[place] for key in ("baseline", "student"))
            pictures["difference"] = _difference(pictures["image"], label, *both)
        for what, pixels in pictures.items():
            _save(folder / f"{index}-{what}.{_suffix(what)}", pixels)
        listed.append(
            {
                "index": index,
                "name": _name(dataset, index),
                "group": next(name for name, group in groups.items() if index in group),
                "mean_iou": {key: float(values[index]) for key, values in scores.items()},
                "files": {what: f"{index}-{what}.{_suffix(what)}" for what in pictures},
            }
        )
    write_text(folder / INDEX, json.dumps(listed, indent=2) + "\n")


def sample_strips(network: Network, dataset: SegmentationDataset, device: torch.device) -> list[np.ndarray]:
    """Image, label and what the network answers side by side, ``(H, 3 W, 3)`` uint8, for a few images spread evenly."""
    count = min(EACH, len(dataset))
    indices = [place * len(dataset) // count for place in range(count)]
    strips = []
    for index, answer in zip(indices, answers(network, dataset, indices, device).labels, strict=True):
        image, label = dataset.read(index)
        parts = [image.permute(1, 2, 0).numpy(), _colored(label, dataset), _colored(answer, dataset)]
        strips.append(np.asarray(_shrunk(np.concatenate(parts, axis=1), 3 * SIDE)))
    return strips


def _choose(scores: Mapping[str, Tensor], images: int) -> dict[str, list[int]]:
    """The images with the largest gain and the largest loss; without two students, some spread evenly."""
    if not {"baseline", "student"} <= set(scores):
        count = min(2 * EACH, images)
        return {"spread": [place * images // count for place in range(count)]}
    gain = scores["student"] - scores["baseline"]
    order = gain.argsort(descending=True, stable=True).tolist()
    return {
        "gained": [index for index in order[:EACH] if gain[index] > 0],
        "lost": [index for index in order[: -EACH - 1 : -1] if gain[index] < 0],
    }


def _name(dataset: SegmentationDataset, index: int) -> str:
    source = dataset.pairs[index][0]
    return source.name if isinstance(source, Path) else str(source)


def _colored(label: Tensor, dataset: SegmentationDataset) -> np.ndarray:
    return color_table(dataset.spec.colors)[label.numpy()]


def _grey(values: Tensor) -> np.ndarray:
    low, high = torch.aminmax(values)
    return ((values - low) / (high - low).clamp(min=1e-9) * 255).to(torch.uint8).numpy()


def _difference(image: np.ndarray, label: Tensor, before: Tensor, after: Tensor) -> np.ndarray:
    """The image, pale, with colours where the two answers differ on pixels that count."""
    pixels = (255 - (255 - image.astype(np.uint16)) // 3).astype(np.uint8)
    differ = (before != after) & (label != 255)
    for color, where in ((OTHER, differ), (BETTER, differ & (after == label)), (WORSE, differ & (before == label))):
        pixels[where.numpy()] = color
    return pixels


def _suffix(what: str) -> str:
    """Photographs as JPEG, flat colours as PNG."""
    return "jpg" if what in ("image", "difference") else "png"


def _save(path: Path, pixels: np.ndarray) -> None:
    flat = path.suffix == ".png" and pixels.ndim == 3
    small = _shrunk(pixels, SIDE, Image.Resampling.NEAREST if flat else Image.Resampling.LANCZOS)
    if flat:  # a palette makes it small
        small = small.convert("P", palette=Image.Palette.ADAPTIVE, colors=256)
    options: dict[str, Any] = {} if flat else {"quality": 85}
    write_atomically(path, lambda temporary: small.save(temporary, **options))


def _shrunk(pixels: np.ndarray, longest: int, how: Image.Resampling = Image.Resampling.NEAREST) -> Image.Image:
    """With a longer side of at most ``longest``."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    scale = min(1.0, longest / max(image.size))
    return image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), how)

"""The picture of a run, from its own validation frames."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ladseg.data import SegmentationDataset, eval_loader
from ladseg.delivery import Panel, save_picture
from ladseg.delivery.table import role
from ladseg.objectives import LabelAssisted
from ladseg.objectives.noise_draws import noise_generators
from ladseg.outputs import resize_logits

ROWS = 4


@torch.inference_mode()
def save_showcase(
    path: Path,
    networks: dict[str, Any],
    dataset: SegmentationDataset,
    results: dict[str, Any],
    device: torch.device,
) -> None:
    """Draw image, label, noised label, teacher, student alone and distilled student for a few frames.

    The frames are spread evenly over the validation split, not picked by result.
    """
    count = min(ROWS, len(dataset))
    indices = [round(i * (len(dataset) - 1) / max(count - 1, 1)) for i in range(count)]
    raw = [dataset.read(index) for index in indices]
    panels = [
        Panel("image", [image for image, _ in raw]),
        Panel("label", [label.long() for _, label in raw]),
    ]
    for key in ("teacher", "baseline", "student"):
        if key in networks:
            panels += _network_panels(key, networks[key], dataset, indices, results, device)
    caption = (
        f"{results['name']}, seed {results['seed']}: {count} frames spread evenly over the {len(dataset)} of val. "
        "Black is ignored. mIoU is over the whole of val."
    )
    save_picture(path, panels, dataset.spec.class_names, dataset.spec.colors, caption)


def _network_panels(
    key: str,
    network: Any,
    dataset: SegmentationDataset,
    indices: list[int],
    results: dict[str, Any],
    device: torch.device,
) -> list[Panel]:
    """What the network is shown beside the image, if anything, and what it answers."""
    assisted = isinstance(network, LabelAssisted)
    inner = network.network if assisted else network
    noised: list[Tensor] = []
    answers: list[Tensor] = []
    loader = eval_loader(dataset, mean=inner.input_mean, std=inner.input_std, indices=indices)
    for batch in loader:
        image, label = batch["image"].to(device), batch["label"].to(device).long()
        generators = noise_generators({**batch, "label": label}, 1)
        if assisted:
            noised.append(network.noise(label, generators)[0, 0].cpu())
            logits = network(image, label, noise_generators({**batch, "label": label}, 1)).logits
        else:
            logits = network(image).logits
        answers.append(resize_logits(logits, (label.shape[-2], label.shape[-1])).argmax(1)[0].cpu())
    title = f"{role(key, results)}: {100 * results['networks'][key]['mean_iou']:.1f} % mIoU"
    first = [Panel("noised label (teacher's 4th channel)", noised)] if assisted else []
    return [*first, Panel(title, answers)]

"""The picture of a run, from its own validation frames."""

from pathlib import Path
from typing import Any

import torch

from ladseg.data import SegmentationDataset
from ladseg.report.picture import Panel, save_picture
from ladseg.report.run_tables import role
from ladseg.runs.predictions import answers
from ladseg.objectives import Network

ROWS = 4


def save_showcase(
    path: Path,
    networks: dict[str, Network],
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
    network: Network,
    dataset: SegmentationDataset,
    indices: list[int],
    results: dict[str, Any],
    device: torch.device,
) -> list[Panel]:
    """What the network is shown beside the image, if anything, and what it answers."""
    given = answers(network, dataset, indices, device)
    title = f"{role(key, results)}: {100 * results['networks'][key]['mean_iou']:.1f} % mIoU"
    first = [Panel("noised label (teacher's 4th channel)", given.noised)] if given.noised else []
    return [*first, Panel(title, given.labels)]

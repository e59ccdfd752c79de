"""Evaluate a delivered network, or a file exported from it, on a data set."""

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ladseg.data import check_dataset, eval_loader, get_layout, open_dataset
from ladseg.deploy.exported_file import is_exported, open_exported
from ladseg.deploy.predictor import load
from ladseg.deploy.student_file import refuse_other_model
from ladseg.deploy.student_header import Numbers, StudentHeader
from ladseg.errors import DataError
from ladseg.evaluation import WHOLE, BoundaryIoU, Inference, class_ids
from ladseg.evaluation.boundary_iou import SHARE
from ladseg.evaluation.evaluate import evaluate
from ladseg.progress import progress
from ladseg.recipe import Data
from ladseg.recipe_files import load_recipe, make_recipe
from ladseg.results import RESULTS, EvaluationResults
from ladseg.runs.parts import RECIPE


@dataclass(frozen=True)
class Opened:
    """A delivered network that is ready to predict, in torch or another runtime.

    Attributes:
        header: The metadata of its file.
        mean: Mean to subtract from RGB in 0..1.
        std: Standard deviation to divide by.
        device: Where it predicts.
        class_ids: Maps a normalised image ``(1, 3, H, W)`` on that device, and how to predict, to class ids
            ``(1, H, W)``.
    """

    header: StudentHeader
    mean: Numbers
    std: Numbers
    device: torch.device
    class_ids: Callable[[Tensor, Inference], Tensor]


def open_network(weights: str, model: str | None = None) -> Opened:
    """Open a weights file, a run's folder or an exported file.

    Raises:
        UserError: The file is missing, damaged or not written by ladseg, or its network's code is not found.
    """
    if is_exported(weights):
        file = open_exported(weights)
        refuse_other_model(weights, file.header, model)
        return Opened(file.header, file.mean, file.std, torch.device("cpu"), file.class_ids)
    student = load(weights, model)
    header = student.header
    return Opened(header, header.mean, header.std, student.device, partial(class_ids, student.network))


def evaluate_file(
    weights: str,
    overrides: list[str],
    split: str = "val",
    model: str | None = None,
    how: Inference = WHOLE,
    boundary: float = SHARE,
) -> EvaluationResults:
    """Evaluate a delivered network on a data set.

    Args:
        weights: The ``student.safetensors`` of a run, the run's folder, or an exported file.
        overrides: ``--data.KEY VALUE`` arguments; the other keys are those of the network's training data, in a
            run's folder its place too.
        split: The split to evaluate on.
        model: The name of the network, if it is not one of ladseg's; see :func:`ladseg.load`.
        how: How to predict images.
        boundary: Width of boundaries as a share of the image's diagonal.

    Raises:
        UserError: The file, the data set or an argument can't be used, or the data set has other classes.
    """
    opened = open_network(weights, model)
    data = data_for(opened.header, overrides, weights)
    for warning in check_dataset(data, splits=(split,)):
        print(f"warning: {warning}", file=sys.stderr)
    return measure(weights, opened, data, split, how, boundary)


def measure(
    weights: str,
    opened: Opened,
    data: Data,
    split: str = "val",
    how: Inference = WHOLE,
    boundary: float = SHARE,
) -> EvaluationResults:
    """Evaluate an opened network on a split of checked data; for the arguments see :func:`evaluate_file`."""
    dataset = open_dataset(data, split)
    classes = opened.header.num_classes
    if dataset.spec.num_classes != classes:
        raise DataError(f"{data.root}: {dataset.spec.num_classes} classes, but {weights} predicts {classes}")
    boundaries = BoundaryIoU(classes, share=boundary)

    def predictor(batch: dict[str, Tensor]) -> Tensor:
        ids = opened.class_ids(batch["image"], how)
        boundaries.update(ids[0], batch["label"][0])
        return ids

    loader = eval_loader(dataset, mean=opened.mean, std=opened.std, workers=data.workers)
    batches = progress(loader, len(dataset), f"measuring {split}", "images")
    matrix = evaluate(predictor, batches, classes, opened.device).matrix
    return EvaluationResults(
        weights=weights,
        split=split,
        images=len(dataset),
        inference=asdict(how),
        boundary=boundary,
        mean_iou=matrix.mean_iou(),
        mean_boundary_iou=boundaries.mean_iou(),
        pixel_accuracy=matrix.pixel_accuracy(),
        class_names=list(dataset.spec.class_names),
        iou=matrix.iou().tolist(),
        boundary_iou=boundaries.iou().tolist(),
        confusion=matrix.counts.tolist(),
    )


def data_for(header: StudentHeader, overrides: list[str], weights: str | Path) -> Data:
    """Return the data section of a delivered network's file, with the command line's changes.

    Args:
        header: The metadata of the file.
        overrides: ``--data.KEY VALUE`` arguments.
        weights: A run's folder or a file in it, whose recipe knows where the data are.

    Raises:
        DataError: Neither arguments nor a run say where the data are.
    """
    trained_on = header.data
    names = list(trained_on.class_names)
    # Older files do not record the layout.
    plain = {"classes": names, "ignore_index": trained_on.ignore_index, "label_map": trained_on.label_map}
    data = make_recipe({"data": plain if trained_on.recipe is None else trained_on.recipe}, overrides).data
    if not data.root:
        data = replace(data, root=_root_of_run(Path(weights)))
    if not data.classes and get_layout(data.layout).spec is None:
        return replace(data, classes=names)
    return data


def _root_of_run(weights: Path) -> str:
    """Return the folder of the data that a run was trained on."""
    run = weights if weights.is_dir() else weights.parent
    if not all((run / name).is_file() for name in (RECIPE, RESULTS)):
        raise DataError(f"{weights}: weights outside their run do not know where data are: --data DIR")
    return load_recipe(run / RECIPE).data.root

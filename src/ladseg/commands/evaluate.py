"""Measure a delivered weights file on a data set."""

import sys
from dataclasses import asdict, replace

from torch import Tensor

from ladseg.data import check_dataset, eval_loader, get_layout, open_dataset
from ladseg.deploy.predictor import load
from ladseg.deploy.student_header import StudentHeader
from ladseg.errors import DataError
from ladseg.evaluation import WHOLE, BoundaryIoU, Inference, class_ids
from ladseg.evaluation.boundary_iou import SHARE
from ladseg.evaluation.evaluate import evaluate
from ladseg.progress import progress
from ladseg.recipe import Data
from ladseg.recipe_files import make_recipe
from ladseg.results import EvaluationResults


def evaluate_file(
    weights: str,
    overrides: list[str],
    split: str = "val",
    model: str | None = None,
    how: Inference = WHOLE,
    boundary: float = SHARE,
) -> EvaluationResults:
    """Measure a delivered network on a data set.

    Args:
        weights: The ``student.safetensors`` of a run.
        overrides: ``--data.KEY VALUE`` arguments; other keys are those of the data that the network was trained on.
        split: The split to measure on.
        model: The name of the network, if it is not one of ladseg's; see :func:`ladseg.load`.
        how: How images are predicted.
        boundary: Width of boundaries as a share of the image's diagonal.

    Raises:
        UserError: The file, the data set or an argument cannot be used, or the data set has other classes.
    """
    student = load(weights, model)
    data = data_for(student.header, overrides)
    for warning in check_dataset(data, splits=(split,)):
        print(f"warning: {warning}", file=sys.stderr)
    dataset = open_dataset(data, split)
    classes = len(student.class_names)
    if dataset.spec.num_classes != classes:
        raise DataError(f"{data.root}: {dataset.spec.num_classes} classes, but {weights} predicts {classes}")
    boundaries = BoundaryIoU(classes, share=boundary)

    def predictor(batch: dict[str, Tensor]) -> Tensor:
        ids = class_ids(student.network, batch["image"], how)
        boundaries.update(ids[0], batch["label"][0])
        return ids

    loader = eval_loader(dataset, mean=student.header.mean, std=student.header.std, workers=data.workers)
    batches = progress(loader, len(dataset), f"measuring {split}", "images")
    matrix = evaluate(predictor, batches, classes, student.device).matrix
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


def data_for(header: StudentHeader, overrides: list[str]) -> Data:
    """Return the data section of a delivered network's file with the changes of the command line."""
    trained_on = header.data
    names = list(trained_on.class_names)
    # Files from before layouts were recorded.
    plain = {"classes": names, "ignore_index": trained_on.ignore_index, "label_map": trained_on.label_map}
    data = make_recipe({"data": plain if trained_on.recipe is None else trained_on.recipe}, overrides).data
    if not data.root:
        raise DataError("a weights file does not know where data are: --data DIR")
    if not data.classes and get_layout(data.layout).spec is None:
        return replace(data, classes=names)
    return data

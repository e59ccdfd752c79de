"""Measure a delivered weights file on a data set."""

import sys
from dataclasses import replace
from typing import Any

import torch

from ladseg.data import check_dataset, eval_loader, get_layout, open_dataset
from ladseg.delivery import load_student
from ladseg.errors import DataError
from ladseg.evaluation import by_argmax, evaluate
from ladseg.recipe import Data, make_recipe


def evaluate_file(weights: str, overrides: list[str], split: str = "val", model: str | None = None) -> dict[str, Any]:
    """mIoU, per-class IoU and pixel accuracy of a student file.

    Args:
        weights: The ``student.safetensors`` of a run.
        overrides: ``--data.KEY VALUE`` words; what they leave out is as in the data that the file was trained on.
        split: The split to measure on.
        model: The name of the network, if it is none of ladseg's; see :func:`ladseg.delivery.load_student`.

    Raises:
        UserError: The file, the data set or a word is unusable, or the data set has other classes.
    """
    network, header = load_student(weights, model)
    data = data_for(header, overrides)
    for warning in check_dataset(data, splits=(split,)):
        print(f"warning: {warning}", file=sys.stderr)
    dataset = open_dataset(data, split)
    if dataset.spec.num_classes != header["num_classes"]:
        raise DataError(
            f"{data.root}: {dataset.spec.num_classes} classes, but {weights} predicts {header['num_classes']}"
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    loader = eval_loader(dataset, mean=header["mean"], std=header["std"], workers=data.workers)
    predictor = by_argmax(lambda batch: network(batch["image"]).logits)
    matrix = evaluate(predictor, loader, dataset.spec.num_classes, device).matrix
    return {
        "weights": weights,
        "images": len(dataset),
        "mean_iou": matrix.mean_iou(),
        "pixel_accuracy": matrix.pixel_accuracy(),
        "class_names": list(dataset.spec.class_names),
        "iou": matrix.iou().tolist(),
    }


def data_for(header: dict[str, Any], overrides: list[str]) -> Data:
    """The data section that a delivered network's file and the command line give together."""
    trained_on = header["data"]
    # Files from before layouts were recorded.
    plain = {"classes": trained_on["class_names"], **{key: trained_on[key] for key in ("ignore_index", "label_map")}}
    data = make_recipe({"data": trained_on.get("recipe", plain)}, overrides).data
    if not data.classes and get_layout(data.layout).spec is None:
        return replace(data, classes=trained_on["class_names"])
    return data

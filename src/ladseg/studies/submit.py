"""Predictions in the format of a data set's server."""

from pathlib import Path

import torch
from PIL import Image

from ladseg.data import data_root, get_layout
from ladseg.data.read import read_image
from ladseg.data.transforms import normalize
from ladseg.delivery import load_student
from ladseg.errors import DataError
from ladseg.files import write_atomically
from ladseg.outputs import resize_logits
from ladseg.progress import progress
from ladseg.studies.evaluate_file import data_for


@torch.inference_mode()
def submit(weights: str, overrides: list[str], out: Path, split: str = "test", model: str | None = None) -> int:
    """Write one PNG an image, with the ids and under the names that the server takes.

    Args:
        weights: The ``student.safetensors`` of a run.
        overrides: ``--data.KEY VALUE`` words; what they leave out is as in the data that the file was trained on.
        out: The folder of the predictions.
        split: The split to predict.
        model: The name of the network, if it is none of ladseg's; see :func:`ladseg.delivery.load_student`.

    Returns:
        How many predictions there are.

    Raises:
        UserError: The file or a word is unusable, the layout has no server, or its classes are others.
    """
    network, header = load_student(weights, model)
    data = data_for(header, overrides)
    layout = get_layout(data.layout)
    if layout.submission is None:
        raise DataError(f"layout '{layout.name}' has no server that takes predictions; cityscapes and ade20k have")
    values = layout.submission.values
    if len(values) != header["num_classes"]:
        raise DataError(f"{weights} predicts {header['num_classes']} classes, but {layout.name} has {len(values)}")
    root = data_root(data)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    mean, std = torch.tensor(header["mean"]), torch.tensor(header["std"])
    images = layout.submission.images(root, split)
    for path in progress(images, len(images), f"predicting {split}", "images"):
        image = read_image(path)
        logits = network(normalize(image, mean, std)[None].to(device)).logits
        labels = resize_logits(logits, (image.shape[1], image.shape[2])).argmax(1)[0].cpu().numpy()
        prediction = Image.fromarray(values[labels])
        write_atomically(out / layout.submission.file_name(path), prediction.save)
    return len(images)

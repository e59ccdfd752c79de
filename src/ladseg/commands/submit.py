"""Write predictions in the format of a data set's evaluation server."""

from pathlib import Path

from PIL import Image

from ladseg.commands.evaluate import data_for
from ladseg.data import data_root, get_layout
from ladseg.deploy.predictor import load
from ladseg.errors import DataError
from ladseg.files import write_atomically
from ladseg.progress import progress


def submit(weights: str, overrides: list[str], out: Path, split: str = "test", model: str | None = None) -> int:
    """Write one PNG for each image, with the ids and file names that the server expects.

    Args:
        weights: The ``student.safetensors`` of a run.
        overrides: ``--data.KEY VALUE`` arguments; the other keys are those of the network's training data.
        out: The folder of the predictions.
        split: The split to predict.
        model: The name of the network, if it is not one of ladseg's; see :func:`ladseg.load`.

    Returns:
        The number of predictions.

    Raises:
        UserError: The file or an argument can't be used, or the layout has no server or other classes.
    """
    student = load(weights, model)
    data = data_for(student.header, overrides, weights)
    layout = get_layout(data.layout)
    if layout.submission is None:
        raise DataError(f"layout '{layout.name}' has no server that takes predictions; cityscapes and ade20k have")
    values = layout.submission.values
    if len(values) != len(student.class_names):
        raise DataError(f"{weights} predicts {len(student.class_names)} classes, but {layout.name} has {len(values)}")
    root = data_root(data)
    images = layout.submission.images(root, split)
    for path in progress(images, len(images), f"predicting {split}", "images"):
        prediction = Image.fromarray(values[student.predict(path).numpy()])
        write_atomically(out / layout.submission.file_name(path), prediction.save)
    return len(images)

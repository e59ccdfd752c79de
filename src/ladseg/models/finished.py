"""Finished networks of other libraries: whole files, nothing left at random."""

from pathlib import Path
from typing import Any

from ladseg.errors import ModelError, first_words
from ladseg.models.adapt import adapt, resolve
from ladseg.models.segmenter import Segmenter
from ladseg.models.weights import read_checkpoint, refuse_misfit, under_own_names
from ladseg.models.zoo import build_model


def load_finished(
    model: str, num_classes: int, weights: str, output_stride: int | None = None, args: dict[str, Any] | None = None
) -> Segmenter:
    """Build a network whose every tensor comes from a file, training-only heads apart.

    Args:
        model: As for :func:`ladseg.build_model`, as the other arguments.
        num_classes: Number of classes of the file's classifier.
        weights: The file.
        output_stride: As there.
        args: As there.

    Returns:
        The network in eval mode.

    Raises:
        ModelError: The network can't be built, or the file lacks a tensor or has one of another shape.
    """
    if ":" in model and hasattr(resolve(model), "config_class"):
        return _of_transformers(model, num_classes, Path(weights), args or {})
    network = build_model(
        model, num_classes, weights=weights, output_stride=output_stride, args=args, merged=True
    ).eval()
    checkpoint = read_checkpoint(weights)
    if ":" not in model:
        checkpoint = checkpoint.renamed(network.own_names)
    own = network.core.state_dict()
    needed = {
        key: value.shape
        for key, value in own.items()
        if not key.endswith("num_batches_tracked") and not network.is_training_only(key)
    }
    refuse_misfit(under_own_names(checkpoint, own), needed, f"a finished '{model}' of {num_classes} classes")
    return network


def _of_transformers(model: str, num_classes: int, weights: Path, args: dict[str, Any]) -> Segmenter:
    """Let transformers read the folder of a file itself: names in its files are not those of its modules."""
    make: Any = resolve(model)
    if not (weights.parent / "config.json").is_file():
        raise ModelError(f"{weights}: no config.json beside it; give the folder that save_pretrained wrote")
    try:
        module, told = make.from_pretrained(weights.parent, local_files_only=True, output_loading_info=True, **args)
    except Exception as error:  # of transformers, which has its own kinds
        raise ModelError(f"{weights}: can't be loaded as '{model}' ({first_words(error)})") from error
    missing = sorted(told["missing_keys"])
    if missing:
        raise ModelError(f"{weights}: {len(missing)} tensors of a finished '{model}' are missing, such as {missing[0]}")
    network = adapt(module, num_classes=num_classes)
    network.origin = {"name": model, "args": args or None}
    return network.eval()

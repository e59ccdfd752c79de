"""The arguments that every named network takes: dropout and align_corners."""

from typing import Any

from torch import nn

from ladseg.errors import ModelError
from ladseg.models.segmenter import Segmenter

DROPOUTS = (nn.Dropout, nn.Dropout2d)


def apply_args(network: Segmenter, name: str, args: dict[str, Any]) -> None:
    """Change a network that has just been built as its arguments say; in place.

    Args:
        network: One of ladseg's own.
        name: Its name, for messages.
        args: ``dropout``, the share dropped wherever a head drops, 0 to below 1; ``align_corners``, see
            :meth:`Segmenter.upsample_with`.

    Raises:
        ModelError: An unknown argument, a value that it can't have, or dropout of a network that has none.
    """
    for key, value in args.items():
        if key == "dropout":
            _set_dropout(network, name, value)
        elif key == "align_corners":
            if not isinstance(value, bool):
                raise ModelError(f"'{name}': align_corners is {value!r}; expected true or false")
            network.upsample_with(value)
        else:
            raise ModelError(f"'{name}' has no argument '{key}'; named networks have dropout and align_corners")


def _set_dropout(network: Segmenter, name: str, share: Any) -> None:
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
        raise ModelError(f"'{name}': dropout is {share!r}; expected a number from 0 to below 1")
    # The backbone's own, which timm's names have arguments for, stays.
    heads = [child for child_name, child in network.named_children() if child_name != "backbone"]
    layers = [layer for head in heads for layer in head.modules() if isinstance(layer, DROPOUTS) and layer.p > 0]
    if not layers:
        raise ModelError(f"'{name}' has no dropout; leave dropout out of its args")
    for layer in layers:
        layer.p = float(share)

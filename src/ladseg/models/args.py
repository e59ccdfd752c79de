"""The arguments that every named network takes: dropout and align_corners."""

from typing import Any

from torch import nn

from ladseg.errors import ModelError
from ladseg.models.segmenter import Segmenter

DROPOUTS = (nn.Dropout, nn.Dropout2d)


def apply_args(network: Segmenter, name: str, args: dict[str, Any]) -> None:
    """Apply the arguments to a newly built network, in place.

    Args:
        network: One of ladseg's own networks.
        name: Its name, for messages.
        args: ``dropout``, the dropout probability of all heads that have dropout, 0 to below 1, and ``align_corners``;
            see :meth:`Segmenter.upsample_with`.

    Raises:
        ModelError: An argument is unknown or out of range, or the network has no dropout to set.
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
    # The backbone keeps its own dropout.
    heads = [child for child_name, child in network.named_children() if child_name != "backbone"]
    layers = [layer for head in heads for layer in head.modules() if isinstance(layer, DROPOUTS) and layer.p > 0]
    if not layers:
        raise ModelError(f"'{name}' has no dropout; leave dropout out of its args")
    for layer in layers:
        layer.p = float(share)

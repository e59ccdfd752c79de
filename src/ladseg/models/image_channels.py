"""Networks for images of other than three channels."""

from collections import defaultdict

import torch
from torch import Tensor, nn

from ladseg.errors import ModelError
from ladseg.models.input_layer import EntryLayer, dense_weight, find_entries
from ladseg.models.input_probe import RGB, in_channels, trial_side
from ladseg.models.segmenter import Segmenter


def take_channels(network: Segmenter, channels: int) -> Segmenter:
    """Let a network that takes RGB take images of another number of channels, in place.

    The layers that see the image keep their weights as timm's ``in_chans`` does: for one channel they are summed, for
    others repeated (red, green, blue, red ...) and scaled by 3 / channels, so that values stay about as large.

    Args:
        network: As built, for RGB.
        channels: Channels of the images.

    Returns:
        The same network.

    Raises:
        ModelError: The image reaches something whose channels can't be changed.
    """
    if channels == RGB:
        return network
    side = trial_side(network)
    if in_channels(network) != RGB or side is None:
        raise ModelError(
            f"'{network.name}' can't take images of {channels} channels: it takes no RGB image to begin with"
        )
    try:
        entries = find_entries(network, side)
    except ModelError as error:
        raise ModelError(f"'{network.name}' can't take images of {channels} channels: {error}") from None
    for entry in entries:
        _refit(entry, channels)
    try:
        network.trial_output()
    except Exception as error:  # anyone's code
        raise ModelError(f"'{network.name}' fails on images of {channels} channels ({error})") from error
    return network


def _refit(entry: EntryLayer, channels: int) -> None:
    layer = entry.layer
    old = dense_weight(layer)
    order = [channel for channel in entry.channels if channel < RGB]
    weight = _repeated(old, order, channels)
    layer.weight = nn.Parameter(weight)
    if isinstance(layer, nn.Conv2d):
        layer.in_channels, layer.groups = weight.shape[1], 1
    else:
        layer.in_features = weight.shape[1]
    layer.added_channels = channels - RGB  # type: ignore[assignment]


def _repeated(weight: Tensor, order: list[int], channels: int) -> Tensor:
    """Make weights ``(O, I, ...)`` for RGB ones for other channels.

    Args:
        weight: Its inputs are RGB, once or, where the image is rearranged first, once for each pixel of a block.
        order: The channel of each input.
        channels: Of the images.
    """
    places: dict[int, list[int]] = defaultdict(list)
    for place, channel in enumerate(order):
        places[channel].append(place)
    blocks = len(places[0])
    # Where the channels of one pixel lie beside each other they stay so; else the pixels of one channel do.
    by_pixel = order[:RGB] == list(range(RGB))
    if channels == 1:
        return torch.stack([weight[:, [places[c][block] for c in range(RGB)]].sum(1) for block in range(blocks)], dim=1)
    inputs = (
        [(channel, block) for block in range(blocks) for channel in range(channels)]
        if by_pixel
        else [(channel, block) for channel in range(channels) for block in range(blocks)]
    )
    chosen = torch.tensor([places[channel % RGB][block] for channel, block in inputs], device=weight.device)
    return (weight.index_select(1, chosen) * (RGB / channels)).contiguous()

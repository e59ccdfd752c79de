"""The exponential moving average of a network's weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class AveragedWeights:
    """The average of a network's parameters and buffers over the training steps.

    After step t = 1, 2, ... every floating-point average changes by ``(1 - d) * (value - average)`` with
    ``d = min(decay, 1 - t ** (-2 / 3))``, so that the initial weights do not dominate a short training. Integers, such
    as a count of batches, are copied.

    Args:
        network: The network whose weights are averaged.
        decay: The largest d.

    Attributes:
        values: The average, by the names of the network's ``state_dict``.

    Source:
        The warm-up of the decay is that of timm's ModelEmaV3.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = network
        self.decay = decay
        self.values = {name: value.clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Add the weights after ``step`` steps, counted from 1."""
        now = self.network.state_dict()
        floating = [name for name, value in now.items() if value.is_floating_point()]
        decay = min(self.decay, 1 - step ** (-2 / 3))
        torch._foreach_lerp_([self.values[name] for name in floating], [now[name] for name in floating], 1 - decay)
        for name in now.keys() - set(floating):
            self.values[name].copy_(now[name])

    def load(self, values: dict[str, Tensor]) -> None:
        """Continue from the ``values`` of an earlier average."""
        for name, value in values.items():
            self.values[name].copy_(value)

    @contextmanager
    def in_network(self) -> Iterator[None]:
        """Within the context, give the network the averaged weights."""
        own = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.network.load_state_dict(self.values)
        try:
            yield
        finally:
            self.network.load_state_dict(own)


def delivered_state(network: nn.Module, average: AveragedWeights | None) -> dict[str, Tensor]:
    """Return the weights to evaluate and deliver: the average if there is one, else the network's."""
    return network.state_dict() if average is None else average.values

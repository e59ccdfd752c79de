"""Time a network on this machine, in prediction and in training."""

import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from ladseg.measure.timing import in_turns
from ladseg.models import Segmenter, build_model
from ladseg.objectives import Plain
from ladseg.training import depthwise_in_float32, resolve_precision

# Number of timed runs, after one to warm up, and the seconds after which fewer runs suffice.
RUNS = 20
PATIENCE = 5.0


def time_model(
    name: str, num_classes: int, size: tuple[int, int], batch_size: int = 2, args: dict[str, Any] | None = None
) -> tuple[float, float]:
    """Return the median seconds of predicting one image, and of a training step per image.

    A step is a forward pass, the loss and a backward pass, in channels_last and the precision that ``auto`` means here.

    Args:
        name: As for :func:`ladseg.build_model`.
        num_classes: Number of classes.
        size: Height and width of the images.
        batch_size: Number of images of the training step.
        args: Arguments of the network.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    objective = Plain(build_model(name, num_classes, args=args)).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    image = torch.randn(batch_size, 3, *size, device=device).contiguous(memory_format=torch.channels_last)
    batch = {"image": image, "label": torch.randint(num_classes, (batch_size, *size), device=device)}

    def autocast() -> AbstractContextManager:
        return torch.autocast(device.type, torch.bfloat16, enabled=resolve_precision("auto", device) == "bf16")

    def predict() -> None:
        with torch.inference_mode(), depthwise_in_float32(objective), autocast():
            objective.network(image[:1])

    def train() -> None:
        with depthwise_in_float32(objective), autocast():
            loss = objective(batch)["loss"]
        loss.backward()
        objective.zero_grad()

    step = _median_seconds(train, device) / batch_size
    objective.eval()
    return _median_seconds(predict, device), step


@torch.inference_mode()
def prediction_seconds(network: Segmenter, size: tuple[int, int], device: torch.device) -> float:
    """Return the median seconds from one normalised image ``(1, C, *size)`` to logits, in float32, channels last."""
    network.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    image = torch.zeros(1, network.in_channels, *size, device=device).contiguous(memory_format=torch.channels_last)
    return _median_seconds(lambda: network(image), device)


def _median_seconds(work: Callable[[], object], device: torch.device) -> float:
    return statistics.median(in_turns({"": work}, device, RUNS, PATIENCE, fewest=1)[""])

"""Average pooling to a number of bins, by operations that ONNX supports for images of any size."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


def average_bins(x: Tensor, output_size: int | tuple[int | None, int | None] | list[int | None]) -> Tensor:
    """Compute ``F.adaptive_avg_pool2d`` by multiplication with an averaging matrix on each side.

    Args:
        x: ``(..., H, W)``, floating point.
        output_size: Bins in height and width; None keeps that side.

    Returns:
        ``(..., bins, bins)``.
    """
    rows, columns = (output_size, output_size) if isinstance(output_size, int) else output_size
    if rows == columns == 1:
        return x.mean(dim=(-2, -1), keepdim=True)
    if rows is not None:
        x = averaging_matrix(x.shape[-2], rows, x) @ x
    if columns is not None:
        x = x @ averaging_matrix(x.shape[-1], columns, x).transpose(0, 1)
    return x


def averaging_matrix(side: int, bins: int, like: Tensor) -> Tensor:
    """Return ``(bins, side)``, whose row i averages positions floor(i side / bins) to ceil((i + 1) side / bins) - 1."""
    index = torch.arange(bins, device=like.device).unsqueeze(1)
    start, end = index * side // bins, ((index + 1) * side + bins - 1) // bins
    position = torch.arange(side, device=like.device)
    inside = (position >= start) & (position < end)
    return inside.to(like.dtype) / (end - start).to(like.dtype)


class AverageBins(TorchFunctionMode):
    """A context in which every call of ``F.adaptive_avg_pool2d`` runs :func:`average_bins`.

    ONNX supports pooling windows of a single size only, but bins differ in size if their number does not divide a side.
    """

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        stand_in = average_bins if function is F.adaptive_avg_pool2d else function
        return stand_in(*args, **(kwargs or {}))

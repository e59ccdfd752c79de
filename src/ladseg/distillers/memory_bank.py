"""Memories of a teacher's vectors, class by class."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ClassMemory(nn.Module):
    """The latest vectors of each class; of length one, random until there are enough.

    They are buffers, so they are checkpointed, and kept in half precision: 20,000 vectors of 512 values take 390 MB for
    19 classes.

    Args:
        classes: Number of classes.
        size: Vectors of a class.
        width: Values of a vector.
    """

    vectors: Tensor
    cursor: Tensor

    def __init__(self, classes: int, size: int, width: int) -> None:
        super().__init__()
        start = F.normalize(torch.randn(classes, size, width), dim=2)
        self.register_buffer("vectors", start.half())
        self.register_buffer("cursor", torch.zeros(classes, dtype=torch.int64))

    @torch.no_grad()
    def push(self, vectors: Tensor, classes: Tensor) -> None:
        """Put vectors ``(V, C)`` in, each over the oldest of its class ``(V,)``; of too many the last stay."""
        classes, order = classes.sort(stable=True)
        counts = torch.bincount(classes, minlength=len(self.cursor))
        place = torch.arange(len(classes), device=classes.device) - (counts.cumsum(0) - counts)[classes]
        size = self.vectors.shape[1]
        kept = place >= counts[classes] - size
        slot = (self.cursor[classes] + place) % size
        self.vectors[classes[kept], slot[kept]] = vectors[order][kept].to(self.vectors.dtype)
        self.cursor += counts

    def sample(self, count: int) -> Tensor:
        """``(classes * count, C)`` float32: the same random slots of every class."""
        slots = torch.randperm(self.vectors.shape[1], device=self.vectors.device)[:count]
        return self.vectors[:, slots].flatten(0, 1).float()

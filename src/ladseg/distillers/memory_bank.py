"""A memory bank of a teacher's feature vectors, with a queue for each class."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ladseg.distillers.gather import from_first_process


class MemoryBank(nn.Module):
    """A first-in, first-out queue of unit vectors for each class, filled with random vectors at the start.

    The queues are buffers, so checkpoints hold them. They are in half precision: for 19 classes, 20,000 vectors of
    512 values take 390 MB.

    Args:
        classes: Number of classes.
        size: Number of vectors in each queue.
        width: Number of values in a vector.
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
        """Replace the oldest vector of its class by each vector; if there are more than fit, the last ones stay.

        Args:
            vectors: ``(V, C)``.
            classes: ``(V,)`` int64.
        """
        classes, order = classes.sort(stable=True)
        counts = torch.bincount(classes, minlength=len(self.cursor))
        place = torch.arange(len(classes), device=classes.device) - (counts.cumsum(0) - counts)[classes]
        size = self.vectors.shape[1]
        kept = place >= counts[classes] - size
        slot = (self.cursor[classes] + place) % size
        self.vectors[classes[kept], slot[kept]] = vectors[order][kept].to(self.vectors.dtype)
        self.cursor += counts

    def sample(self, count: int) -> Tensor:
        """Return ``(classes * count, C)`` float32 vectors: the same random slots of every queue, in every process."""
        slots = from_first_process(torch.randperm(self.vectors.shape[1], device=self.vectors.device)[:count])
        return self.vectors[:, slots].flatten(0, 1).float()

"""Where an image's label noise comes from during training: the seed that its batch carries."""

from torch import Generator, Tensor

from ladseg.seeds import generator_for


def noise_generators(batch: dict[str, Tensor], path: int) -> list[Generator]:
    """One generator an image, a function of its seed and the path alone: batching and processes don't matter."""
    device = batch["label"].device
    return [generator_for(seed, "label noise", path, device=device) for seed in batch["seed"].tolist()]

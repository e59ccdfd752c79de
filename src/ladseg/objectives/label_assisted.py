"""The label-assisted network: any segmentation network that sees the noised label as a fourth channel.

Source: paper section 3.2.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from ladseg.label_noise import Generators, LabelNoise
from ladseg.models import Segmenter, widen_input
from ladseg.outputs import SegmentationOutput
from ladseg.seeds import generator_for


class LabelAssisted(nn.Module):
    """A teacher of four input channels: image and noised label.

    Args:
        network: Any segmentation network of three channels; it is widened in place, its RGB weights kept.
        num_classes: Number of classes C; labels hold 0..C-1, and 255 for pixels that don't count.
        alpha: Strength of the pixel noise; this and the next three as in :class:`ladseg.LabelNoise`.
        scale: Factor on the noised label.
        class_weights: ``"random"``, ``"fixed"`` or ``"none"``.
        ignore: ``"class"`` or ``"zero"``.
        slice_std: Standard deviation of the new input weights, or ``"match"``; see :func:`ladseg.widen_input`.
        input_layer: Path of the layer to widen, several, or ``"stem"``; see :func:`ladseg.widen_input`.
        generator: Source of the new input weights; None is torch's global one.
    """

    def __init__(
        self,
        network: nn.Module,
        num_classes: int,
        alpha: float = 0.01,
        scale: float = 1.0,
        class_weights: Literal["random", "fixed", "none"] = "fixed",
        ignore: Literal["class", "zero"] = "class",
        slice_std: float | Literal["match"] = 0.1,
        input_layer: str | Sequence[str] | None = None,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.network = widen_input(network, 1, slice_std=slice_std, input_layer=input_layer, generator=generator)
        self.noise = LabelNoise(num_classes, alpha, scale=scale, class_weights=class_weights, ignore=ignore)

    def forward(self, image: Tensor, label: Tensor, generator: Generators = None) -> SegmentationOutput:
        """Run one path.

        Args:
            image: ``(N, 3, H, W)``.
            label: ``(N, H, W)`` int64.
            generator: Of the noise, as for :meth:`ladseg.LabelNoise.forward`.
        """
        return SegmentationOutput.of(self.network(self.joined(image, label, generator)))

    def without_label(self, image: Tensor) -> SegmentationOutput:
        """Run the network on images ``(N, 3, H, W)`` with zeros in place of the noised label."""
        return SegmentationOutput.of(self.network(torch.cat([image, torch.zeros_like(image[:, :1])], dim=1)))

    def two_paths(
        self, image: Tensor, label: Tensor, first: Generators = None, second: Generators = None
    ) -> tuple[SegmentationOutput, SegmentationOutput]:
        """Return O1 and O2 of Eq. 6: the same images under two independent noise draws, as one batch of 2N.

        Batch norm in training mode sees both paths at once. Compared with two passes over one set of weights, the
        mean and variance are taken over twice as many samples, so they fluctuate a little less; both paths are
        normalised by the same numbers, so no part of O1 - O2 stems from batch statistics, which is what the
        consistency loss is to act on; and the running statistics move once a step, not twice. The images are equal
        in both halves, so the extra samples are far from independent. docs/results.md has the measured difference.
        """
        both = torch.cat([self.joined(image, label, first), self.joined(image, label, second)])
        one, two = SegmentationOutput.of(self.network(both)).split([len(image), len(image)])
        return one, two

    def joined(self, image: Tensor, label: Tensor, generator: Generators = None) -> Tensor:
        """Return the network's input ``(N, 4, H, W)`` of one path."""
        return torch.cat([image, self.noise(label, generator).to(image.dtype)], dim=1)


Network = Segmenter | LabelAssisted


def run_network(network: nn.Module, image: Tensor) -> SegmentationOutput:
    """Run a network on an image that others read too.

    A :class:`ladseg.Segmenter` leaves its input alone; any other may change it in place, so it gets a copy.
    """
    return SegmentationOutput.of(network(image if isinstance(network, Segmenter) else image.clone()))


def segmenter(network: Network) -> Segmenter:
    """Return the segmentation network inside a label-assisted one, or the network itself."""
    inner = network.network if isinstance(network, LabelAssisted) else network
    assert isinstance(inner, Segmenter)
    return inner


def noise_generators(batch: dict[str, Tensor], path: int) -> list[Generator]:
    """Return one generator for each image, which its seed and the path determine, on the device of the labels.

    An image's noise then depends neither on its batch nor on the number of processes.
    """
    device = batch["label"].device
    return [generator_for(seed, "label noise", path, device=device) for seed in batch["seed"].tolist()]

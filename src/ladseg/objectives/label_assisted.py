"""The label-assisted network, a segmentation network that sees the noised label as a fourth channel.

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
    """A teacher with four input channels: the image and the noised label.

    Args:
        network: Any segmentation network for RGB images; it is widened in place and keeps its RGB weights.
        num_classes: Number of classes C; labels hold 0..C-1, and 255 for ignored pixels.
        alpha: Strength of the pixel noise; see :class:`ladseg.LabelNoise` for this and the next three.
        scale: Factor on the noised label.
        class_weights: ``"random"``, ``"fixed"`` or ``"none"``.
        ignore: ``"class"`` or ``"zero"``.
        slice_std: Standard deviation of the new input weights, or ``"match"``; see :func:`ladseg.widen_input`.
        input_layer: Path of the layer to widen, several paths, or ``"stem"``; see :func:`ladseg.widen_input`.
        generator: Source of the new input weights; None means torch's global one.
        placebo: For a control, what replaces the image's own label in the channel: ``"shuffled"``, the label of the
            image before it in the batch, or ``"noise"``, see :meth:`ladseg.LabelNoise.of_no_label`.
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
        placebo: Literal["shuffled", "noise"] | None = None,
    ) -> None:
        super().__init__()
        self.placebo = placebo
        self.network = widen_input(network, 1, slice_std=slice_std, input_layer=input_layer, generator=generator)
        self.noise = LabelNoise(num_classes, alpha, scale=scale, class_weights=class_weights, ignore=ignore)

    def forward(self, image: Tensor, label: Tensor, generator: Generators = None) -> SegmentationOutput:
        """Run the network under one noise draw.

        Args:
            image: ``(N, 3, H, W)``.
            label: ``(N, H, W)`` int64.
            generator: Source of the noise, as for :meth:`ladseg.LabelNoise.forward`.
        """
        return SegmentationOutput.of(self.network(self.joined(image, label, generator)))

    def without_label(self, image: Tensor) -> SegmentationOutput:
        """Run the network on images ``(N, 3, H, W)`` with zeros in place of the noised label."""
        return SegmentationOutput.of(self.network(torch.cat([image, torch.zeros_like(image[:, :1])], dim=1)))

    def two_paths(
        self, image: Tensor, label: Tensor, first: Generators = None, second: Generators = None
    ) -> tuple[SegmentationOutput, SegmentationOutput]:
        """Return O1 and O2 of Eq. 6, the outputs under two independent noise draws, computed as one batch of 2N.

        In training mode, batch norm sees both paths at once. Unlike in two passes, its mean and variance are taken
        over twice as many samples and fluctuate a little less, although the halves show the same images. Both paths
        are normalised equally, so that O1 - O2, on which the consistency loss acts, has no part that stems from batch
        statistics. The running statistics are updated once per step, not twice. docs/results.md has the measured
        difference.
        """
        both = torch.cat([self.joined(image, label, first), self.joined(image, label, second)])
        one, two = SegmentationOutput.of(self.network(both)).split([len(image), len(image)])
        return one, two

    def joined(self, image: Tensor, label: Tensor, generator: Generators = None) -> Tensor:
        """Return the network's input ``(N, 4, H, W)`` under one noise draw."""
        return torch.cat([image, self.channel(label, generator).to(image.dtype)], dim=1)

    def channel(self, label: Tensor, generator: Generators = None) -> Tensor:
        """Return what the network sees beside the image, ``(N, 1, H, W)``: the noised label, or its placebo."""
        if self.placebo == "noise":
            return self.noise.of_no_label(label, generator)
        shown = label.roll(1, 0) if self.placebo == "shuffled" else label
        noised: Tensor = self.noise(shown, generator)
        return noised


Network = Segmenter | LabelAssisted


def run_network(network: nn.Module, image: Tensor) -> SegmentationOutput:
    """Run a network on an image that others read too.

    A :class:`ladseg.Segmenter` does not change its input; any other network might, so it gets a copy.
    """
    return SegmentationOutput.of(network(image if isinstance(network, Segmenter) else image.clone()))


def segmenter(network: Network) -> Segmenter:
    """Return the segmentation network inside a label-assisted one, or else the network itself."""
    inner = network.network if isinstance(network, LabelAssisted) else network
    assert isinstance(inner, Segmenter)
    return inner


def noise_generators(batch: dict[str, Tensor], path: int) -> list[Generator]:
    """Return one generator per image, seeded by the image's seed and the path, on the labels' device.

    An image's noise thus depends neither on its batch nor on the number of processes.
    """
    device = batch["label"].device
    return [generator_for(seed, "label noise", path, device=device) for seed in batch["seed"].tolist()]

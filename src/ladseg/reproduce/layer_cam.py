"""Attribute the prediction of a class to image and label, by LayerCAM at the input layers and integrated gradients.

The input layers are linear, so their output A is the sum of the image's part (A_image), the label's part (A_label) and
the bias. LayerCAM (Jiang et al., TIP 2021, Eq. 5 and 6) of the class's score y is
``relu(sum_k relu(dy / dA_k) * A_k)``; here A is replaced by the part of one input.

LayerCAM drops contributions that lower the score. Integrated gradients (Sundararajan et al., ICML 2017, Eq. 1) keep
them: along the way from the mean colour and a label channel of zeros to the input, the contributions of all inputs sum
to the difference of the scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ladseg.label_noise import Generators
from ladseg.models.label_stem import LabelStem
from ladseg.objectives import LabelAssisted
from ladseg.outputs import SegmentationOutput
from ladseg.resize import resize_logits

# Number of points at which the integral is evaluated.
STEPS = 32


@dataclass(frozen=True)
class Contribution:
    """The contributions of image and label to a class in one image.

    Attributes:
        image: LayerCAM map ``(h, w)`` of the image's part, at the layer's resolution.
        label: LayerCAM map of the label's part.
        integrated_image: Integrated gradients of the image, summed over channels and pixels.
        integrated_label: Integrated gradients of the label's channel, summed over pixels.
    """

    image: Tensor
    label: Tensor
    integrated_image: float
    integrated_label: float

    @property
    def share_of_label(self) -> float:
        """The label's share of the sum of both maps; NaN if both are zero everywhere."""
        return _share(float(self.label.sum()), float(self.image.sum()))

    @property
    def integrated_share_of_label(self) -> float:
        """The label's share of the absolute integrated gradients."""
        return _share(abs(self.integrated_label), abs(self.integrated_image))


def contribution(
    teacher: LabelAssisted, image: Tensor, label: Tensor, class_id: int, generator: Generators = None
) -> Contribution:
    """Compute the contributions of image and label to a class, over the pixels with this label.

    Args:
        teacher: A label-assisted network in eval mode.
        image: One normalised image ``(1, 3, H, W)``.
        label: Its label ``(1, H, W)`` int64.
        class_id: The class, whose score is the mean of its logit over the pixels with this label.
        generator: Source of the label's noise.

    Raises:
        ValueError: The label does not have the class.
    """
    pixels = label == class_id
    if not pixels.any():
        raise ValueError(f"the label has no pixel of class {class_id}")
    joined = teacher.joined(image, label, generator)
    of_image, nothing = joined.clone(), torch.zeros_like(joined)
    of_image[:, 3:] = 0
    layers = entrances(teacher)
    with torch.no_grad():
        bias, _ = _outputs(layers, teacher.network, nothing)
        without_label, _ = _outputs(layers, teacher.network, of_image)
    with torch.enable_grad():
        both, output = _outputs(layers, teacher.network, joined.detach().requires_grad_())
        gradients = torch.autograd.grad(_score(output, class_id, pixels), both)
    parts = [
        (layer_cam(gradient, image_only - zero), layer_cam(gradient, joint.detach() - image_only))
        for gradient, joint, image_only, zero in zip(gradients, both, without_label, bias, strict=True)
    ]
    of_image_map, of_label_map = (_sum(maps) for maps in zip(*parts, strict=True))
    integrated = integrated_gradients(teacher.network, joined, class_id, pixels)
    return Contribution(of_image_map, of_label_map, float(integrated[:, :3].sum()), float(integrated[:, 3:].sum()))


def layer_cam(gradient: Tensor, activation: Tensor) -> Tensor:
    """Return the map ``(h, w)`` of one image's gradient and activation ``(1, K, h, w)``."""
    return (gradient.relu() * activation).sum(1).relu()[0]


def integrated_gradients(
    network: nn.Module, joined: Tensor, class_id: int, pixels: Tensor, steps: int = STEPS
) -> Tensor:
    """Return each input value's contribution to the class's score relative to zeros, by the midpoint rule.

    Args:
        network: A network that takes the image with the label's channel.
        joined: The input ``(1, 4, H, W)``.
        class_id: The class.
        pixels: ``(1, H, W)``, the pixels over which the score is averaged.
        steps: Number of points on the way from zeros to the input.

    Returns:
        The contributions, in the shape of ``joined``; up to the rule's error they sum to the score of ``joined`` minus
        that of zeros.
    """
    total = torch.zeros_like(joined)
    for step in range(steps):
        with torch.enable_grad():
            point = ((step + 0.5) / steps * joined).detach().requires_grad_()
            score = _score(SegmentationOutput.of(network(point)), class_id, pixels)
            total += torch.autograd.grad(score, point)[0]
    return total / steps * joined


def _score(output: SegmentationOutput, class_id: int, pixels: Tensor) -> Tensor:
    """Return the mean of a class's logit over pixels."""
    _, height, width = pixels.shape
    return resize_logits(output.logits, (height, width), output.align_corners)[:, class_id][pixels].mean()


def _share(part: float, rest: float) -> float:
    return part / (part + rest) if part + rest else float("nan")


def entrances(network: nn.Module) -> list[nn.Module]:
    """Return the layers that the label enters: the widened ones, or the one to which a label stem is added."""
    owners = {id(child): module for module in network.modules() for child in module.children()}
    widened = [module for module in network.modules() if getattr(module, "added_channels", 0)]
    return [owners[id(module)] if isinstance(module, LabelStem) else module for module in widened]


def _outputs(layers: Sequence[nn.Module], network: nn.Module, image: Tensor) -> tuple[list[Tensor], SegmentationOutput]:
    """Return the outputs of the layers and of the network in a forward pass."""
    found: dict[nn.Module, Tensor] = {}
    hooks = [layer.register_forward_hook(lambda module, _, output: found.update({module: output})) for layer in layers]
    try:
        output = SegmentationOutput.of(network(image))
    finally:
        for hook in hooks:
            hook.remove()
    return [found[layer] for layer in layers], output


def _sum(maps: Sequence[Tensor]) -> Tensor:
    """Return the sum of maps, smaller ones enlarged to the first one's size."""
    size = maps[0].shape
    resized = [F.interpolate(each[None, None], size, mode="bilinear")[0, 0] for each in maps]
    return torch.stack(resized).sum(0)

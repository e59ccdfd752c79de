"""Joint augmentation of an image and its label, drawn from one generator."""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as V

from ladseg.data.spec import IGNORE

SCALE = (0.5, 2.0)
JITTER = 0.25


def augment(
    image: Tensor,
    label: Tensor,
    crop: tuple[int, int],
    mean: Tensor,
    std: Tensor,
    generator: Generator,
) -> tuple[Tensor, Tensor]:
    """Random scale 0.5 to 2, random crop, flip, colour jitter, normalisation.

    The window that the crop will show is cut from the source first and only that is resized: the same as resizing
    everything and cropping, up to the alignment of the window to whole source pixels.

    Args:
        image: ``(3, H, W)`` uint8.
        label: ``(H, W)`` uint8.
        crop: Height and width of the result.
        mean: ``(3,)`` of images in 0..1.
        std: ``(3,)`` of images in 0..1.
        generator: Source of every draw.

    Returns:
        ``(3, h, w)`` float32, 0 (the mean) where the crop exceeds the image; ``(h, w)`` uint8, 255 there.
    """
    window, size = _window(image.shape[-2:], crop, generator)
    image = V.resized_crop(image, *window, list(size), InterpolationMode.BILINEAR, antialias=True)
    label = V.resized_crop(label[None], *window, list(size), InterpolationMode.NEAREST_EXACT)[0]
    if _uniform(generator) < 0.5:
        image, label = image.flip(-1), label.flip(-1)
    image = normalize(_jitter(image, generator), mean, std)
    below, right = crop[0] - size[0], crop[1] - size[1]
    return F.pad(image, (0, right, 0, below)), F.pad(label, (0, right, 0, below), value=IGNORE)


def normalize(image: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """``(3, H, W)`` uint8 to float32 with the mean subtracted and divided by the standard deviation."""
    scale = 1.0 / (255.0 * std)
    return image.to(torch.float32).mul_(scale.view(3, 1, 1)).sub_((mean / std).view(3, 1, 1))


def _window(
    source: torch.Size, crop: tuple[int, int], generator: Generator
) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
    """Top, left, height and width of the source pixels that the crop shows, and their size after scaling."""
    scale = SCALE[0] + (SCALE[1] - SCALE[0]) * _uniform(generator)
    starts, lengths, sizes = [], [], []
    for have, want in zip(source, crop, strict=True):
        length = min(have, max(1, round(want / scale)))
        lengths.append(length)
        starts.append(int(_uniform(generator) * (have - length + 1)))
        # A window as long as the crop asks for fills it; a source that ends before is scaled and padded.
        sizes.append(want if length == round(want / scale) else min(want, max(1, round(length * scale))))
    return (starts[0], starts[1], lengths[0], lengths[1]), (sizes[0], sizes[1])


def _jitter(image: Tensor, generator: Generator) -> Tensor:
    """Brightness, contrast and saturation, each by a factor in 0.75..1.25."""
    for adjust in (V.adjust_brightness, V.adjust_contrast, V.adjust_saturation):
        image = adjust(image, 1.0 + JITTER * (2.0 * _uniform(generator) - 1.0))
    return image


def _uniform(generator: Generator) -> float:
    return float(torch.rand((), generator=generator))

"""mmsegmentation's photometric distortion."""

import torch
from torch import Generator, Tensor
from torchvision.transforms.v2.functional import adjust_hue

BRIGHTNESS, HUE = 32.0, 18.0 / 180.0
CONTRAST = SATURATION = (0.5, 1.5)


def distort(image: Tensor, generator: Generator) -> Tensor:
    """Change brightness, contrast, saturation and hue, each with probability 1/2.

    Brightness adds up to 32 of 255. Contrast multiplies the values by 0.5 to 1.5, before or after the other two.
    Saturation is multiplied by 0.5 to 1.5 and hue shifted by up to 36 degrees, both in HSV. Values are clipped to
    0..255 after each change, but, unlike mmsegmentation's, not rounded.

    Args:
        image: ``(3, H, W)`` float32 of 0..255.
        generator: Source of all random numbers.

    Returns:
        ``(3, H, W)`` float32 of 0..255.

    Source:
        PhotoMetricDistortion of mmsegmentation 0.x.
    """
    if _coin(generator):
        image = (image + _between(-BRIGHTNESS, BRIGHTNESS, generator)).clamp(0, 255)
    contrast_first = _coin(generator)
    if contrast_first:
        image = _contrast(image, generator)
    if _coin(generator):
        image = scale_saturation(image, _between(*SATURATION, generator))
    if _coin(generator):
        image = adjust_hue(image / 255, _between(-HUE, HUE, generator)) * 255
    return image if contrast_first else _contrast(image, generator)


def scale_saturation(image: Tensor, factor: float) -> Tensor:
    """Multiply the HSV saturation by ``factor``, up to saturation 1; value and hue stay.

    Saturation is proportional to the distances of a pixel's channels from its largest one, so it scales with them.
    """
    value = image.amax(0)
    distance = value - image.amin(0)
    most = torch.where(distance > 0, value / distance.clamp(min=torch.finfo(image.dtype).tiny), 1.0)
    return value - (value - image) * most.clamp(max=factor)


def _contrast(image: Tensor, generator: Generator) -> Tensor:
    return (image * _between(*CONTRAST, generator)).clamp(0, 255) if _coin(generator) else image


def _coin(generator: Generator) -> bool:
    return _between(0.0, 1.0, generator) < 0.5


def _between(low: float, high: float, generator: Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))

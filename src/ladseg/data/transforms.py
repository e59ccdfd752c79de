"""Joint augmentation of an image and its label, drawn from one generator."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ladseg.data.spec import IGNORE

SCALE = (0.5, 2.0)
JITTER = 0.25
# Luma of ITU-R BT.601, as Pillow and torchvision have it, to add up to one.
GRAY = torch.tensor([0.299, 0.587, 0.114])


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
    (top, left, height, width), size = _window(image.shape[-2:], crop, generator)
    flip = _uniform(generator) < 0.5
    image = _resize(image[:, top : top + height, left : left + width], size)
    label = _pick(label, _nearest(top, height, size[0]), _nearest(left, width, size[1], flip))
    image = _recolor(image.flip(-1) if flip else image, _factors(generator), mean, std)
    if size == crop:
        return image, label
    margin = (0, crop[1] - size[1], 0, crop[0] - size[0])
    return F.pad(image, margin), F.pad(label, margin, value=IGNORE)


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


def _resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, with antialiasing, of uint8 ``(3, H, W)``; pixel by pixel in memory, which is the fast way to do it."""
    if tuple(image.shape[-2:]) == size:
        return image
    pixels = image[None].contiguous(memory_format=torch.channels_last)
    return F.interpolate(pixels, size, mode="bilinear", antialias=True)[0]


def _nearest(start: int, length: int, size: int, backwards: bool = False) -> np.ndarray:
    """``(size,)`` source positions of a window's rows or columns: those that their centres fall on."""
    places = ((np.arange(size) + 0.5) * (length / size)).astype(np.intp) + start
    return places[::-1] if backwards else places


def _pick(label: Tensor, rows: np.ndarray, columns: np.ndarray) -> Tensor:
    """Rows and columns of a label; numpy's take is much faster than indexing in torch here."""
    return torch.from_numpy(label.numpy().take(rows, 0).take(columns, 1))


def _factors(generator: Generator) -> tuple[float, float, float]:
    """Of brightness, contrast and saturation, each in 0.75..1.25."""
    brightness, contrast, saturation = (1.0 + JITTER * (2.0 * _uniform(generator) - 1.0) for _ in range(3))
    return brightness, contrast, saturation


def _recolor(image: Tensor, factors: tuple[float, float, float], mean: Tensor, std: Tensor) -> Tensor:
    """Brightness, contrast, saturation and normalisation of uint8 ``(3, H, W)``: one matrix, then one clamp.

    With grey g = w.x of a pixel and its mean G over the image: brightness b takes x to bx, contrast c to cbx + (1-c)bG,
    saturation s to s(.) + (1-s)w(.). All three are linear, so their product is applied once, where torchvision makes
    four passes and rounds and cuts off after each.
    """
    brightness, contrast, saturation = factors
    pixels = image.contiguous().to(torch.float32).flatten(1)
    gray = float(GRAY @ pixels.mean(1))
    matrix = contrast * brightness * (saturation * torch.eye(3) + (1.0 - saturation) * GRAY.expand(3, 3))
    offset = (1.0 - contrast) * brightness * gray
    result = torch.addmm(((offset / 255.0 - mean) / std)[:, None], matrix / (255.0 * std)[:, None], pixels)
    for channel, low, high in zip(result, (-mean / std).tolist(), ((1.0 - mean) / std).tolist(), strict=True):
        channel.clamp_(low, high)
    return result.view(image.shape)


def _uniform(generator: Generator) -> float:
    return float(torch.rand((), generator=generator))

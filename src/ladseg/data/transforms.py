"""Joint augmentation of an image and its label, drawn from one generator."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import gaussian_blur, rotate

from ladseg.data.photometric import distort
from ladseg.data.spec import IGNORE
from ladseg.recipe import Augment
from ladseg.resize import fit_factor

# Top, left, height and width, in pixels of the source.
Window = tuple[int, int, int, int]

# Luma weights of ITU-R BT.601, which sum to one, as in Pillow and torchvision.
GRAY = torch.tensor([0.299, 0.587, 0.114])
DEFAULT_AUGMENT = Augment()
# Tries to find a crop in which no class exceeds ``cat_max_ratio``.
CROP_TRIES = 10
# Size of the blur kernel and range of its standard deviation.
BLUR_KERNEL, BLUR_SIGMA = 5, (0.1, 2.0)
# Range of a cut-out rectangle's share of the image area, and of its aspect ratio.
CUTOUT_AREA, CUTOUT_RATIO = (0.02, 0.33), (0.3, 3.3)


def augment(
    image: Tensor,
    label: Tensor,
    crop: tuple[int, int],
    mean: Tensor,
    std: Tensor,
    generator: Generator,
    settings: Augment = DEFAULT_AUGMENT,
) -> tuple[Tensor, Tensor]:
    """Scale, crop, flip, change the colours and normalise; by default scale by 0.5 to 2, flip and jitter the colours.

    The window that the crop will show is cut out of the source before it is resized. The result equals that of
    resizing everything and cropping, except that the window is aligned to whole source pixels.

    Args:
        image: ``(C, H, W)`` uint8.
        label: ``(H, W)`` uint8.
        crop: Height and width of the result in pixels.
        mean: ``(C,)``, of images in 0..1.
        std: ``(C,)``, of images in 0..1.
        generator: Source of all random numbers.
        settings: Which changes to draw; its ``function`` is ignored.

    Returns:
        The image, ``(C, h, w)`` float32, with 0 (the mean) where the crop exceeds the source, and the label,
        ``(h, w)`` uint8, with 255 there.
    """
    window, size = _choose_window(label, crop, generator, settings)
    top, left, height, width = window
    flip = _uniform(generator) < settings.flip
    image = _resize(image[:, top : top + height, left : left + width], size, settings.antialias)
    label = _crop_label(label, window, size, flip)
    if flip:
        image = image.flip(-1)
    if settings.vertical_flip and _uniform(generator) < settings.vertical_flip:
        image, label = image.flip(-2), label.flip(-2)
    if settings.rotate:
        image, label = _rotate(image, label, settings.rotate * (2 * _uniform(generator) - 1), mean)
    if settings.blur and _uniform(generator) < settings.blur:
        image = gaussian_blur(image, [BLUR_KERNEL, BLUR_KERNEL], [_between(*BLUR_SIGMA, generator)])
    if settings.color == "jitter":
        image = _recolor(image, _factors(generator, settings.jitter), mean, std)
    elif settings.color == "photometric":
        image = (distort(image.float(), generator) / 255 - mean[:, None, None]) / std[:, None, None]
    else:
        image = normalize(image, mean, std)
    if settings.cutout and _uniform(generator) < settings.cutout:
        image = _cut_out(image, generator)
    return pad_to(image, label, crop)


def pad_to(image: Tensor, label: Tensor, crop: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Pad a normalised image with 0 and its label with 255, at the bottom and the right."""
    height, width = label.shape
    if (height, width) == crop:
        return image, label
    margin = (0, crop[1] - width, 0, crop[0] - height)
    return F.pad(image, margin), F.pad(label, margin, value=IGNORE)


def normalize(image: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Convert ``(C, H, W)`` uint8 to 0..1 float32, subtract the mean and divide by the standard deviation."""
    scale = 1.0 / (255.0 * std)
    return image.to(torch.float32).mul_(scale.view(-1, 1, 1)).sub_((mean / std).view(-1, 1, 1))


def _choose_window(
    label: Tensor, crop: tuple[int, int], generator: Generator, settings: Augment
) -> tuple[Window, tuple[int, int]]:
    """Draw the window of source pixels that the crop shows, and return it with its size after scaling."""
    source = (label.shape[0], label.shape[1])
    scale = _scale(generator, settings) * fit_factor(source, settings.rescale)
    window, size = _draw_window(source, crop, scale, generator)
    for _ in range(CROP_TRIES if settings.cat_max_ratio is not None else 0):
        if _is_varied(_crop_label(label, window, size), settings.cat_max_ratio or 1.0):
            break
        window, size = _draw_window(source, crop, scale, generator)
    return window, size


def _scale(generator: Generator, settings: Augment) -> float:
    low, high = settings.scale
    drawn = _uniform(generator)
    if settings.scale_step is None:
        return low + (high - low) * drawn
    return low + settings.scale_step * int(drawn * (round((high - low) / settings.scale_step) + 1))


def _is_varied(label: Tensor, max_share: float) -> bool:
    """Return whether two or more classes occur, each with less than ``max_share`` of the labelled pixels."""
    counts = torch.bincount(label.flatten(), minlength=IGNORE + 1)[:IGNORE]
    return int(counts.count_nonzero()) > 1 and bool(counts.max() / counts.sum() < max_share)


def _draw_window(
    source: tuple[int, int], crop: tuple[int, int], scale: float, generator: Generator
) -> tuple[Window, tuple[int, int]]:
    """Draw the window that a crop shows at a scale; scaled, it is as large as the crop, or less in a small image."""
    starts, lengths, sizes = [], [], []
    for have, want in zip(source, crop, strict=True):
        length = min(have, max(1, round(want / scale)))
        lengths.append(length)
        starts.append(int(_uniform(generator) * (have - length + 1)))
        # A source that is too short for the crop is scaled as it is and padded later.
        sizes.append(want if length == round(want / scale) else min(want, max(1, round(length * scale))))
    return (starts[0], starts[1], lengths[0], lengths[1]), (sizes[0], sizes[1])


def _resize(image: Tensor, size: tuple[int, int], antialias: bool) -> Tensor:
    """Resize uint8 ``(C, H, W)`` bilinearly, in channels-last memory, for which torch's kernel is faster."""
    if tuple(image.shape[-2:]) == size:
        return image
    pixels = image[None].contiguous(memory_format=torch.channels_last)
    return F.interpolate(pixels, size, mode="bilinear", antialias=antialias)[0]


def _nearest(start: int, length: int, size: int, backwards: bool = False) -> np.ndarray:
    """Return the source rows (or columns) that hold the centres of ``size`` resized ones, ``(size,)``."""
    positions = ((np.arange(size) + 0.5) * (length / size)).astype(np.intp) + start
    return positions[::-1] if backwards else positions


def _crop_label(label: Tensor, window: Window, size: tuple[int, int], flip: bool = False) -> Tensor:
    """Cut a window out of a label and resize it by nearest neighbour; numpy's take is much faster than torch's."""
    top, left, height, width = window
    rows, columns = _nearest(top, height, size[0]), _nearest(left, width, size[1], flip)
    return torch.from_numpy(label.numpy().take(rows, 0).take(columns, 1))


def _rotate(image: Tensor, label: Tensor, angle: float, mean: Tensor) -> tuple[Tensor, Tensor]:
    fill = (255 * mean).tolist()
    turned = rotate(image, angle, InterpolationMode.BILINEAR, fill=fill)
    return turned, rotate(label[None], angle, InterpolationMode.NEAREST, fill=[float(IGNORE)])[0]


def _cut_out(image: Tensor, generator: Generator) -> Tensor:
    """Set a rectangle of a normalised image to 0, the mean colour."""
    height, width = image.shape[-2:]
    area = height * width * _between(*CUTOUT_AREA, generator)
    ratio = math.exp(_between(math.log(CUTOUT_RATIO[0]), math.log(CUTOUT_RATIO[1]), generator))
    sides = min(height, round(math.sqrt(area * ratio))), min(width, round(math.sqrt(area / ratio)))
    top, left = (
        int(_uniform(generator) * (have - side + 1)) for have, side in zip((height, width), sides, strict=True)
    )
    image = image.clone()
    image[:, top : top + sides[0], left : left + sides[1]] = 0
    return image


def _factors(generator: Generator, jitter: float) -> tuple[float, float, float]:
    """Draw the factors of brightness, contrast and saturation, each in ``1 - jitter .. 1 + jitter``."""
    brightness, contrast, saturation = (1.0 + jitter * (2.0 * _uniform(generator) - 1.0) for _ in range(3))
    return brightness, contrast, saturation


def _recolor(image: Tensor, factors: tuple[float, float, float], mean: Tensor, std: Tensor) -> Tensor:
    """Change brightness, contrast and saturation of uint8 ``(C, H, W)`` and normalise: one matrix, then one clamp.

    Let g = w.x be the grey value of a pixel and G its mean over the image. Brightness b maps x to bx, contrast c maps
    that to cbx + (1-c)bG, and saturation s maps y to sy + (1-s)w.y. All are affine, so they are applied as one map;
    torchvision makes four passes, and rounds and clips after each. Images of other than three channels have no
    saturation, and their grey is the mean of the channels.
    """
    brightness, contrast, saturation = factors
    pixels = image.contiguous().to(torch.float32).flatten(1)
    channels = len(pixels)
    weights = GRAY if channels == 3 else torch.full((channels,), 1 / channels)
    saturation = saturation if channels == 3 else 1.0
    gray = float(weights @ pixels.mean(1))
    matrix = contrast * brightness * (saturation * torch.eye(channels) + (1.0 - saturation) * weights)
    offset = (1.0 - contrast) * brightness * gray
    result = torch.addmm(((offset / 255.0 - mean) / std)[:, None], matrix / (255.0 * std)[:, None], pixels)
    for channel, low, high in zip(result, (-mean / std).tolist(), ((1.0 - mean) / std).tolist(), strict=True):
        channel.clamp_(low, high)
    return result.view(image.shape)


def _uniform(generator: Generator) -> float:
    return float(torch.rand((), generator=generator))


def _between(low: float, high: float, generator: Generator) -> float:
    return low + (high - low) * _uniform(generator)

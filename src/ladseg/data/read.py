"""Decode one image or mask; what can't be used is a DataError that names the file."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ladseg.errors import DataError

# Pillow, not torchvision.io: torchvision deprecated its decoders in 0.29.


def read_image(path: Path) -> Tensor:
    """``(3, H, W)`` uint8 RGB, turned upright by its EXIF orientation.

    Raises:
        DataError: Missing, truncated or not an image.
    """
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
        return torch.from_numpy(np.array(upright)).permute(2, 0, 1)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: can't be read as an image ({_first_words(error)}); replace or remove it") from None


def read_mask(path: Path) -> np.ndarray:
    """``(H, W)`` uint8 of the values in the file. A palette PNG's values are its indices, not its colours.

    Raises:
        DataError: Missing, truncated, RGB or 16-bit.
    """
    try:
        with Image.open(path) as image:
            mode = image.mode
            values = np.array(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: can't be read as a mask ({_first_words(error)}); replace or remove it") from None
    if mode in ("L", "P", "1"):
        return values.astype(np.uint8)
    if mode.startswith(("I", "F")):
        raise DataError(f"{path}: mask has more than 8 bits a pixel (mode {mode}); save class ids as 8-bit PNG")
    raise DataError(
        f"{path}: mask is in colour (mode {mode}); masks hold one class id a pixel, as 8-bit grey or palette PNG"
    )


def _first_words(error: Exception) -> str:
    return " ".join(str(error).split())[:100] or type(error).__name__

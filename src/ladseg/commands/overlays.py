"""Draw a prediction as a mask in the data set's colours, and as an overlay on the image."""

from collections.abc import Sequence

import numpy as np
from PIL import Image
from torch import Tensor

from ladseg.data.bands import pictured
from ladseg.report.picture import color_table

Colors = Sequence[tuple[int, int, int]]


def mask_image(ids: Tensor, colors: Colors) -> Image.Image:
    """Return a palette image of the class ids ``(H, W)`` in their colours."""
    mask = Image.fromarray(ids.to("cpu").numpy().astype(np.uint8))
    mask.putpalette(color_table(colors).tobytes())
    return mask


def overlay(image: Tensor, ids: Tensor, colors: Colors) -> np.ndarray:
    """Blend the image ``(C, H, W)`` uint8 and the classes' colours equally, to ``(H, W, 3)`` uint8."""
    pixels = Image.fromarray(pictured(image))
    return np.array(Image.blend(pixels, mask_image(ids, colors).convert("RGB"), 0.5))

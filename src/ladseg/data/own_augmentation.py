"""The user's own augmentation, with random numbers that are a function of the sample alone."""

import importlib
import os
import random
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor
from torchvision import tv_tensors

from ladseg.data.transforms import normalize, pad_to
from ladseg.errors import RecipeError, first_words

# Takes and returns an image (C, H, W) and a mask (H, W), tv_tensors of uint8.
Transform = Callable[[tv_tensors.Image, tv_tensors.Mask], tuple[Tensor, Tensor]]


@lru_cache(maxsize=4)
def build_transform(name: str, crop: tuple[int, int]) -> Transform:
    """Return the transform that ``package.module:build`` makes for a crop's height and width.

    Raises:
        RecipeError: The function is missing, fails, or returns something that can't be called.
    """
    place, _, function = name.partition(":")
    # Find modules in the working directory, as 'python -m' does.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        transform: Any = getattr(importlib.import_module(place), function)(crop)
    except Exception as error:  # the user's own code
        raise RecipeError(
            f"augment.function '{name}': {first_words(error)}; write package.module:build, a function of the crop's "
            "height and width"
        ) from error
    if not callable(transform):
        raise RecipeError(f"augment.function '{name}' returned a {type(transform).__name__}, which can't be called")
    return transform


def augment_by(
    name: str,
    image: Tensor,
    label: Tensor,
    crop: tuple[int, int],
    mean: Tensor,
    std: Tensor,
    generator: Generator,
) -> tuple[Tensor, Tensor]:
    """Augment by the user's transform, then normalise and pad; arguments and result as for :func:`augment`.

    The global generators of torch, numpy and Python are seeded from ``generator`` for the call and restored after it.

    Raises:
        RecipeError: The transform does not return an image and a mask of uint8 that fit into the crop.
    """
    seed = int(torch.randint(2**31, (), generator=generator))
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        try:
            result = build_transform(name, crop)(tv_tensors.Image(image), tv_tensors.Mask(label))
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
    fault = _fault(result, crop, len(image))
    if fault:
        raise RecipeError(f"augment.function '{name}' {fault}")
    return pad_to(normalize(result[0].as_subclass(Tensor), mean, std), result[1].as_subclass(Tensor), crop)


def _fault(result: Any, crop: tuple[int, int], channels: int) -> str | None:
    if not (isinstance(result, tuple | list) and len(result) == 2 and all(isinstance(x, Tensor) for x in result)):
        return "did not return an image and a mask"
    image, mask = result
    if image.dtype != torch.uint8 or mask.dtype != torch.uint8:
        return f"returned {image.dtype} and {mask.dtype}; leave both uint8: images are normalised afterwards"
    if mask.ndim != 2 or image.shape != (channels, *mask.shape):
        return f"returned sizes {tuple(image.shape)} and {tuple(mask.shape)}; expected ({channels}, H, W) and (H, W)"
    if mask.shape[0] > crop[0] or mask.shape[1] > crop[1]:
        return f"returned {tuple(mask.shape)}, which is larger than schedule.crop {crop}; crop in it"
    return None

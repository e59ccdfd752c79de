"""Compute class weights from the class frequencies in the training split."""

from dataclasses import replace

import torch

from ladseg.data import SegmentationDataset
from ladseg.progress import progress
from ladseg.recipe import Recipe


def with_class_weights(recipe: Recipe, dataset: SegmentationDataset) -> Recipe:
    """Return the recipe with numbers in place of ``loss.class_weights: balanced``.

    Args:
        recipe: The recipe.
        dataset: The training split, whose labels are read.
    """
    if recipe.loss.class_weights != "balanced":
        return recipe
    return replace(recipe, loss=replace(recipe.loss, class_weights=balanced_weights(dataset)))


def balanced_weights(dataset: SegmentationDataset) -> list[float]:
    """Return the weight ``valid pixels / (classes that occur * pixels of the class)`` of each class.

    All classes thus have the same total weight, and the mean weight of a pixel is 1. A class that never occurs has
    weight 0.
    """
    classes = dataset.spec.num_classes
    counts = torch.zeros(256, dtype=torch.int64)
    for index in progress(range(len(dataset)), len(dataset), "counting classes", "labels"):
        counts += torch.bincount(dataset.read(index)[1].flatten(), minlength=256)
    pixels = counts[:classes].double()
    weights = pixels.sum() / (pixels.count_nonzero() * pixels)
    return torch.where(pixels > 0, weights, 0.0).tolist()

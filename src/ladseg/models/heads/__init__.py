"""Segmentation heads, one file each: a feature map in, the map before the classifier and the logits out."""

from .base import Head as Head
from .deeplabv3 import DeepLabV3Head as DeepLabV3Head
from .fcn import AuxHead as AuxHead
from .fcn import FCNHead as FCNHead
from .pspnet import PSPNetHead as PSPNetHead

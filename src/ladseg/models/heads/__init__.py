"""Segmentation heads, one file each, which map a feature map to the map before the classifier and the logits."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .base import Head as Head
    from .deeplabv3 import ASPPHead as ASPPHead
    from .deeplabv3 import DeepLabV3Head as DeepLabV3Head
    from .fcn import AuxHead as AuxHead
    from .fcn import FCNHead as FCNHead
    from .pspnet import PSPNetHead as PSPNetHead
else:
    from ladseg.contents import on_first_use

    __getattr__, __dir__, __all__ = on_first_use(__name__, __file__)

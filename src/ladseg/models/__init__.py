"""Segmentation networks: backbones from timm, heads of the literature, anyone's own; one shape for all."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .input_layer import input_normalization as input_normalization
    from .input_layer import see_bgr as see_bgr
    from .input_layer import widen_input as widen_input
    from .segmenter import Segmenter as Segmenter
    from .zoo import build_model as build_model
    from .zoo import list_models as list_models
else:
    from ladseg.contents import on_first_use

    __getattr__, __dir__, __all__ = on_first_use(__name__, __file__)

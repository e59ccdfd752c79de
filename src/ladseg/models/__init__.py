"""Segmentation networks: backbones from timm, heads of the literature, anyone's own; one shape for all."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .input_layer import input_normalization as input_normalization
    from .input_layer import label_factor as label_factor
    from .input_layer import see_bgr as see_bgr
    from .input_layer import widen_input as widen_input
    from .names import list_models as list_models
    from .segmenter import Segmenter as Segmenter
    from .zoo import build_model as build_model
    from .zoo import refuse_unknown_network as refuse_unknown_network
else:
    from ladseg.contents import on_first_use

    __getattr__, __dir__, __all__ = on_first_use(__name__, __file__)

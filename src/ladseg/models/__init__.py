"""Segmentation networks: backbones from timm, heads of the literature, one shape for all."""

from .segmenter import Segmenter as Segmenter
from .widen import widen_input as widen_input
from .zoo import build_model as build_model
from .zoo import list_models as list_models

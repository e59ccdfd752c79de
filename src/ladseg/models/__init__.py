"""Segmentation networks: backbones from timm, heads of the literature, one shape for all."""

from .adapt import input_normalization as input_normalization
from .adapt import widen_input as widen_input
from .segmenter import Segmenter as Segmenter
from .zoo import build_model as build_model
from .zoo import list_models as list_models

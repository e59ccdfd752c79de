"""Networks by name.

``pspnet_r18``, ``deeplabv3_r18`` and ``deeplabv3_r101`` are those of the paper's Table 1, to the parameter. Their
ResNet ("v1s": a deep 64-64-128 stem, output stride 8) is timm's with ``stem_width=64, stem_type="deep"``.
"""

import difflib
from dataclasses import dataclass, field
from typing import Any

from torch import Generator

from ladseg.errors import ModelError
from ladseg.models.adapt import input_normalization, widen_input
from ladseg.models.backbones import build_backbone
from ladseg.models.heads import AuxHead, DeepLabV3Head, FCNHead, Head, PSPNetHead
from ladseg.models.segmenter import Segmenter


@dataclass(frozen=True)
class HeadSpec:
    """A head and its two widths: over light backbones and over heavy ones."""

    build: Any
    narrow: int
    wide: int


@dataclass(frozen=True)
class ModelSpec:
    """A named network: a head, a backbone and what timm needs to build it."""

    head: str
    backbone: str
    options: dict[str, Any] = field(default_factory=dict)


HEADS: dict[str, HeadSpec] = {
    "fcn": HeadSpec(FCNHead, 128, 512),
    "pspnet": HeadSpec(PSPNetHead, 128, 512),
    "deeplabv3": HeadSpec(DeepLabV3Head, 128, 256),
}
# The most channels of a deepest feature map that get the narrow head: ResNet-18 has 512, ResNet-50 2048.
NARROW_CHANNELS = 1024

V1S = {"stem_width": 64, "stem_type": "deep"}
MODELS: dict[str, ModelSpec] = {
    "pspnet_r18": ModelSpec("pspnet", "resnet18", V1S),
    "deeplabv3_r18": ModelSpec("deeplabv3", "resnet18", V1S),
    "deeplabv3_r101": ModelSpec("deeplabv3", "resnet101", V1S),
}


def list_models() -> list[str]:
    """The named networks; ``HEAD@BACKBONE`` with a head of pspnet, deeplabv3 or fcn makes many more."""
    return sorted(MODELS)


def build_model(
    name: str,
    num_classes: int,
    in_channels: int = 3,
    aux: bool = True,
    weights: str | None = None,
    output_stride: int | None = None,
    generator: Generator | None = None,
) -> Segmenter:
    """Build a network that maps ``(N, in_channels, H, W)`` to a :class:`ladseg.SegmentationOutput`.

    Args:
        name: One of :func:`list_models`, or ``HEAD@BACKBONE`` such as ``pspnet@tf_efficientnet_lite0``.
        num_classes: Number of classes C.
        in_channels: 3, or more for a network that sees more than an image: it is built for three and widened, so that
            pretrained RGB weights stay as they are.
        aux: Whether to add the training-only head on the second-last feature map.
        weights: The backbone's: None for random ones, ``"timm"`` to let timm fetch them, or a local file (safetensors,
            a .pth that loads with ``weights_only=True``) in timm's key names; its classifier is left out.
        output_stride: Stride of the logits; None takes 8 where the backbone can be dilated, else its own.
        generator: Source of the weights of channels beyond three.

    Raises:
        ModelError: An unknown name, or weights or a stride that don't fit.
    """
    spec = _spec(name)
    if num_classes < 1 or in_channels < 3:
        raise ModelError(f"num_classes is {num_classes} and in_channels {in_channels}; they must be at least 1 and 3")
    backbone = build_backbone(spec.backbone, output_stride, weights, spec.options)
    channels: list[int] = backbone.feature_info.channels()  # type: ignore[union-attr, operator]
    head = HEADS[spec.head]
    width = head.narrow if channels[-1] <= NARROW_CHANNELS else head.wide
    aux_head: Head | None = AuxHead(channels[-2], num_classes) if aux else None
    mean, std = input_normalization(backbone)
    network = Segmenter(
        name,
        backbone,
        head.build(channels[-1], width, num_classes),
        aux_head,
        num_classes,
        output_stride,
        mean,
        std,
    )
    if in_channels > 3:
        widen_input(network, in_channels - 3, generator=generator)
    return network


def _spec(name: str) -> ModelSpec:
    if name in MODELS:
        return MODELS[name]
    head, at, backbone = name.partition("@")
    if not at:
        close = difflib.get_close_matches(name, list_models(), n=1, cutoff=0.4)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        raise ModelError(f"no network is called '{name}'{hint} Known: {', '.join(list_models())}, or HEAD@BACKBONE")
    if head not in HEADS:
        raise ModelError(f"'{name}': no head is called '{head}'; known: {', '.join(HEADS)}")
    return ModelSpec(head, backbone)

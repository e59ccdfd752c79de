"""Networks by name: a plain dict, each line what a network is built from; names.py says whose definition it is.

The ResNets of CIRKD's ``pspnet_*`` and ``deeplabv3_*`` ("v1s": a deep 64-64-128 stem, output stride 8) are timm's with
``stem_width=64, stem_type="deep"``. mmsegmentation's ``fcn_*`` have the plain 7x7 stem, its ``pspnet_*_mmseg`` and
``deeplabv3_*_mmseg`` a deep 32-32-64 one (ResNetV1c, timm's ``resnet50c``). The numbers of parameters equal those of
the paper or of the published configurations exactly.
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Generator

from ladseg.errors import ModelError
from ladseg.models.adapt import build_foreign, resolve
from ladseg.models.args import apply_args
from ladseg.models.backbones import build_backbone, dilate_first_convolutions_only, refuse_unknown_backbone
from ladseg.models.dinov2 import LAST_BLOCKS, DINOv2, NormedMaps
from ladseg.models.heads import ASPPHead, AuxHead, DeepLabV3Head, FCNHead, Head, PSPNetHead
from ladseg.models.heads.base import init_as_mmsegmentation
from ladseg.models.image_channels import take_channels
from ladseg.models.input_layer import input_normalization, widen_input
from ladseg.models.names import list_models
from ladseg.models.ocrnet import OCRNet
from ladseg.models.segformer import SegFormer
from ladseg.models.segmenter import EncoderDecoder, Segmenter
from ladseg.models.sizes import size_divisor
from ladseg.models.stdc import STDC
from ladseg.models.weights import Checkpoint, adopt_training, is_whole, load_whole, read_checkpoint


@dataclass(frozen=True)
class BuildRequest:
    """The arguments of a builder, which builds for three input channels."""

    num_classes: int
    aux: bool
    weights: Checkpoint | Literal["timm"] | None
    output_stride: int | None


@dataclass(frozen=True)
class ModelSpec:
    """A named network.

    Args:
        build: Builds the network.
        training_only: The parts that only training uses, in words.
    """

    build: Callable[[BuildRequest], Segmenter]
    training_only: str = ""


@dataclass(frozen=True)
class HeadSpec:
    """A head's class and its widths on light and on heavy backbones."""

    build: Any
    narrow: int
    wide: int


@dataclass(frozen=True)
class OnTimm:
    """Builds a head on the last feature map of a timm backbone, and an auxiliary head on the second-last."""

    head: str
    backbone: str
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(self, request: BuildRequest) -> EncoderDecoder:
        backbone = build_backbone(self.backbone, request.output_stride, request.weights, self.options)
        channels: list[int] = backbone.feature_info.channels()  # type: ignore[union-attr, operator]
        head = HEADS[self.head]
        width = head.narrow if channels[-1] <= NARROW_CHANNELS else head.wide
        aux_head: Head | None = AuxHead(channels[-2], request.num_classes) if request.aux else None
        mean, std = input_normalization(backbone)
        return EncoderDecoder(
            backbone,
            head.build(channels[-1], width, request.num_classes),
            aux_head,
            request.num_classes,
            mean,
            std,
            size_divisor(backbone, self.backbone),
        )


@dataclass(frozen=True)
class OnMMSegmentationResNet:
    """Builds a network of mmsegmentation: a head on the last map of a ResNet of stride 8, an auxiliary on the third."""

    head: Any
    backbone: str
    width: int
    align_corners: bool

    def __call__(self, request: BuildRequest) -> EncoderDecoder:
        backbone = build_backbone(self.backbone, request.output_stride, request.weights)
        dilate_first_convolutions_only(backbone)
        channels: list[int] = backbone.feature_info.channels()  # type: ignore[union-attr, operator]
        head = self.head(channels[-1], self.width, request.num_classes)
        aux_head = AuxHead(channels[-2], request.num_classes, whole_channels=True) if request.aux else None
        for part in (head, aux_head):
            if part is not None:
                init_as_mmsegmentation(part)
        mean, std = input_normalization(backbone)
        network = EncoderDecoder(backbone, head, aux_head, request.num_classes, mean, std)
        network.upsample_with(self.align_corners)
        return network


HEADS: dict[str, HeadSpec] = {
    "fcn": HeadSpec(FCNHead, 128, 512),
    "pspnet": HeadSpec(PSPNetHead, 128, 512),
    "deeplabv3": HeadSpec(DeepLabV3Head, 128, 256),
}
# Backbones whose deepest map has at most this many channels get the narrow head: ResNet-18 has 512, ResNet-50 2048.
NARROW_CHANNELS = 1024


def _stdc(variant: str, mmsegmentation: bool = False) -> Callable[[BuildRequest], Segmenter]:
    def build(request: BuildRequest) -> Segmenter:
        _refuse_stride(variant, request, 8)
        _refuse_timm(variant, request)
        mean, std = IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
        network = STDC(variant, request.num_classes, request.aux, mean, std, mmsegmentation)
        if isinstance(request.weights, Checkpoint):
            load_whole(network, request.weights.below_backbone(), request.num_classes)
        return network

    return build


def _ocrnet(backbone_name: str) -> Callable[[BuildRequest], Segmenter]:
    def build(request: BuildRequest) -> Segmenter:
        _refuse_stride(backbone_name, request, 4)
        backbone = build_backbone(backbone_name, 32, request.weights, maps={"feature_location": ""})
        channels: list[int] = backbone.feature_info.channels()  # type: ignore[union-attr, operator]
        mean, std = input_normalization(backbone)
        return OCRNet(backbone, channels, request.num_classes, request.aux, mean, std)

    return build


def _dinov2(backbone_name: str) -> Callable[[BuildRequest], Segmenter]:
    def build(request: BuildRequest) -> Segmenter:
        _refuse_stride(backbone_name, request, 14)
        backbone = build_backbone(
            backbone_name, 14, request.weights, maps={"out_indices": LAST_BLOCKS, "feature_cls": NormedMaps}
        )
        channels: list[int] = backbone.feature_info.channels()  # type: ignore[union-attr, operator]
        mean, std = input_normalization(backbone)
        return DINOv2(backbone, channels, request.num_classes, mean, std)

    return build


def _segformer(variant: str) -> Callable[[BuildRequest], Segmenter]:
    def build(request: BuildRequest) -> Segmenter:
        _refuse_stride(variant, request, 4)
        _refuse_timm(variant, request)
        if isinstance(request.weights, Checkpoint):
            raise ModelError(f"{request.weights.file}: has nothing of '{variant}'; docs/models.md says which files fit")
        return SegFormer(variant, request.num_classes)

    return build


V1S = {"stem_width": 64, "stem_type": "deep"}
MMSEG_FCN = partial(FCNHead, whole_channels=True)
MMSEG_PSP = partial(PSPNetHead, whole_channels=True)
AUX = "auxiliary head"
STDC_HEADS = "two context heads, boundary head"
MODELS: dict[str, ModelSpec] = {
    "fcn_r18": ModelSpec(OnMMSegmentationResNet(MMSEG_FCN, "resnet18", 128, True), AUX),
    "fcn_r50": ModelSpec(OnMMSegmentationResNet(MMSEG_FCN, "resnet50", 512, True), AUX),
    "pspnet_r18": ModelSpec(OnTimm("pspnet", "resnet18", V1S), AUX),
    "pspnet_r50": ModelSpec(OnTimm("pspnet", "resnet50s"), AUX),
    "pspnet_r101": ModelSpec(OnTimm("pspnet", "resnet101s"), AUX),
    "deeplabv3_r18": ModelSpec(OnTimm("deeplabv3", "resnet18", V1S), AUX),
    "deeplabv3_r50": ModelSpec(OnTimm("deeplabv3", "resnet50s"), AUX),
    "deeplabv3_r101": ModelSpec(OnTimm("deeplabv3", "resnet101s"), AUX),
    "pspnet_r50_mmseg": ModelSpec(OnMMSegmentationResNet(MMSEG_PSP, "resnet50c", 512, False), AUX),
    "pspnet_r101_mmseg": ModelSpec(OnMMSegmentationResNet(MMSEG_PSP, "resnet101c", 512, False), AUX),
    "deeplabv3_r50_mmseg": ModelSpec(OnMMSegmentationResNet(ASPPHead, "resnet50c", 512, False), AUX),
    "stdc1": ModelSpec(_stdc("stdc1"), STDC_HEADS),
    "stdc2": ModelSpec(_stdc("stdc2"), STDC_HEADS),
    "stdc1_mmseg": ModelSpec(_stdc("stdc1", mmsegmentation=True), STDC_HEADS),
    "stdc2_mmseg": ModelSpec(_stdc("stdc2", mmsegmentation=True), STDC_HEADS),
    "ocrnet_w18s": ModelSpec(_ocrnet("hrnet_w18_small_v2")),
    "ocrnet_w18": ModelSpec(_ocrnet("hrnet_w18")),
    "ocrnet_w48": ModelSpec(_ocrnet("hrnet_w48")),
    "dinov2_s14": ModelSpec(_dinov2("vit_small_patch14_dinov2"), "LoRA adapters"),
    "dinov2_b14": ModelSpec(_dinov2("vit_base_patch14_dinov2"), "LoRA adapters"),
    "segformer_b0": ModelSpec(_segformer("segformer_b0")),
    "segformer_b2": ModelSpec(_segformer("segformer_b2")),
}


def build_model(
    name: str,
    num_classes: int,
    in_channels: int = 3,
    aux: bool = True,
    weights: str | None = None,
    output_stride: int | None = None,
    args: dict[str, Any] | None = None,
    merged: bool = False,
    generator: Generator | None = None,
    image_channels: int = 3,
) -> Segmenter:
    """Build a network that maps ``(N, in_channels, H, W)`` to a :class:`ladseg.SegmentationOutput`.

    Args:
        name: One of :func:`list_models`, ``HEAD@BACKBONE`` such as ``pspnet@tf_efficientnet_lite0``, or
            ``package.module:Class`` for your own network (see :func:`ladseg.adapt`).
        num_classes: Number of classes C.
        in_channels: Number of input channels, 3 or more. The network is built for three and then widened, so that
            pretrained RGB weights stay unchanged.
        aux: Whether to add the training-only heads.
        weights: None for random weights, ``"timm"`` to let timm fetch the backbone's, or a local file (safetensors, or
            a .pth that loads with ``weights_only=True``): a backbone in timm's key names, a whole network in our own,
            or one of the files that docs/models.md lists. A classifier for another number of classes is left out.
        output_stride: Stride of the logits; None means 8 if the backbone can be dilated, else its own.
        args: Arguments of your own network. A named network has two: ``dropout``, the dropout probability in its
            heads, and ``align_corners``, how its logits are upsampled (see :class:`ladseg.Segmenter`). Their defaults
            are those of the checkpoint if it records them, else the published ones.
        merged: Whether to leave out the LoRA adapters of ``dinov2_*``, as after ``merge()``.
        generator: Source of the weights of channels beyond three.
        image_channels: Channels of an image, such as those of a multispectral one: it is built for three, and its input
            layers' weights are repeated and scaled as timm's ``in_chans`` does.

    Raises:
        ModelError: The name is unknown, or the weights or the stride don't fit.
    """
    if num_classes < 1 or in_channels < 3:
        raise ModelError(f"num_classes is {num_classes} and in_channels {in_channels}; they must be at least 1 and 3")
    file = weights if weights not in (None, "timm") else None
    checkpoint = read_checkpoint(file) if file else None
    if ":" in name:
        network = _build_foreign(name, num_classes, weights, checkpoint, output_stride, args)
    else:
        request = BuildRequest(num_classes, aux, "timm" if weights == "timm" else None, output_stride)
        network = _build_named(name, request, checkpoint)
        network.origin = {"name": name, "output_stride": output_stride}
        if args:
            apply_args(network, name, args)
            network.origin["args"] = args
    take_channels(network, image_channels)
    if not merged:
        network.prepare()
    if in_channels > 3:
        widen_input(network, in_channels - 3, generator=generator)
    return network


def _build_named(name: str, request: BuildRequest, checkpoint: Checkpoint | None) -> Segmenter:
    build = _spec(name).build
    if checkpoint is None:
        return build(request)
    with torch.device("meta"):
        sketch = build(request)
    checkpoint = checkpoint.renamed(sketch.own_names)
    whole = is_whole(checkpoint, sketch.core)
    if whole:
        network = build(request)
        load_whole(network, checkpoint, request.num_classes)
    else:
        network = build(replace(request, weights=checkpoint.of_backbone()))
    adopt_training(network, checkpoint, whole)
    return network


def refuse_unknown_network(name: str) -> None:
    """Raise ModelError if there is no network of this name; nothing is built.

    Args:
        name: As for :func:`build_model`.
    """
    if ":" in name:
        resolve(name)
    elif name not in MODELS:
        _spec(name)
        refuse_unknown_backbone(name.partition("@")[2])


def _build_foreign(
    name: str,
    num_classes: int,
    weights: str | None,
    checkpoint: Checkpoint | None,
    output_stride: int | None,
    args: dict[str, Any] | None,
) -> Segmenter:
    if weights == "timm" or output_stride is not None:
        key = "weights: timm" if weights == "timm" else "output_stride"
        raise ModelError(f"'{name}' is not timm's, so {key} has no meaning for it; use its own args")
    network = build_foreign(name, num_classes, args)
    if checkpoint is not None:
        load_whole(network, checkpoint, num_classes)
    return network


def _spec(name: str) -> ModelSpec:
    if name in MODELS:
        return MODELS[name]
    head, at, backbone = name.partition("@")
    if not at:
        close = difflib.get_close_matches(name, list_models(), n=1, cutoff=0.4)
        hint = f"; did you mean '{close[0]}'? Known" if close else "; known"
        raise ModelError(
            f"no network is called '{name}'{hint}: {', '.join(list_models())}, HEAD@BACKBONE, or package.module:Class"
        )
    if head not in HEADS:
        raise ModelError(f"'{name}': no head is called '{head}'; known: {', '.join(HEADS)}")
    return ModelSpec(OnTimm(head, backbone), AUX)


def _refuse_stride(name: str, request: BuildRequest, only: int) -> None:
    if request.output_stride not in (None, only):
        raise ModelError(f"'{name}' can't have output_stride {request.output_stride}; what works is {only}")


def _refuse_timm(name: str, request: BuildRequest) -> None:
    if request.weights == "timm":
        raise ModelError(f"timm has no weights of '{name}'; set weights to a local file (docs/models.md), or to null")

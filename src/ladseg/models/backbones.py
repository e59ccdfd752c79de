"""timm's networks as backbones that return lists of feature maps, with or without pretrained weights.

Source: Wightman, "PyTorch Image Models", https://github.com/huggingface/pytorch-image-models, Apache-2.0. Each
pretrained file has its own licence, given on its hub page.
"""

import difflib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import timm
import torch
from timm.models.resnet import BasicBlock
from torch import Tensor, nn

from ladseg.errors import ModelError, first_words
from ladseg.models.weights import Checkpoint, refuse_misfit, say_once

DEFAULT_STRIDE = 8
STRIDES = (8, 16, 32)
# Arguments that let timm's fixed-size transformers take images of any size; a family knows one of them or none.
ANY_SIZE: tuple[dict[str, Any], ...] = (
    {"dynamic_img_size": True, "dynamic_img_pad": True},
    {"dynamic_img_size": True},
    {"strict_img_size": False},
)


class ChannelsFirst(nn.Module):
    """Wraps a backbone that returns maps ``(N, h, w, D)``, and returns ``(N, D, h, w)``."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.feature_info = backbone.feature_info

    def forward(self, image: Tensor) -> list[Tensor]:
        return [feature.permute(0, 3, 1, 2).contiguous() for feature in self.backbone(image)]


def build_backbone(
    name: str,
    output_stride: int | None,
    weights: Checkpoint | Literal["timm"] | None,
    options: dict[str, Any] | None = None,
    maps: dict[str, Any] | None = None,
) -> nn.Module:
    """Build a timm network that maps an RGB image to a list of feature maps.

    Args:
        name: timm's name of the network.
        output_stride: Stride of the deepest map; None means 8 if the backbone can be dilated, else its own.
        weights: None for random weights, ``"timm"`` to let timm fetch its own, or a checkpoint in timm's key names.
        options: Further arguments of ``timm.create_model``.
        maps: Arguments of ``timm.create_model`` that select the feature maps.

    Raises:
        ModelError: The backbone does not exist, gives no feature maps or can't have the stride, the weights don't fit,
            or timm can't fetch them.
    """
    refuse_unknown_backbone(name)
    network, features = options or {}, {**(options or {}), **(maps or {})}
    features |= _structure(name, output_stride, features)
    pretrained: dict[str, Any] = {}
    if weights == "timm":
        pretrained = {"pretrained": True}
    elif weights is not None:
        _refuse_other_backbone(weights, name, network, features)
        pretrained = {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": dict(weights.state)}}
    try:
        with _quiet_timm():
            backbone: Any = timm.create_model(name, features_only=True, **features, **pretrained)
    except Exception as error:
        if weights != "timm":
            raise
        raise ModelError(
            f"timm can't give weights of '{name}' ({first_words(error)}); set weights to a local file, or to null"
        ) from error
    # timm's configuration would keep a second copy of every weight.
    backbone.pretrained_cfg.pop("state_dict", None)
    return ChannelsFirst(backbone) if _channels_last(backbone) else backbone


def dilate_first_convolutions_only(backbone: nn.Module) -> None:
    """Remove the dilation of each basic block's second convolution, in place, as in mmsegmentation's R-18b."""
    for block in backbone.modules():
        if isinstance(block, BasicBlock):
            block.conv2.dilation = block.conv2.padding = (1, 1)


def _refuse_other_backbone(
    checkpoint: Checkpoint, name: str, network: dict[str, Any], features: dict[str, Any]
) -> None:
    """Check that a file belongs to this backbone; tensors that the feature maps don't need may be missing or differ.

    Args:
        checkpoint: The file.
        name: timm's name of the network.
        network: Arguments of the whole network, whose key names the file has.
        features: Arguments of the network as feature maps.

    Raises:
        ModelError: The file belongs to another network.
    """
    with torch.device("meta"):
        model = timm.create_model(name, **network)
        kept = timm.create_model(name, features_only=True, **features).state_dict()
    # timm loads the weights of a wrapped network before it removes the layers that the maps don't need.
    wrapped = all(key.startswith("model.") for key in kept)
    used = {_plain(key) for key in (model.state_dict() if wrapped else kept)}
    head = timm.get_pretrained_cfg_value(name, "classifier") or ()
    heads = (head,) if isinstance(head, str) else tuple(head)
    in_heads = tuple(f"{part}." for part in heads)
    wanted = {
        key: value.shape
        for key, value in model.state_dict().items()
        if _plain(key) in used and not key.startswith(in_heads) and not key.endswith("num_batches_tracked")
    }
    refuse_misfit(checkpoint, wanted, f"'{name}'")
    biases = [key for key in checkpoint.state if key.startswith(in_heads) and key.endswith(".bias")]
    if biases:
        say_once(f"{checkpoint.file}: its classifier of {len(checkpoint.state[biases[0]])} classes is left out")


def _plain(key: str) -> str:
    """Return a form of the name that timm's whole networks and feature extractors share; some of them flatten it."""
    return key.replace("_", ".")


def _structure(name: str, output_stride: int | None, options: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments for the requested stride and, if the backbone supports it, for images of any size."""
    fixed_size = timm.get_pretrained_cfg_value(name, "fixed_input_size")
    for size in [*ANY_SIZE, {}] if fixed_size else [{}]:
        native, failure = _try(name, options | size)
        if native is not None:
            break
    else:
        raise ModelError(f"backbone '{name}' gives no feature maps ({failure})")
    wanted = DEFAULT_STRIDE if output_stride is None else output_stride
    if wanted == native:
        return size
    dilated = size | {"output_stride": wanted}
    if _try(name, options | dilated)[0] == wanted:
        return dilated
    if output_stride is None:
        return size
    works = {s for s in STRIDES if _try(name, options | size | {"output_stride": s})[0] == s} | {native}
    known = " or ".join(str(stride) for stride in sorted(works))
    raise ModelError(f"backbone '{name}' can't have output_stride {output_stride}; what works is {known}")


def _try(name: str, options: dict[str, Any]) -> tuple[int | None, str]:
    """Return the stride of the backbone that these arguments build, or None and the reason why they fail.

    Only building a backbone shows whether it knows an argument; on the meta device this takes no memory and draws no
    random numbers.
    """
    try:
        with torch.device("meta"):
            backbone: Any = timm.create_model(name, features_only=True, **options)
    except Exception as error:  # timm's families raise different exceptions, some a bare AssertionError
        return None, first_words(error)
    return backbone.feature_info.reduction()[-1], ""


def _channels_last(backbone: nn.Module) -> bool:
    return str(getattr(getattr(backbone, "output_fmt", None), "value", "")) == "NHWC"


def refuse_unknown_backbone(name: str) -> None:
    """Raise ModelError if timm has no network of this name."""
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)
        raise ModelError(f"timm has no backbone '{name}'" + (f"; nearest: {', '.join(close)}" if close else ""))


@contextmanager
def _quiet_timm() -> Iterator[None]:
    """Silence timm's warning about tensors that the feature maps don't need; our own check of a file is stricter."""
    logger = logging.getLogger("timm.models._builder")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)

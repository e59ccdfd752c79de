"""Translate the key names of published checkpoints to timm's and ours.

A table applies to a file in which a key matches its sign; its rules then run over every key in order. Keys may have
the prefix ``backbone.``, as in whole networks, or not. Several tables may apply, such as one for the backbone and one
for the heads.
"""

import re
from dataclasses import dataclass

from torch import Tensor

Triple = tuple[float, float, float]
# Prefixes of all keys of a file, from DataParallel, a training framework or torch.compile.
WRAPPERS = ("module.", "model.", "net.", "network.", "_orig_mod.")
BACKBONE = r"^(backbone\.)?"
# CIRKD subtracts this mean from BGR in 0..255 and does not divide.
CIRKD_BGR_MEAN = (104.00698793, 116.66876762, 122.67891434)
CIRKD_NORMALIZATION: tuple[Triple, Triple] = (
    (CIRKD_BGR_MEAN[2] / 255, CIRKD_BGR_MEAN[1] / 255, CIRKD_BGR_MEAN[0] / 255),
    (1 / 255, 1 / 255, 1 / 255),
)


@dataclass(frozen=True)
class Table:
    """The key names of one source of checkpoints.

    Attributes:
        source: Where files with these names come from.
        sign: A pattern that matches a key of such files only.
        rules: Pairs of a pattern and its replacement.
        align_corners: How the network was trained to upsample its logits; None if the names don't tell.
        bgr_layer: The new name of the first convolution's weights if it was trained on BGR; its input channels are
            reversed, so that the network takes RGB. None if it takes RGB.
        normalization: Mean and standard deviation, of RGB in 0..1, that the network was trained with; None for the
            usual ones.
    """

    source: str
    sign: str
    rules: tuple[tuple[str, str], ...]
    align_corners: bool | None = None
    bgr_layer: str | None = None
    normalization: tuple[Triple, Triple] | None = None

    def applies(self, state: dict[str, Tensor]) -> bool:
        """Return whether a key matches the sign."""
        return any(re.search(self.sign, key) for key in state)

    def apply(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors under the new names, or unchanged if no key matches the sign."""
        if not self.applies(state):
            return state
        renamed = {self._renamed(key): value for key, value in state.items()}
        if self.bgr_layer in renamed:
            renamed[self.bgr_layer] = renamed[self.bgr_layer].flip(1)
        return renamed

    def _renamed(self, key: str) -> str:
        for pattern, replacement in self.rules:
            key = re.sub(pattern, replacement, key)
        return key


TABLES = (
    # This table precedes that of the deep-stem names, which CIRKD's backbones have too.
    Table(
        "CIRKD's DeepLabV3 and PSPNet",
        r"^pretrained\.conv1\.weight$",
        (
            (r"^pretrained\.", "backbone."),
            (r"^head\.aspp\.b0\.", "head.features.0.point."),
            (r"^head\.aspp\.b1\.block\.", "head.features.0.dilated.0."),
            (r"^head\.aspp\.b2\.block\.", "head.features.0.dilated.1."),
            (r"^head\.aspp\.b3\.block\.", "head.features.0.dilated.2."),
            (r"^head\.aspp\.b4\.gap\.1\.", "head.features.0.image.0."),
            (r"^head\.aspp\.b4\.gap\.2\.", "head.features.0.image.1."),
            (r"^head\.aspp\.project\.", "head.features.0.project.0."),
            (r"^head\.psp\.conv1\.", "head.features.0.branches.0."),
            (r"^head\.psp\.conv2\.", "head.features.0.branches.1."),
            (r"^head\.psp\.conv3\.", "head.features.0.branches.2."),
            (r"^head\.psp\.conv4\.", "head.features.0.branches.3."),
            (r"^head\.block\.([01])\.", r"head.features.1.\1."),
            (r"^head\.block\.4\.", "head.classifier."),
            (r"^auxlayer\.block\.([01])\.", r"aux_head.features.\1."),
            (r"^auxlayer\.block\.4\.", "aux_head.classifier."),
        ),
        align_corners=True,
        bgr_layer="backbone.conv1.weight",
        normalization=CIRKD_NORMALIZATION,
    ),
    Table(
        "deep-stem ResNets of MIT CSAIL",
        BACKBONE + r"conv3\.weight$",
        (
            (BACKBONE + r"conv1\.", r"\1conv1.0."),
            (BACKBONE + r"bn1\.", r"\1conv1.1."),
            (BACKBONE + r"conv2\.", r"\1conv1.3."),
            (BACKBONE + r"bn2\.", r"\1conv1.4."),
            (BACKBONE + r"conv3\.", r"\1conv1.6."),
            (BACKBONE + r"bn3\.", r"\1bn1."),
        ),
    ),
    Table(
        "mmsegmentation's ResNetV1c",
        BACKBONE + r"stem\.7\.weight$",
        ((BACKBONE + r"stem\.7\.", r"\1bn1."), (BACKBONE + r"stem\.(\d)\.", r"\1conv1.\2.")),
    ),
    Table(
        "the STDC authors' backbones",
        BACKBONE + r"features\.0\.conv\.weight$",
        (
            (r"\.avd_layer\.", ".down."),
            (r"\.conv_list\.0\.", ".point."),
            (r"\.conv_list\.1\.", ".convs.0."),
            (r"\.conv_list\.2\.", ".convs.1."),
            (r"\.conv_list\.3\.", ".convs.2."),
            (BACKBONE + r"(features\..*)\.conv\.", r"\1\2.0."),
            (BACKBONE + r"(features\..*)\.bn\.", r"\1\2.1."),
        ),
    ),
    Table(
        "torchvision's DeepLabV3",
        r"^classifier\.0\.convs\.0\.0\.weight$",
        (
            (r"^classifier\.0\.convs\.0\.", "head.features.0.point."),
            (r"^classifier\.0\.convs\.1\.", "head.features.0.dilated.0."),
            (r"^classifier\.0\.convs\.2\.", "head.features.0.dilated.1."),
            (r"^classifier\.0\.convs\.3\.", "head.features.0.dilated.2."),
            (r"^classifier\.0\.convs\.4\.1\.", "head.features.0.image.0."),
            (r"^classifier\.0\.convs\.4\.2\.", "head.features.0.image.1."),
            (r"^classifier\.0\.project\.", "head.features.0.project.0."),
            (r"^classifier\.1\.", "head.features.1.0."),
            (r"^classifier\.2\.", "head.features.1.1."),
            (r"^classifier\.4\.", "head.classifier."),
            (r"^aux_classifier\.([01])\.", r"aux_head.features.\1."),
            (r"^aux_classifier\.4\.", "aux_head.classifier."),
        ),
        align_corners=False,
    ),
    Table(
        "mmsegmentation's STDC",
        r"^backbone\.backbone\.stages\.",
        (
            (r"^backbone\.arms\.0\.conv_layer\.", "refine32.conv."),
            (r"^backbone\.arms\.1\.conv_layer\.", "refine16.conv."),
            (r"^backbone\.arms\.0\.atten_conv_layer\.1\.", "refine32.gate."),
            (r"^backbone\.arms\.1\.atten_conv_layer\.1\.", "refine16.gate."),
            (r"^backbone\.convs\.0\.", "smooth32."),
            (r"^backbone\.convs\.1\.", "smooth16."),
            (r"^backbone\.conv_avg\.", "global_context."),
            (r"^backbone\.ffm\.conv0\.", "fuse.mix."),
            (r"^backbone\.ffm\.attention\.1\.conv\.", "fuse.gate.0."),
            (r"^backbone\.ffm\.attention\.2\.conv\.", "fuse.gate.2."),
            (r"^decode_head\.convs\.0\.", "head.features."),
            (r"^decode_head\.conv_seg\.", "head.classifier."),
            (r"^auxiliary_head\.([01])\.convs\.0\.", r"context_heads.\1.features."),
            (r"^auxiliary_head\.([01])\.conv_seg\.", r"context_heads.\1.classifier."),
            (r"^auxiliary_head\.2\.convs\.0\.", "boundary_head.features."),
            (r"^auxiliary_head\.2\.conv_seg\.", "boundary_head.classifier."),
            (r"^backbone\.backbone\.(stages\..*)\.layers\.0\.", r"backbone.\1.point."),
            (r"^backbone\.backbone\.(stages\..*)\.layers\.1\.", r"backbone.\1.convs.0."),
            (r"^backbone\.backbone\.(stages\..*)\.layers\.2\.", r"backbone.\1.convs.1."),
            (r"^backbone\.backbone\.(stages\..*)\.layers\.3\.", r"backbone.\1.convs.2."),
            (r"^backbone\.backbone\.(stages\..*)\.downsample\.", r"backbone.\1.down."),
            (r"^backbone\.backbone\.", "backbone."),
            (r"\.conv\.(?=\w+$)", ".0."),
            (r"\.bn\.(?=\w+$)", ".1."),
        ),
        align_corners=True,
    ),
    Table(
        "mmsegmentation's FCN, PSPNet, DeepLabV3 and OCRNet",
        r"^decode_head\..*conv_seg\.weight$",
        (
            (r"^decode_head\.0\.convs\.0\.", "guess.features."),
            (r"^decode_head\.0\.conv_seg\.", "guess.classifier."),
            (r"^decode_head\.1\.bottleneck\.", "head.features."),
            (r"^decode_head\.1\.object_context_block\.bottleneck\.", "head.mix."),
            (r"^decode_head\.1\.object_context_block\.(query|key|value|out)_project\.", r"head.attention.\1."),
            (r"^decode_head\.psp_modules\.(\d)\.1\.", r"head.features.0.branches.\1."),
            (r"^decode_head\.image_pool\.1\.", "head.features.0.image."),
            (r"^decode_head\.aspp_modules\.(\d)\.", r"head.features.0.views.\1."),
            (r"^decode_head\.bottleneck\.", "head.features.1."),
            (r"^decode_head\.convs\.(\d)\.", r"head.features.convs.\1."),
            (r"^decode_head\.conv_cat\.", "head.features.fuse."),
            (r"^decode_head\.(1\.)?conv_seg\.", "head.classifier."),
            (r"^auxiliary_head\.convs\.0\.", "aux_head.features."),
            (r"^auxiliary_head\.conv_seg\.", "aux_head.classifier."),
            (r"^((?:head|guess|aux_head)\..*)\.conv\.", r"\1.0."),
            (r"^((?:head|guess|aux_head)\..*)\.bn\.", r"\1.1."),
        ),
    ),
)


# Versions of transformers differ: some use these names, others those of the published files. The table is therefore not
# among those that apply to every file.
SEGFORMER = Table(
    "SegFormer as published",
    r"^segformer\.encoder\.block\.",
    (
        (r"^segformer\.encoder\.patch_embeddings\.(\d)\.", r"segformer.stages.\1.patch_embeddings."),
        (r"^segformer\.encoder\.block\.(\d)\.", r"segformer.stages.\1.blocks."),
        (r"^segformer\.encoder\.layer_norm\.(\d)\.", r"segformer.stages.\1.layer_norm."),
        (r"\.attention\.self\.query\.", ".attention.q_proj."),
        (r"\.attention\.self\.key\.", ".attention.k_proj."),
        (r"\.attention\.self\.value\.", ".attention.v_proj."),
        (r"\.attention\.self\.sr\.", ".attention.sequence_reduction.sequence_reduction."),
        (r"\.attention\.self\.layer_norm\.", ".attention.sequence_reduction.layer_norm."),
        (r"\.attention\.output\.dense\.", ".attention.o_proj."),
        (r"\.mlp\.dense(\d)\.", r".mlp.fc\1."),
        (r"\.layer_norm_1\.", ".layernorm_before."),
        (r"\.layer_norm_2\.", ".layernorm_after."),
        (r"^decode_head\.linear_c\.", "decode_head.linear_projections."),
    ),
)


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under timm's and our names; keys that no table knows stay."""
    state = unwrapped(state)
    for table in TABLES:
        state = table.apply(state)
    return state


def tables_of(state: dict[str, Tensor]) -> list[Table]:
    """Return the tables that :func:`renamed` applies."""
    state, applied = unwrapped(state), []
    for table in TABLES:
        if table.applies(state):
            applied.append(table)
            state = table.apply(state)
    return applied


def unwrapped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors without the prefixes that frameworks put before every name."""
    # Prefixes may be nested in any order.
    while wrapper := next((w for w in WRAPPERS if state and all(key.startswith(w) for key in state)), None):
        state = {key[len(wrapper) :]: value for key, value in state.items()}
    return state

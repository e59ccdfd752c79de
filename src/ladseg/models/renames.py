"""Key names of published checkpoints, turned into timm's and ours.

A table applies to a file that holds its sign; its rules then run over every key, one after the other. Keys may stand
below ``backbone.``, as in whole networks, or not.
"""

import re
from dataclasses import dataclass

from torch import Tensor

# What wraps all keys of a file: DataParallel, a training framework, torch.compile.
WRAPPERS = ("module.", "model.", "net.", "network.", "_orig_mod.")
BACKBONE = r"^(backbone\.)?"


@dataclass(frozen=True)
class Table:
    """Where files with these names come from, a key that shows it, and (pattern, replacement) rules."""

    source: str
    sign: str
    rules: tuple[tuple[str, str], ...]

    def apply(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The same tensors under the new names, if the sign is there."""
        if not any(re.search(self.sign, key) for key in state):
            return state
        return {self._renamed(key): value for key, value in state.items()}

    def _renamed(self, key: str) -> str:
        for pattern, replacement in self.rules:
            key = re.sub(pattern, replacement, key)
        return key


TABLES = (
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
    ),
    Table(
        "mmsegmentation's FCN, PSPNet and OCRNet",
        r"^decode_head\..*conv_seg\.weight$",
        (
            (r"^decode_head\.0\.convs\.0\.", "guess.features."),
            (r"^decode_head\.0\.conv_seg\.", "guess.classifier."),
            (r"^decode_head\.1\.bottleneck\.", "head.features."),
            (r"^decode_head\.1\.object_context_block\.bottleneck\.", "head.mix."),
            (r"^decode_head\.1\.object_context_block\.(query|key|value|out)_project\.", r"head.attention.\1."),
            (r"^decode_head\.psp_modules\.(\d)\.1\.", r"head.features.0.branches.\1."),
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


# Some versions of transformers have these names inside, others those of the published files; so this table is not one
# of those that apply to every file.
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
    """The same tensors under timm's and our names, as far as the tables know them; other keys stay."""
    # They may be one within the other, in any order.
    while wrapper := next((w for w in WRAPPERS if state and all(key.startswith(w) for key in state)), None):
        state = {key[len(wrapper) :]: value for key, value in state.items()}
    for table in TABLES:
        state = table.apply(state)
    return state

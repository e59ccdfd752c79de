"""Backbones: timm's networks as lists of feature maps, with or without pretrained weights.

timm: Wightman, "PyTorch Image Models", https://github.com/huggingface/pytorch-image-models, Apache-2.0; each
pretrained file has a licence of its own, given on its hub page.
"""

import difflib
import logging
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ladseg.errors import ModelError


def build_backbone(
    name: str, output_stride: int | None, weights: str | None, options: dict[str, Any] | None = None
) -> nn.Module:
    """A timm network as a list of feature maps, input of three channels.

    Args:
        name: timm's name.
        output_stride: Stride of the deepest map; None takes 8 where the backbone can be dilated, else its own.
        weights: None for random ones, ``"timm"`` to let timm fetch its own, or a local file in timm's key names.
        options: More arguments of ``timm.create_model``.

    Raises:
        ModelError: No such backbone, one without feature maps, a stride it can't have, a file that doesn't fit.
    """
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)
        raise ModelError(f"timm has no backbone '{name}'" + (f"; nearest: {', '.join(close)}" if close else ""))
    options = dict(options or {})
    if weights == "timm":
        options["pretrained"] = True
    elif weights is not None:
        state = _checked_state(weights, name, options)
        options |= {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": state}}
    # Without a stride asked for: 8, and what the backbone has where that is refused.
    attempts: list[dict[str, Any]] = [{"output_stride": output_stride}] if output_stride else [{"output_stride": 8}, {}]
    failures = []
    for stride in attempts:
        try:
            return timm.create_model(name, features_only=True, **(options | stride))
        except (AssertionError, TypeError, NotImplementedError, RuntimeError) as error:
            failures.append(str(error) or type(error).__name__)
    if output_stride:
        raise ModelError(
            f"backbone '{name}' can't have output_stride {output_stride} ({failures[0]}); try 32 or leave it out"
        )
    raise ModelError(f"backbone '{name}' gives no feature maps ({failures[-1]})")


def _checked_state(file: str, name: str, options: dict[str, Any]) -> dict[str, Tensor]:
    """The file's tensors, after a look whether they are this backbone's."""
    state = _read_state(Path(file))
    with torch.device("meta"):
        model = timm.create_model(name, **options)
    head = timm.get_pretrained_cfg_value(name, "classifier") or ()
    heads = (head,) if isinstance(head, str) else tuple(head)
    wanted = {
        key: value.shape
        for key, value in model.state_dict().items()
        if not key.startswith(tuple(f"{part}." for part in heads)) and not key.endswith("num_batches_tracked")
    }
    missing = [key for key, shape in wanted.items() if key not in state or state[key].shape != shape]
    if missing:
        raise ModelError(
            f"{file}: holds {len(wanted) - len(missing)} of the {len(wanted)} tensors of '{name}' "
            f"(not '{missing[0]}', for one); give a file of this backbone in timm's key names"
        )
    # Quiet timm's note on tensors that feature maps don't need: the look above is stricter.
    logging.getLogger("timm.models._builder").setLevel(logging.ERROR)
    return state


def _read_state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ModelError(f"{path}: no such weights file; null trains from scratch, 'timm' lets timm fetch its own")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle fails in any way it likes
        raise ModelError(f"{path}: can't be read as weights ({' '.join(str(error).split())[:120]})") from None
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"{path}: holds no state dict of tensors")
    return state

"""Pretrained backbone weights from a local file in timm's key names."""

from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor

from ladseg.errors import ModelError


def read_backbone_weights(file: str, name: str, options: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors of a file, after a look whether they are this backbone's.

    Args:
        file: A safetensors file, or a .pth that loads with ``weights_only=True``, of timm's classification network.
        name: timm's name of the backbone.
        options: The arguments of ``timm.create_model`` that the backbone is built with.

    Returns:
        The file's state dict; its classifier may be missing or of any size.

    Raises:
        ModelError: No such file, an unreadable one, or one of another network.
    """
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
    missing = [key for key in wanted if key not in state]
    unlike = [key for key, shape in wanted.items() if key in state and state[key].shape != shape]
    if missing or unlike:
        matched = len(wanted) - len(missing) - len(unlike)
        example = f"'{missing[0]}' is missing" if missing else _shapes(unlike[0], state, wanted)
        raise ModelError(
            f"{file}: {matched} of the {len(wanted)} tensors of '{name}' match, {len(missing)} are missing and "
            f"{len(unlike)} have another shape ({example}); give a file of this backbone in timm's key names"
        )
    return state


def _shapes(key: str, state: dict[str, Tensor], wanted: dict[str, torch.Size]) -> str:
    return f"'{key}' is {tuple(state[key].shape)}, not {tuple(wanted[key])}"


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

"""Read the tensors of a checkpoint file, whichever framework wrote it."""

import argparse
import collections
import json
import pathlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from ladseg.errors import ModelError, first_words
from ladseg.models.renames import Triple

# Keys under which training scripts save a network's tensors; the first that a file has is taken.
KEYS = ("state_dict", "model_state_dict", "model_state", "model", "network", "net", "module", "weights", "params")
# Prefixes of tensor names in Lightning's and similar checkpoints, which are names of attributes.
WRAPPERS = ("model.", "net.", "network.", "module.")
DEPTH = 3


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict from a safetensors file or from one that ``torch.save`` wrote, without running code from it.

    Raises:
        ModelError: The file is missing or can't be read, or its network's tensors can't be identified.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such weights file; null trains from scratch, 'timm' lets timm fetch its own")
    try:
        content = load_file(path) if path.suffix == ".safetensors" else _load_pickle(path)
    except ModelError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise ModelError(f"{path}: can't be read as weights ({first_words(error)})") from None
    return _of_the_network(_state_dict(path, content, DEPTH))


def recorded_align_corners(path: Path) -> bool | None:
    """Return the ``align_corners`` that a file records; None if it records none.

    ladseg's own files hold it in their metadata, mmsegmentation's in the configuration (Python text) under ``meta``.

    Args:
        path: A file that :func:`read_state` has read.
    """
    if path.suffix == ".safetensors":
        recorded = _own_facts(path).get("align_corners")
        return recorded if isinstance(recorded, bool) else None
    content = _load_pickle(path)
    meta = content.get("meta") if isinstance(content, Mapping) else None
    config = meta.get("config") if isinstance(meta, Mapping) else None
    heads = config.partition("decode_head")[2].partition("auxiliary_head")[0] if isinstance(config, str) else ""
    values = re.findall(r"align_corners=(True|False)", heads)
    return values[-1] == "True" if values else None


def recorded_normalization(path: Path) -> tuple[Triple, Triple] | None:
    """Return the mean and standard deviation of RGB in 0..1 that a file of ladseg records; None if it records none.

    Args:
        path: A file that :func:`read_state` has read.
    """
    facts = _own_facts(path) if path.suffix == ".safetensors" else {}
    mean, std = (_three(facts.get(key)) for key in ("mean", "std"))
    return None if mean is None or std is None else (mean, std)


def _three(values: Any) -> Triple | None:
    """Return the values if they are three numbers; else None."""
    if not (isinstance(values, list) and len(values) == 3 and all(isinstance(x, int | float) for x in values)):
        return None
    return values[0], values[1], values[2]


def _own_facts(path: Path) -> dict[str, Any]:
    """Return the metadata of a safetensors file that ladseg wrote; an empty dict for any other file."""
    with safe_open(path, "pt") as file:
        text = (file.metadata() or {}).get("ladseg", "{}")
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):  # the tensors can be used without the metadata
        return {}
    return facts if isinstance(facts, dict) else {}


def _load_pickle(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_harmless()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception:
        try:
            foreign = set(torch.serialization.get_unsafe_globals_in_checkpoint(path)) - {
                name for entry in _harmless() for name in [_global_name(entry)]
            }
        except Exception:  # not an archive that torch wrote
            foreign = set()
        if not foreign:
            raise
        names = ", ".join(sorted(foreign)[:5])
        raise ModelError(
            f"{path}: can't be read as weights (beside tensors it holds objects that would run code: {names}); "
            "save the network's state_dict() alone where you trust the file"
        ) from None


def _harmless() -> list[Any]:
    """Return safe types that checkpoints hold besides tensors: numpy's numbers and arrays, settings, paths."""
    multiarray: Any = np._core.multiarray if hasattr(np, "_core") else np.core.multiarray  # type: ignore[attr-defined]
    dtypes = {type(np.dtype(kind)) for kind in np.typecodes["All"]}
    return [
        *(
            (getattr(multiarray, name), f"numpy.{core}.multiarray.{name}")
            for name in ("scalar", "_reconstruct")
            for core in ("core", "_core")
        ),
        np.dtype,
        np.ndarray,
        *dtypes,
        argparse.Namespace,
        collections.defaultdict,
        pathlib.PosixPath,
        pathlib.PurePosixPath,
    ]


def _global_name(entry: Any) -> str:
    return entry[1] if isinstance(entry, tuple) else f"{entry.__module__}.{entry.__qualname__}"


def _state_dict(path: Path, content: Any, depth: int) -> dict[str, Tensor]:
    """Find the state dict, a mapping of names to tensors, in a file's content.

    Raises:
        ModelError: There is none, or there are several and none is under a key of :data:`KEYS`.
    """
    if not isinstance(content, Mapping):
        raise ModelError(f"{path}: holds no state dict of tensors but {_words(content)}")
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    # Some scripts save the epoch among the tensors.
    if tensors and not any(isinstance(value, Mapping) for value in content.values()):
        return tensors
    within = {key: value for key, value in content.items() if isinstance(value, Mapping) and _has_tensors(value, depth)}
    known = [key for key in KEYS if key in within]
    if len(within) != 1 and not known:
        held = ", ".join(f"'{key}': {_words(value)}" for key, value in list(content.items())[:10])
        raise ModelError(
            f"{path}: holds no state dict of tensors, or several, under none of the keys {', '.join(KEYS)}; "
            f"it holds {held or 'nothing'}; save the one that is meant alone"
        )
    return _state_dict(path, within[known[0] if known else next(iter(within))], depth - 1)


def _has_tensors(content: Mapping[Any, Any], depth: int) -> bool:
    """Return whether a mapping is or holds a state dict; an optimizer's state is none, as it has numbers as keys."""
    if any(isinstance(value, Tensor) and isinstance(key, str) and "." in key for key, value in content.items()):
        return True
    parts = [value for value in content.values() if isinstance(value, Mapping)]
    if not parts:
        return bool(content) and all(isinstance(v, Tensor) and isinstance(k, str) for k, v in content.items())
    return depth > 0 and any(_has_tensors(part, depth - 1) for key, part in content.items() if key in KEYS)


def _of_the_network(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors below a wrapper's prefix if nearly all are; the others belong to losses and metrics."""
    for wrapper in WRAPPERS:
        below = {key: value for key, value in state.items() if key.startswith(wrapper)}
        if 0.8 * len(state) < len(below) < len(state):
            return below
    return state


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a mapping of {len(value)}"
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)}"
    return type(value).__name__

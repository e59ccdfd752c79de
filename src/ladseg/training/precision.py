"""The number format in which a device trains fastest."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

Precision = Literal["fp32", "bf16"]


def resolve_precision(
    precision: Literal["auto", "fp32", "bf16"],
    device: torch.device | str,
    cpu_features: frozenset[str] | None = None,
) -> Precision:
    """Return the precision that ``auto`` means on a device; any other is returned as it is.

    ``auto`` means bfloat16 on GPUs that compute in it and on CPUs with instructions for it (AMX, AVX-512 BF16, Arm
    BF16), else float32. Emulated bfloat16 is far slower than float32: 25 times on a CPU that has AVX2 but not AVX-512.

    Args:
        precision: ``"auto"``, ``"fp32"`` or ``"bf16"``.
        device: Where the training runs.
        cpu_features: The CPU's instruction sets, as Linux names them; None asks the CPU.
    """
    if precision != "auto":
        return precision
    kind = torch.device(device).type
    if kind == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if kind == "cpu":
        features = _cpu_features() if cpu_features is None else cpu_features
        return "bf16" if features & {"amx_bf16", "avx512_bf16", "bf16"} else "fp32"
    return "fp32"


@contextmanager
def depthwise_in_float32(module: nn.Module) -> Iterator[None]:
    """Within the context, run depthwise convolutions on CPUs in their weights' type despite autocast.

    In bfloat16 their backward pass takes 2 to 7 times as long as in float32: with one multiply-accumulate for each
    value read, they gain nothing from faster products. A step of ``pspnet@tf_efficientnet_lite0`` thus takes 528
    instead of 855 ms (docs/performance.md).
    """
    layers = [part for part in module.modules() if isinstance(part, nn.Conv2d) and 1 < part.groups == part.in_channels]
    given = [vars(layer).get("forward") for layer in layers]
    for layer in layers:
        layer.forward = partial(_without_autocast, layer, layer.forward)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer, forward in zip(layers, given, strict=True):
            del layer.forward
            if forward is not None:
                layer.forward = forward  # type: ignore[method-assign]


def _without_autocast(layer: nn.Conv2d, forward: Callable[[Tensor], Tensor], map_: Tensor) -> Tensor:
    if map_.device.type != "cpu":
        return forward(map_)
    with torch.autocast("cpu", enabled=False):
        return forward(map_.to(layer.weight.dtype))


def _cpu_features() -> frozenset[str]:
    """Return the names of this CPU's instruction sets; empty if they can't be determined."""
    # torch 2.6 has no torch.cpu.get_capabilities; Linux lists them as "flags" (x86) and "Features" (Arm).
    if hasattr(torch.cpu, "get_capabilities"):
        return frozenset(name for name, value in torch.cpu.get_capabilities().items() if value is True)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    words = [line.split(":", 1)[1].split() for line in lines if line.startswith(("flags", "Features"))]
    return frozenset(word for line in words for word in line)

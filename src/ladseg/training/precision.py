"""Which number format a device trains fastest in."""

from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

Precision = Literal["fp32", "bf16"]


def resolve_precision(
    precision: Literal["auto", "fp32", "bf16"],
    device: torch.device | str,
    cpu_features: frozenset[str] | None = None,
) -> Precision:
    """The precision that ``auto`` means on a device; any other is itself.

    ``auto`` is bfloat16 on GPUs that compute in it and on processors with instructions for it (AMX,
    AVX-512 BF16, Arm BF16), else float32. Emulated bfloat16 is far slower than float32: measured on a
    processor that ends at AVX2, 25 times.

    Args:
        precision: ``"auto"``, ``"fp32"`` or ``"bf16"``.
        device: Where the training runs.
        cpu_features: The processor's instruction sets, as Linux names them; None asks the processor.
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


def spare_depthwise(module: nn.Module) -> None:
    """Let depthwise convolutions on processors compute in their weights' type within autocast.

    Their backward pass in bfloat16 takes 2 to 7 times as long there as in float32 (docs/performance.md); what has one
    multiply-accumulate for each value that it reads gains nothing from faster products.
    """
    for child in module.modules():
        if isinstance(child, nn.Conv2d) and 1 < child.groups == child.in_channels and not isinstance(child, _Spared):
            kind: Any = type(child)
            child.__class__ = _spared(kind)


class _Spared:
    """In front of a convolution's class."""

    weight: Tensor

    def forward(self, map_: Tensor) -> Tensor:
        layer: Any = super()
        if map_.device.type != "cpu":
            result: Tensor = layer.forward(map_)
            return result
        with torch.autocast("cpu", enabled=False):
            return layer.forward(map_.to(self.weight.dtype))


@cache
def _spared(kind: type[nn.Conv2d]) -> type[nn.Conv2d]:
    return type(kind.__name__, (_Spared, kind), {})


def _cpu_features() -> frozenset[str]:
    """The names of this processor's instruction sets; empty where nothing tells."""
    # torch.cpu.get_capabilities came after 2.6; Linux tells as "flags" (x86) and "Features" (Arm).
    if hasattr(torch.cpu, "get_capabilities"):
        return frozenset(name for name, value in torch.cpu.get_capabilities().items() if value is True)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    words = [line.split(":", 1)[1].split() for line in lines if line.startswith(("flags", "Features"))]
    return frozenset(word for line in words for word in line)

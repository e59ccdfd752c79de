"""Where arithmetic happens, and in which precision."""

from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import is_tensorboard_available


def resolve_precision(
    precision: Literal["auto", "fp32", "bf16"], device: torch.device
) -> Literal["fp32", "bf16"]:
    """What ``auto`` means on a device: bfloat16 where it has instructions for it, else float32.

    Without them PyTorch emulates bfloat16: a ResNet-18 trains some twenty times slower than in float32 on a CPU that
    has AVX2 alone.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device)[0] >= 8 else "fp32"
    return "bf16" if cpu_flags() & {"amx_bf16", "avx512_bf16", "bf16"} else "fp32"


def cpu_flags(path: str = "/proc/cpuinfo") -> set[str]:
    """Feature flags of the first processor as Linux lists them (x86 ``flags``, ARM ``Features``); empty elsewhere."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    for line in lines:
        if line.startswith(("flags", "Features")):
            return set(line.split(":", 1)[1].split())
    return set()


def make_accelerator(precision: Literal["auto", "fp32", "bf16"], folder: Path) -> Accelerator:
    """Devices, processes, autocast and TensorBoard, as accelerate manages them; logs go to ``folder``.

    Started by ``torchrun`` it joins the processes: NCCL on GPUs, gloo on CPUs.
    """
    cpu = not torch.cuda.is_available()
    resolved = resolve_precision(precision, torch.device("cpu" if cpu else "cuda"))
    # The state outlives an Accelerator within a process and would refuse another precision.
    AcceleratorState._reset_state()
    return Accelerator(
        cpu=cpu,
        mixed_precision="bf16" if resolved == "bf16" else "no",
        log_with="tensorboard" if is_tensorboard_available() else None,
        project_dir=folder,
    )

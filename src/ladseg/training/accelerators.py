"""Make the accelerator, which owns a run's device, precision, processes and trackers."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState

from ladseg.errors import TrainingError
from ladseg.training.precision import resolve_precision


def make_accelerator(
    precision: Literal["auto", "fp32", "bf16"], folder: Path | str, trackers: Sequence[str] = ()
) -> Accelerator:
    """Return one accelerator for all trainings of a run; under ``torchrun`` it joins the other processes.

    Args:
        precision: The schedule's precision; ``auto`` is resolved for the device.
        folder: The run's folder.
        trackers: Names of accelerate's experiment trackers.

    Raises:
        TrainingError: A tracker's package is not installed.
    """
    for name in trackers:
        if find_spec(name) is None:
            raise TrainingError(f"trackers has '{name}', which is not installed: pip install {name}, or leave it out")
    # Under torchrun, accelerate uses gloo only if it is told to run on CPUs.
    cpu = not torch.accelerator.is_available()
    device = PartialState(cpu=cpu).device or torch.device("cpu")
    resolved = resolve_precision(precision, device)
    mixed_precision = "bf16" if resolved == "bf16" else "no"
    # accelerate keeps one precision per process, but a second run in this process may need the other one.
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != mixed_precision:
        AcceleratorState._reset_state()
    return Accelerator(
        cpu=cpu,
        mixed_precision=mixed_precision,
        log_with=list(trackers) or None,
        project_dir=folder,
    )

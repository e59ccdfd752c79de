"""Make the accelerator, which owns a run's device, precision, processes and trackers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch
import torch.distributed as dist
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState

from ladseg.errors import TrainingError
from ladseg.training.precision import resolve_precision

# How long the processes of a run wait for one that does what one alone can do: check a large set, decode it, or wait
# for another run's training. Between steps the backend's own limit holds, so that a hanging device is noticed.
PATIENCE = timedelta(days=30)


class Patience:
    """The processes of this run, as a group of its own that waits for long and on every kind of device."""

    group: dist.ProcessGroup | None = None


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
    accelerator = Accelerator(
        cpu=cpu,
        mixed_precision=mixed_precision,
        log_with=list(trackers) or None,
        project_dir=folder,
    )
    if accelerator.num_processes > 1:
        group = dist.new_group(backend="gloo", timeout=PATIENCE)
        assert isinstance(group, dist.ProcessGroup)
        Patience.group = group
    return accelerator


def wait_patiently(accelerator: Accelerator) -> None:
    """Wait for all processes, however long one of them works or waits by itself."""
    if accelerator.num_processes > 1:
        dist.barrier(Patience.group)


@contextmanager
def one_process_first(accelerator: Accelerator) -> Iterator[None]:
    """Within the context, let one process of each machine go first, and the others wait for it patiently."""
    if not accelerator.is_local_main_process:
        wait_patiently(accelerator)
    yield
    if accelerator.is_local_main_process:
        wait_patiently(accelerator)

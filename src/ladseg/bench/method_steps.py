"""Measure a student's step under each method, and the largest batch that fits into memory."""

import dataclasses
from pathlib import Path
from typing import Any

import torch

from ladseg.bench.setting import Setting
from ladseg.comparison.costs import trainings_of
from ladseg.comparison.methods import LAD, NONE, RIVALS, default_teacher, make_method
from ladseg.measure.step_costs import Step, step_memory, step_times


def bench_methods(setting: Setting) -> dict[str, dict[str, Any]]:
    """Measure the first network's step under every method; the teacher is the same network, label-assisted for LAD.

    Returns:
        ``milliseconds`` and bytes of ``memory`` (None if unknown) by method.
    """
    base = setting.recipe(setting.networks[0])
    methods = {word: make_method(base, word, default_teacher(base)) for word in (NONE, LAD, *RIVALS)}
    trainings = {word: trainings_of(method.recipe, setting.num_classes)[-1] for word, method in methods.items()}
    times = step_times(trainings, setting.num_classes, setting.device)
    return {word: dataclasses.asdict(time) for word, time in times.items()}


def bench_batches(setting: Setting) -> dict[str, dict[str, int] | None]:
    """Measure the memory of the first network's three trainings with two batches, and extrapolate.

    Returns:
        For each training the bytes per ``image``, ``fixed`` bytes, and the largest ``batch`` for the memory that is
        free now; None if the system does not report memory.
    """
    sizes = (setting.batch_size, 2 * setting.batch_size)
    needed: dict[str, list[int | None]] = {}
    for size in sizes:
        for name, training in dataclasses.replace(setting, batch_size=size).trainings(setting.networks[0]).items():
            step = Step(training, setting.num_classes, setting.device)
            step()
            needed.setdefault(name, []).append(step_memory(step))
            del step
    free = _free(setting.device)
    return {name: _fitted(sizes, pair, free) for name, pair in needed.items()}


def _fitted(sizes: tuple[int, int], needed: list[int | None], free: int | None) -> dict[str, int] | None:
    small, large = needed
    if small is None or large is None or free is None or large <= small:
        return None
    image = (large - small) // (sizes[1] - sizes[0])
    fixed = max(0, small - image * sizes[0])
    return {"image": image, "fixed": fixed, "batch": (free - fixed) // image}


def _free(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return int(dict(line.split(":", 1) for line in lines)["MemAvailable"].split()[0]) * 1024

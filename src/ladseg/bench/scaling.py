"""Measure how a step's time grows, and how precision, memory layout, compilation and processes change it."""

import dataclasses
import math
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from ladseg.bench.setting import Setting
from ladseg.errors import first_words
from ladseg.measure.step_costs import Step
from ladseg.measure.timing import in_turns, ratio
from ladseg.runs.trainings import baseline_training

CLASSES = (19, 57, 171)
STEPS = 5


def bench_growth(setting: Setting) -> dict[str, dict[str, Any]]:
    """Measure the first network's plain step for several numbers of pixels, classes and images, at half the size.

    Returns:
        For each quantity the ``milliseconds`` by its amount, and the ``exponent`` of the best-fitting power law.
    """
    half = _half(setting)
    height, width = half.size
    series: dict[str, dict[int, Setting]] = {
        "pixels": {
            part * part * height * width // 4: dataclasses.replace(half, size=(height * part // 2, width * part // 2))
            for part in (1, 2, 3)
        },
        "classes": {classes: dataclasses.replace(half, num_classes=classes) for classes in CLASSES},
        "batch": {
            factor * half.batch_size: dataclasses.replace(half, batch_size=factor * half.batch_size)
            for factor in (1, 2, 4)
        },
    }
    grown = {}
    for name, settings in series.items():
        steps = {str(amount): _plain(one) for amount, one in settings.items()}
        seconds = in_turns(steps, setting.device, patience=20.0)
        medians = {amount: statistics.median(seconds[str(amount)]) for amount in settings}
        grown[name] = {
            "milliseconds": {amount: 1e3 * value for amount, value in medians.items()},
            "exponent": _exponent(medians),
        }
    return grown


def bench_switches(setting: Setting) -> dict[str, dict[str, float] | str]:
    """Measure the first network's plain step, at half the size, with one change at a time.

    Returns:
        The time as a multiple of the step in float32 and channels_last, or the reason for a failure, by change.
    """
    half = _half(setting)
    steps: dict[str, Callable[[], object]] = {"": _plain(half, "fp32")}
    failed: dict[str, str] = {}
    for name, make in (("bfloat16", _bf16), ("contiguous", _contiguous), ("torch.compile", _compiled)):
        try:
            step = make(half)
            step()
            steps[name] = step
        except Exception as error:  # such as a missing compiler, or a type that the device lacks
            failed[name] = first_words(error)
    seconds = in_turns(steps, setting.device, patience=60.0)
    return {**{name: ratio(seconds[name], seconds[""]) for name in steps if name}, **failed}


def bench_processes(setting: Setting) -> dict[str, Any]:
    """Measure the first network's plain training in one process and in two that share the cores or GPUs.

    Returns:
        Images per second as ``one`` and ``two``, and their ratio as ``gain``; empty with a single core or GPU.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    places = torch.cuda.device_count() if setting.device.type == "cuda" else min(cores, torch.get_num_threads())
    if places < 2:
        return {}
    half = dataclasses.replace(_half(setting), batch_size=2 * setting.batch_size)
    one, two = (_images_a_second(half, count, places) for count in (1, 2))
    return {"one": one, "two": two, "gain": two / one}


def _half(setting: Setting) -> Setting:
    height, width = setting.size
    return dataclasses.replace(setting, size=(height // 2, width // 2))


def _plain(setting: Setting, precision: Literal["auto", "fp32", "bf16"] = "auto") -> Step:
    training = baseline_training(setting.recipe(setting.networks[0]), setting.num_classes)
    schedule = dataclasses.replace(training.schedule, precision=precision)
    return Step(dataclasses.replace(training, schedule=schedule), setting.num_classes, setting.device)


def _bf16(setting: Setting) -> Step:
    return _plain(setting, "bf16")


def _contiguous(setting: Setting) -> Step:
    step = _plain(setting, "fp32")
    step.objective.to(memory_format=torch.contiguous_format)
    step.batch["image"] = step.batch["image"].contiguous()
    return step


def _compiled(setting: Setting) -> Step:
    step = _plain(setting, "fp32")
    step.objective.network.compile()
    return step


def _exponent(values: dict[int, float]) -> float:
    """Return the slope of the least-squares line through the logarithms."""
    line = statistics.linear_regression([math.log(x) for x in values], [math.log(y) for y in values.values()])
    return line.slope


def _images_a_second(setting: Setting, processes: int, places: int) -> float:
    with TemporaryDirectory() as folder:
        mp.spawn(_process, (setting, processes, max(1, places // processes), folder), nprocs=processes)
        seconds = max(float(path.read_text()) for path in Path(folder).glob("*.seconds"))
    return setting.batch_size / seconds


def _process(rank: int, setting: Setting, processes: int, threads: int, folder: str) -> None:
    """Train as one of several processes, and write the median seconds of a step to the folder."""
    cuda = setting.device.type == "cuda"
    torch.set_num_threads(threads)
    dist.init_process_group(
        "nccl" if cuda else "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=processes
    )
    device = torch.device("cuda", rank) if cuda else setting.device
    share = dataclasses.replace(setting, batch_size=setting.batch_size // processes, device=device)
    step = _plain(share)
    step.objective = DistributedDataParallel(step.objective, device_ids=[rank] if cuda else None)
    seconds = []
    for _ in range(STEPS + 1):
        dist.barrier()
        begin = time.perf_counter()
        step()
        if cuda:
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - begin)
    Path(folder, f"{rank}.seconds").write_text(str(statistics.median(seconds[1:])))
    dist.destroy_process_group()

"""How near to the device's own speed a training step runs, and whether the data keep up with it.

    python benchmarks/gpu_fast.py --out fast.json

For each network and each of LAD's three trainings, crops of 512x1024, batch 16, bfloat16: milliseconds, TFLOP/s as
a share of the rate of a large matrix product (goal: 40 % for ResNet-18 networks), and the share of the step in
which the device waits for the host. For the plain step also torch.compile, with and without CUDA graphs. Then the
images a second that the step eats, beside those that the loader gives with one process a core (goal: the device
never waits).
"""

import argparse
import dataclasses
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ladseg.bench.setting import DEFAULT_NETWORKS, Setting
from ladseg.bench.steps import matrix_rate
from ladseg.data import open_dataset, train_loader, write_demo_scenes
from ladseg.measure.step_costs import Step, step_macs
from ladseg.measure.timing import in_turns
from ladseg.recipe import Data

Work = Callable[[], object]
COMPILED = {"compile": {}, "compile, CUDA graphs": {"mode": "reduce-overhead"}}


def busy_share(step: Work, device: torch.device, steps: int = 5) -> float | None:
    """Return the share of the time in which a kernel runs; None on a CPU."""
    if device.type != "cuda":
        return None
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as found:
        begin = time.perf_counter()
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
        seconds = time.perf_counter() - begin
    return sum(event.self_device_time_total for event in found.key_averages()) / 1e6 / seconds


def network_facts(setting: Setting, network: str, rate: float) -> dict[str, Any]:
    facts = {}
    for name, training in setting.trainings(network).items():
        macs = step_macs(training, setting.num_classes)
        step = Step(training, setting.num_classes, setting.device)
        seconds = statistics.median(in_turns({"": step}, setting.device, patience=8.0)[""])
        facts[name] = {
            "milliseconds": 1e3 * seconds,
            "tflops": 2 * macs / seconds / 1e12,
            "share_of_matrix_rate": macs / seconds / rate,
            "device_busy": busy_share(step, setting.device),
        }
        del step
    return facts


def compiled_facts(setting: Setting, network: str) -> dict[str, Any]:
    """Return the plain step's time under torch.compile as a multiple of the eager one, or why it does not run."""
    step = Step(setting.trainings(network)["plain"], setting.num_classes, setting.device)
    eager = statistics.median(in_turns({"": step}, setting.device, patience=5.0)[""])
    facts: dict[str, Any] = {}
    for name, how in COMPILED.items():
        if setting.device.type != "cuda" and how:
            continue
        try:
            step = Step(setting.trainings(network)["plain"], setting.num_classes, setting.device)
            step.objective = torch.compile(step.objective, **how)
            begin = time.perf_counter()
            step()
            first = time.perf_counter() - begin
            seconds = statistics.median(in_turns({"": step}, setting.device, patience=5.0)[""])
            facts[name] = {"of_eager": seconds / eager, "first_step_seconds": first}
        except Exception as error:  # no compiler there
            facts[name] = {"fault": str(error).splitlines()[0][:200]}
    return facts


def loading_rate(setting: Setting, workers: int, native: tuple[int, int], steps: int) -> float:
    """Return the images a second that the loader gives for this crop and batch, from images of ``native`` size."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "scenes"
        write_demo_scenes(root, train=32, val=1, size=native)
        scenes = open_dataset(Data(root=str(root), classes=str(root / "classes.txt")), "train")
        loader = train_loader(
            scenes, crop=setting.size, batch_size=setting.batch_size, seed=0, mean=(0.5,) * 3, std=(0.25,) * 3,
            start_step=0, steps=steps, workers=workers,
        )  # fmt: skip
        batches = iter(loader)
        next(batches)  # the processes start
        begin = time.perf_counter()
        count = sum(1 for _ in batches)
        return count * setting.batch_size / (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rehearse", action="store_true")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    setting = Setting(device, DEFAULT_NETWORKS, (512, 1024), 16)
    if options.rehearse:
        setting = dataclasses.replace(setting, networks=("pspnet@test_resnet",), size=(64, 96), batch_size=2)
    rate = matrix_rate(setting)
    facts: dict[str, Any] = {"matrix_tflops": 2 * rate / 1e12, "networks": {}, "compiled": {}}

    def write() -> None:
        options.out.write_text(json.dumps(facts, indent=2) + "\n")

    first = setting.networks[0]
    facts["networks"][first] = network_facts(setting, first, rate)
    write()
    workers = 0 if options.rehearse else min(16, os.cpu_count() or 1)
    native = setting.size if options.rehearse else (1024, 2048)
    eats = setting.batch_size / facts["networks"][first]["plain"]["milliseconds"] * 1e3
    gives = loading_rate(setting, workers, native, 4 if options.rehearse else 12)
    facts["loading"] = {"workers": workers, "gives": gives, "eats": eats, "device_waits": gives < eats}
    write()
    if not options.rehearse:
        facts["compiled"][first] = compiled_facts(setting, first)
    for network in setting.networks[1:]:
        facts["networks"][network] = network_facts(setting, network, rate)
        write()
    write()


if __name__ == "__main__":
    main()

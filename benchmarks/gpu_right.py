"""Is everything right on this GPU? The device against the CPU, and a killed training against an unbroken one.

    python benchmarks/gpu_right.py --out right.json --seconds 240

- `float32`, `bfloat16`: every network and method, one training step on the device and on the CPU, from equal
  weights, images and random draws: the largest relative difference of a loss term and the relative distance of the
  gradients.
- `resume`: a training that is killed and started again ends at the same weights, bit for bit, deterministic
  algorithms on.
- `prediction`, `export`: a delivered network, and its torch program, give the same classes on the device and on the
  CPU.

Results are written after every case. The exit code is 0 also when cases fail: they are listed, and that is the
result.
"""

import argparse
import copy
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.export.passes import move_to_device_pass
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from ladseg import list_models, load
from ladseg.bench.setting import DEFAULT_NETWORKS, Setting
from ladseg.cli import main as ladseg
from ladseg.comparison.costs import trainings_of
from ladseg.comparison.methods import RIVALS, classic_teacher, make_method
from ladseg.data import write_demo_scenes
from ladseg.deploy.export import export_student
from ladseg.measure.step_costs import sample_batch
from ladseg.recipe import Recipe
from ladseg.runs.trainings import Training

SMALL, CLASSIC = "pspnet@test_resnet", "fcn@test_resnet"
CLASSES, SIZE = 19, (64, 96)
# Relative differences from the CPU's float32.
TERMS = {"float32": 1e-4, "bfloat16": 5e-2}
GRADIENTS = {"float32": 1e-3, "bfloat16": 2e-1}
# Share of pixels that may change class: ties between logits.
CHANGED = 1e-3

Facts = dict[str, Any]


class DrawnOnTheHost(TorchDispatchMode):
    """Let the CPU draw all random numbers, so that both devices compute with the same ones."""

    def __init__(self) -> None:
        super().__init__()
        self.generators: dict[int, torch.Generator] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        generator, device = kwargs.get("generator"), kwargs.get("device")
        tensors = [value for value in args if isinstance(value, Tensor)]
        device = device or (tensors[0].device if tensors else None)
        if device is None or torch.device(device).type == "cpu":
            return func(*args, **kwargs)
        if "device" in kwargs:
            kwargs["device"] = torch.device("cpu")
        if generator is not None:
            kwargs["generator"] = self.generators.setdefault(
                id(generator), torch.Generator().manual_seed(generator.initial_seed())
            )
        drawn = func(*tree_map_only(Tensor, Tensor.cpu, args), **kwargs)
        if func._schema.is_mutable:
            return tensors[0].copy_(drawn)
        return tree_map_only(Tensor, lambda value: value.to(device), drawn)


def one_step(training: Training, device: torch.device, dtype: torch.dtype | None) -> tuple[Facts, Tensor]:
    """Return the loss terms and the gradient, one flat vector on the CPU, of a fixed batch."""
    objective = copy.deepcopy(training.objective).to(device).train()
    for part in objective.modules():
        if isinstance(part, nn.modules.dropout._DropoutNd):
            part.p = 0.0  # the CPU draws for its own layout of the map
    batch = sample_batch(2, training.schedule.crop, CLASSES)
    moved = {name: value.to(device) for name, value in batch.items()}
    torch.manual_seed(0)
    with DrawnOnTheHost(), torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None):
        terms = objective(moved)
    terms["loss"].backward()
    grads = [p.grad.flatten().double().cpu() for p in objective.parameters() if p.grad is not None]
    return {name: float(value) for name, value in terms.items()}, torch.cat(grads)


def against_cpu(training: Training, device: torch.device) -> Facts:
    """Compare a step with the CPU's in float32."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    terms, gradient = one_step(training, torch.device("cpu"), None)
    facts: Facts = {}
    for name, dtype in (("float32", None), ("bfloat16", torch.bfloat16)):
        found, other = one_step(training, device, dtype)
        scale = max(abs(value) for value in terms.values())
        worst = max(terms, key=lambda key: abs(found[key] - terms[key]))
        off = {"terms": abs(found[worst] - terms[worst]) / scale, "worst": worst,
               "gradients": float((other - gradient).norm() / gradient.norm())}  # fmt: skip
        facts[name] = {**off, "ok": off["terms"] <= TERMS[name] and off["gradients"] <= GRADIENTS[name]}
    return {**facts, "ok": all(fact["ok"] for fact in facts.values())}


def resume(device: torch.device, folder: Path) -> Facts:
    """Kill a training on the device in its last stage, start it again, compare with an unbroken one."""
    unbroken, killed = folder / "unbroken", folder / "killed"
    command = [sys.executable, __file__, "--train", device.type]
    subprocess.run([*command, str(unbroken)], check=True, capture_output=True)
    process = subprocess.Popen([*command, str(killed)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list((killed / "student/checkpoints").glob("*")):
        time.sleep(0.02)
    was_killed = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    subprocess.run([*command, str(killed)], check=True, capture_output=True)
    ours, theirs = (load_file(run / "student.safetensors") for run in (unbroken, killed))
    same = ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    return {"killed": was_killed, "identical": same, "ok": was_killed and same}


def train(device: str, out: str) -> int:
    """Train LAD on the built-in scenes with deterministic algorithms; the process that ``resume`` kills."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    scenes = Path(out).parent / "scenes"
    if not scenes.exists():
        write_demo_scenes(scenes, train=8, val=2, size=SIZE)
    words = ["train", "demo", "--out", out, "--data.root", str(scenes), "--data.classes", str(scenes / "classes.txt")]
    words += [
        "--schedule.iterations",
        "12",
        "--teacher.iterations",
        "12",
        "--schedule.eval_every",
        "4",
        "--schedule.crop",
        str(list(SIZE)),
    ]
    return int(ladseg([*words, "--student.model", SMALL, "--distill.warm_start", "false"]) or 0)


@torch.no_grad()
def delivered(device: torch.device, weights: Path) -> Facts:
    """Compare prediction and export of a delivered network on the device with the CPU."""
    program = export_student(weights, "torch", normalize=True).path
    picture = (torch.rand(3, *SIZE) * 255).byte()
    here, there = (load(weights, device=place).probabilities(picture).cpu() for place in ("cpu", device))
    changed = float((here.argmax(0) != there.argmax(0)).double().mean())
    image = picture[None].float() / 255
    on_cpu = torch.export.load(program).module()(image)
    moved = move_to_device_pass(torch.export.load(program), str(device))
    on_device = moved.module()(image.to(device)).cpu()
    off = float((on_device - on_cpu).abs().max() / on_cpu.abs().max())
    return {"changed": changed, "export": off, "ok": changed <= CHANGED and off <= 1e-3}


def cases(device: torch.device, rehearse: bool, folder: Path) -> Iterator[tuple[str, Callable[[], Facts]]]:
    """Yield the cases by name, most important first."""
    base = Setting(torch.device("cpu"), (SMALL,), SIZE, 2, CLASSES)
    # Those that most people use come first.
    networks = [SMALL] if rehearse else list(dict.fromkeys([SMALL, *DEFAULT_NETWORKS, *list_models()]))
    methods = ("cwd", "kd") if rehearse else RIVALS
    yield "resume", lambda: resume(device, folder)
    yield "delivered", lambda: delivered(device, folder / "unbroken/student.safetensors")
    recipe = base.recipe(SMALL)
    for word in methods:
        yield f"method/{word}", lambda word=word: method_case(recipe, word, device)  # type: ignore[misc]
    for name in networks:
        for key in ("plain", "teacher", "student"):
            yield f"{name}/{key}", lambda name=name, key=key: against_cpu(base.trainings(name)[key], device)  # type: ignore[misc]


def method_case(recipe: Recipe, word: str, device: torch.device) -> Facts:
    made = make_method(recipe, word, classic_teacher(recipe, CLASSIC)).recipe
    return against_cpu(trainings_of(made, CLASSES)[-1], device)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--train", nargs=2, metavar=("DEVICE", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        return train(*options.train)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        run_cases(cases(device, options.rehearse, Path(folder)), device, options.out, options.seconds)
    return 0


def run_cases(todo: Iterator[tuple[str, Callable[[], Facts]]], device: torch.device, out: Path, seconds: float) -> None:
    """Run the cases within ``seconds``; write all results after each."""
    end = time.monotonic() + seconds
    named = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    found: dict[str, Facts] = {}
    for name, case in todo:
        try:
            found[name] = case() if time.monotonic() < end else {"ok": None, "fault": "no time"}
        except Exception as error:  # one case must not end the others
            found[name] = {"ok": False, "fault": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
        print(name, found[name], file=sys.stderr, flush=True)
        wrong = [key for key, facts in found.items() if facts["ok"] is False]
        out.write_text(json.dumps({"device": named, "wrong": wrong, "cases": found}, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())

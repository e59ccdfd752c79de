"""Does label help pay on real scenes? CamVid at full size, cell by cell, all cells of a seed before the next seed.

    python benchmarks/gpu_camvid.py --data ../shared/data/camvid --out camvid-gpu --seconds 600

Trains the plain curve (1, 2, 4, 8 times 4,000 steps, each with its own full decay), LAD, warm-started LAD and a
classic teacher, crop 360x360, batch 16, from scratch and from ImageNet. Each cell is a run of its own that resumes;
what the time does not reach waits for the next start. OUT.json sums up what is finished: mIoU on val of every cell,
by seed.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ladseg.data import write_demo_scenes

STEPS = 4000
LAD = {"baseline": "false"}
WARM = {"baseline": "true", "teacher.warm_start": "true", "distill.warm_start": "true"}
CLASSIC = {"baseline": "false", "teacher.label_assisted": "false", "distill.method": "kd"}
# By name: the recipe's keys that differ, and the steps as a multiple of 4,000.
CELLS: dict[str, tuple[dict[str, str], int]] = {
    "plain-1": ({"distill.method": "none"}, 1),
    "lad": (LAD, 1),
    "plain-2": ({"distill.method": "none"}, 2),
    "lad-warm": (WARM, 1),
    "plain-4": ({"distill.method": "none"}, 4),
    "classic": ({**CLASSIC, "teacher.model": "{classic}"}, 1),
    "plain-8": ({"distill.method": "none"}, 8),
}


@dataclass(frozen=True)
class Start:
    """What the student starts from."""

    name: str
    student: dict[str, str]
    classic: str


def starts(pretrained: Path) -> list[Start]:
    """Return what students can start from here."""
    found = [Start("scratch", {"student.model": "pspnet_r18"}, "pspnet_r101")]
    weights = pretrained / "tf_efficientnet_lite0.safetensors"
    if weights.is_file():
        own = {"student.model": "pspnet@tf_efficientnet_lite0", "student.weights": str(weights.resolve())}
        found.insert(0, Start("imagenet", own, "pspnet_r101"))
    return found


def plan(cells: Sequence[str], seeds: int, chosen: Sequence[Start]) -> list[tuple[str, Start, int]]:
    """Return the runs in their order: seeds first."""
    return [(name, start, seed) for seed in range(seeds) for name in cells for start in chosen]


def train(name: str, start: Start, seed: int, shared: list[str], out: Path, seconds: float, steps: int) -> bool:
    """Train a cell, or go on with it; return whether it is finished."""
    keys, times = CELLS[name]
    words = [
        *shared,
        *as_flags(start.student),
        *as_flags(keys, start.classic),
        "--schedule.iterations",
        str(steps * times),
    ]
    log = out.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "ladseg", "train", *words, "--seed", str(seed), "--out", str(out)],
            stdout=file, stderr=file,
        )  # fmt: skip
        try:
            return process.wait(seconds) == 0
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)  # the run's last checkpoint stays
            process.wait()
            return False


def as_flags(keys: dict[str, str], classic: str = "") -> list[str]:
    return [word for key, value in keys.items() for word in (f"--{key}", value.format(classic=classic))]


def summary(out: Path, runs: Sequence[tuple[str, Start, int]]) -> dict[str, dict[str, float]]:
    """Return mIoU of what each finished cell delivers, by start/cell and seed."""
    found: dict[str, dict[str, float]] = {}
    for name, start, seed in runs:
        file = out / start.name / name / f"seed-{seed}" / "results.json"
        if file.is_file():
            networks = json.loads(file.read_text())["networks"]
            delivered = networks.get("student") or networks["baseline"]
            found.setdefault(f"{start.name}/{name}", {})[str(seed)] = delivered["mean_iou"]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="CamVid in the folder layout")
    parser.add_argument("--pretrained", type=Path, default=Path("../shared/pretrained"), help="folder of weights")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--rehearse", action="store_true")
    options = parser.parse_args()
    end, out, steps, chosen = time.monotonic() + options.seconds, options.out, STEPS, starts(options.pretrained)
    out.mkdir(parents=True, exist_ok=True)
    data, seeds, recipe, cells = options.data, options.seeds, "camvid", list(CELLS)
    shared = ["--schedule.crop", "[360,360]", "--schedule.batch_size", "16"]
    if options.rehearse:
        data, seeds, steps, recipe, cells = out / "scenes", 1, 2, "demo", ["plain-1", "lad"]
        if not data.exists():
            write_demo_scenes(data, train=4, val=2, size=(48, 64))
        chosen = [Start("scratch", {"student.model": "pspnet@test_resnet"}, "fcn@test_resnet")]
        shared = ["--schedule.crop", "[48,64]", "--schedule.batch_size", "2", "--teacher.iterations", "2"]
    shared = [recipe, "--data.root", str(data), "--data.classes", str(data / "classes.txt"), *shared]
    runs = plan(cells, seeds, chosen)
    for name, start, seed in runs:
        folder = out / start.name / name / f"seed-{seed}"
        if not (folder / "results.json").is_file() and (left := end - time.monotonic()) > 0:
            finished = train(name, start, seed, shared, folder, left, steps)
            print(f"{start.name}/{name}, seed {seed}: {'finished' if finished else 'not finished'}", file=sys.stderr)
        Path(f"{out}.json").write_text(json.dumps(summary(out, runs), indent=2) + "\n")
    return 0 if sum(map(len, summary(out, runs).values())) == len(runs) else os.EX_TEMPFAIL


if __name__ == "__main__":
    sys.exit(main())

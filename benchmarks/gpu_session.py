"""One session on a GPU, most important first: is everything right there, how fast is it, and does label help pay.

    python benchmarks/gpu_session.py --minutes 14 --out gpu
    python benchmarks/gpu_session.py --what-to-carry       # what a bare CUDA PyTorch image lacks
    python benchmarks/gpu_session.py --rehearse --out DIR  # the same parts in tiny sizes, on this machine

Each part is a command of its own. It writes its result to DIR as soon as it is there, and is stopped at its limit.
Started again with the same DIR, also on another machine, the script skips what is finished and goes on with the rest.
The script itself ends before its minutes are over.
"""

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
PYTHON = sys.executable
# Seconds that are kept for stopping the last part and writing the summary.
RESERVE = 10.0
# Packages that ladseg needs and a plain CUDA PyTorch image may lack.
PACKAGES = ("timm", "accelerate", "yaml", "rich", "matplotlib", "jinja2", "tensorboard",
            "filelock", "scipy", "safetensors", "torchvision", "PIL", "pycocotools")  # fmt: skip
SIZE, RATES = "512x1024", ("pspnet_r18", "deeplabv3_r18", "stdc1", "ocrnet_w18s", "segformer_b0")
CAMVID = "../shared/data/camvid"

Clock = Callable[[], float]
Run = Callable[["Part", Path, float], str]


@dataclass(frozen=True)
class Part:
    """A part of the session.

    Attributes:
        name: What its files are called.
        command: Arguments of Python; ``{out}`` stands for the part's own path without suffix, ``{seconds}`` for the
            time that it gets.
        limit: Seconds that it gets at most; None for all that is left.
        least: Seconds without which it is not started.
    """

    name: str
    command: tuple[str, ...]
    limit: float | None
    least: float = 20.0


def parts_of(camvid: str, rehearse: bool) -> list[Part]:
    """Return the parts in their order: right, fast, true."""
    tiny = ("--rehearse",) if rehearse else ()
    size, batch = ("64x96", "2") if rehearse else (SIZE, "16")
    networks = ("pspnet@test_resnet",) if rehearse else RATES
    bench = ("-m", "ladseg", "bench", *networks, "--size", size, "--batch", batch, "--json", "--parts")
    here = {name: str(HERE / f"{name}.py") for name in ("gpu_right", "gpu_fast", "step_times", "gpu_camvid")}
    d_time = (here["step_times"], "--crop", size, "--batch", batch, "--json", "{out}.json")
    d_time = (*d_time, "--only", "none,lad") if rehearse else d_time
    parts = [
        Part(
            "right",
            (here["gpu_right"], "--out", "{out}.json", "--seconds", "{seconds}", *tiny),
            400 if rehearse else 240,
        ),
        Part("steps", (*bench, "steps"), 150),
        Part("d_time_deeplabv3_r18", (*d_time, "--student", "deeplabv3_r18"), 120),
        Part("d_time_pspnet_r18", (*d_time, "--student", "pspnet_r18"), 120),
        Part("fast", (here["gpu_fast"], "--out", "{out}.json", *tiny), 180),
        Part("loop", (*bench, "loop"), 150),
        Part("true", (here["gpu_camvid"], "--out", "{out}", "--data", camvid, "--seconds", "{seconds}", *tiny), None),
    ]
    # The bench of the loop measures for two minutes whatever the sizes; its own test covers it.
    return [part for part in parts if not (rehearse and part.name == "loop")]


def session(parts: Sequence[Part], out: Path, minutes: float, clock: Clock, run: Run) -> dict[str, str]:
    """Run what is not finished, never beyond ``minutes``.

    Args:
        parts: In their order.
        out: Holds ``session.json``, the state of each part, and the parts' results.
        minutes: From now on.
        clock: Seconds, as :func:`time.monotonic`.
        run: Runs a part for so many seconds at most; returns its state.

    Returns:
        The state of each part: ``done``, ``failed``, ``stopped`` at its limit, or ``no time``.
    """
    out.mkdir(parents=True, exist_ok=True)
    end = clock() + 60 * minutes - RESERVE
    file = out / "session.json"
    states: dict[str, str] = json.loads(file.read_text()) if file.is_file() else {}
    for part in parts:
        if states.get(part.name) == "done":
            continue
        left = end - clock()
        if left < part.least:
            states[part.name] = "no time"
        else:
            seconds = left if part.limit is None else min(left, part.limit)
            print(f"{part.name}: up to {seconds:.0f} s of {left:.0f} s that are left", flush=True)
            states[part.name] = run(part, out, seconds)
            print(f"{part.name}: {states[part.name]}", flush=True)
        beside = file.with_suffix(".tmp")
        beside.write_text(json.dumps(states, indent=2) + "\n")
        beside.replace(file)
    return states


def run_part(part: Part, out: Path, seconds: float) -> str:
    """Run a part as a process group of its own; its standard output and errors go to files of its name."""
    own = out / part.name
    words = [word.format(out=own, seconds=f"{seconds - 5:.0f}") for word in part.command]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent / "src"), *sys.path[1:]])}
    with open(f"{own}.out", "w") as output, open(f"{own}.log", "a") as log:
        process = subprocess.Popen(
            [PYTHON, *words], stdout=output, stderr=log, env=environment, cwd=HERE.parent, start_new_session=True
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return "stopped"
    # A part that has more to do than its time allowed says so by its code.
    return {0: "done", os.EX_TEMPFAIL: "stopped"}.get(code, "failed")


def what_to_carry(camvid: str) -> list[str]:
    """Return lines that name what must come along to a machine without network."""
    lacking = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    weights = HERE.parent.parent / "shared/pretrained"
    return [
        "this checkout: src/ and benchmarks/",
        f"packages that this Python lacks: {', '.join(lacking) or 'none'} (as wheels, pip download --no-deps)",
        *(f"{path}: {size_of(path) / 1e6:.0f} MB" for path in (Path(camvid), weights) if path.exists()),
        "the folder of --out, when a session goes on on another machine",
    ]


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=14.0, help="the time that the session may take")
    parser.add_argument("--out", type=Path, default=Path("gpu"), help="the folder of results")
    parser.add_argument("--camvid", default=CAMVID, help=f"CamVid in the folder layout (default: {CAMVID})")
    parser.add_argument("--only", help="only these parts, separated by commas")
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes, on this machine")
    parser.add_argument("--what-to-carry", action="store_true", help="list what a machine without network needs")
    options = parser.parse_args()
    if options.what_to_carry:
        print("\n".join(what_to_carry(options.camvid)))
        return 0
    parts = parts_of(options.camvid, options.rehearse)
    if options.only:
        parts = [part for part in parts if part.name in options.only.split(",")]
    states = session(parts, options.out, options.minutes, time.monotonic, run_part)
    print(json.dumps(states, indent=2))
    return 1 if "failed" in states.values() else 0


if __name__ == "__main__":
    sys.exit(main())

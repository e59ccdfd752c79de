"""Describe the software and the machine on which results are computed."""

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import torch

from ladseg.results import Environment

PACKAGES = ("ladseg", "torch", "torchvision", "timm", "accelerate", "numpy")


def describe_environment(seed: int | None = None) -> Environment:
    """Return versions, machine, the commit of the working directory and the command.

    Args:
        seed: The seed of the run, if a single run is described.
    """
    return Environment(
        seed=seed,
        python=platform.python_version(),
        packages={name: metadata.version(name) for name in PACKAGES},
        machine=platform.machine(),
        system=platform.platform(),
        processor=_processor(),
        threads=torch.get_num_threads(),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        git_commit=_git_commit(),
        command=_command(sys.argv),
    )


def _command(words: Sequence[str]) -> str:
    """Return the command line in a form that works wherever ladseg is installed."""
    program = Path(words[0])
    is_ladseg = program.name == "ladseg" or (program.name, program.parent.name) == ("__main__.py", "ladseg")
    return shlex.join(["ladseg" if is_ladseg else words[0], *words[1:]])


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
        return f"{names[0]} x {len(names)}"
    except (OSError, IndexError):
        return platform.processor()


def _git_commit() -> str | None:
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def is_main_process() -> bool:
    """Return whether this is the only process, or the first one under torchrun."""
    return int(os.environ.get("RANK", "0")) == 0

"""Memory of loader processes that go through 123,287 pairs of paths: a list of Path objects against our packed block.

    python benchmarks/worker_memory.py

Each process walks all pairs once, as an epoch does; then the kernel's proportional set sizes (shared pages counted once
over their sharers) of this process and its loader processes are added up.
"""

import os
import subprocess
import sys
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

from ladseg.data.pairs import PackedPairs

PAIRS = 123287


class Walk(Dataset):
    """Each sample is a walk over all pairs; then the process waits to be measured."""

    def __init__(self, pairs):
        self.pairs = pairs

    def __len__(self):
        return 64

    def __getitem__(self, index):
        return torch.tensor(sum(len(image.name) + len(mask.name) for image, mask in self.pairs))


def proportional_set_size() -> float:
    """Of this process and its children, MiB."""
    children = subprocess.run(["pgrep", "-P", str(os.getpid())], capture_output=True, text=True, check=False).stdout
    total = 0
    for process in (os.getpid(), *map(int, children.split())):
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except (OSError, ProcessLookupError):
            continue
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def measure(kind: str, workers: int) -> float:
    folder = "/data/coco_stuff/images/train2017"
    paths = [(Path(f"{folder}/{i:012d}.jpg"), Path(f"{folder}/{i:012d}.png")) for i in range(PAIRS)]
    pairs = paths if kind == "list" else PackedPairs(paths)
    del paths
    loader = iter(DataLoader(Walk(pairs), batch_size=1, num_workers=workers, prefetch_factor=1 if workers else None))
    for _ in range(2 * max(workers, 1)):
        next(loader)
    return proportional_set_size()


def main() -> None:
    if len(sys.argv) == 3:
        print(measure(sys.argv[1], int(sys.argv[2])))
        return
    print("loader processes   list of paths   packed")
    for workers in (0, 2, 4, 8):
        row = [
            float(subprocess.run([sys.executable, __file__, kind, str(workers)], capture_output=True, text=True).stdout)
            for kind in ("list", "packed")
        ]
        print(f"{workers:16d}   {row[0]:9.0f} MiB   {row[1]:6.0f} MiB")


if __name__ == "__main__":
    main()

"""Training samples a second from a disk that answers late: single files against shards.

    python benchmarks/network_disk.py --camvid ../shared/data/camvid

scales CamVid's frames to 640x480 JPEG, as COCO's mostly are, packs the same files into a shard, and reads samples of
crop 512 with loader processes while every answer of the disk is delayed: a single file costs two answers to open (its
path, its handle) and one to be read, a file in a shard one, as the shard is open. Sleeping takes no core, so more
processes than cores hide the delay, as they would on a network disk.
"""

import argparse
import os
import tarfile
import tempfile
import time
from pathlib import Path
from unittest import mock

import torch
from PIL import Image

from ladseg.data import open_dataset
from ladseg.data.loader import train_loader
from ladseg.data.pairs import Member
from ladseg.recipe import Data

OPENING, READING = 2, 1
CLASSES = [f"class {number}" for number in range(11)]


def make_tree(root: Path, camvid: Path, count: int) -> None:
    """Write the files twice: as a tree, and packed."""
    paths = sorted((camvid / "images/train").iterdir())[:count]
    for kind in ("images", "masks"):
        (root / f"tree/{kind}/train").mkdir(parents=True)
    with tarfile.open(root / "train-000000.tar", "w") as archive:
        for path in paths:
            image, mask = (root / f"tree/{kind}/train/{path.stem}" for kind in ("images", "masks"))
            image, mask = image.with_suffix(".jpg"), mask.with_suffix(".png")
            Image.open(path).resize((640, 480), Image.Resampling.BICUBIC).save(image, quality=92)
            Image.open(camvid / f"masks/train/{path.stem}.png").resize((640, 480), Image.Resampling.NEAREST).save(mask)
            for file in (image, mask):
                archive.add(file, file.name)


def pace(data: Data, latency: float, workers: int, images: int) -> float:
    """Return samples a second over all loader processes, which are forked with the delays in place."""
    dataset = open_dataset(data, "train")
    opened, read = Image.open, Member.read_bytes

    def late_open(source: object, *args: object) -> Image.Image:
        time.sleep(latency * (OPENING + READING) if isinstance(source, os.PathLike) else 0)
        return opened(source, *args)

    def late_read(member: Member) -> bytes:
        time.sleep(latency * READING)
        return read(member)

    with mock.patch.object(Image, "open", late_open), mock.patch.object(Member, "read_bytes", late_read):
        mean, std = (0.5,) * 3, (0.25,) * 3
        options = {"crop": (512, 512), "batch_size": 8, "seed": 0, "mean": mean, "std": std, "workers": workers}
        batches = iter(train_loader(dataset, **options, start_step=0, steps=2 + workers + images // 8))
        for _ in range(2 + workers):  # the processes have started and filled their queues
            next(batches)
        begin = time.perf_counter()
        count = sum(len(batch["label"]) for batch in batches)
        return count / (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camvid", type=Path, required=True, help="CamVid in the folder layout")
    parser.add_argument("--images", type=int, default=320, help="samples that are timed in each setting")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        make_tree(root, options.camvid, 64)
        sets = {
            "single files": Data(layout="folder", root=str(root / "tree"), classes=CLASSES, ignore_index=255),
            "shards": Data(layout="shards", root=str(root), classes=CLASSES, ignore_index=255),
        }
        print(
            "| latency of the disk | loader processes | " + " | ".join(f"{title}: samples/s" for title in sets) + " |"
        )
        print("|---|---|" + "---|" * len(sets))
        for latency in (0.0, 0.002, 0.010, 0.030):
            for workers in (2, 8):
                found = [pace(data, latency, workers, options.images) for data in sets.values()]
                print(
                    f"| {1000 * latency:.0f} ms | {workers} | " + " | ".join(f"{value:.0f}" for value in found) + " |"
                )


if __name__ == "__main__":
    main()

"""Pairs per second of `ladseg check` on a set like COCO-Stuff 164K, and of decoding the same files alone.

    python benchmarks/checking.py --camvid ../shared/data/camvid --pairs 12000

lays 500x375 JPEG images (from CamVid's frames) and PNG masks as COCO-Stuff 164K lies, by hard links to a few files, so
the files come from memory: what is measured is cores, not the disk. Both use one process a core.
"""

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from loading import frames
from PIL import Image
from torch.utils.data import DataLoader

from ladseg.data import find_split, survey
from ladseg.data.inspection import CHUNK
from ladseg.data.memory import keep_freed_memory
from ladseg.recipe import Data


class Decoded:
    """Image and mask as arrays, and nothing else done with them."""

    def __init__(self, pairs):
        self.pairs = pairs

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        image, mask = self.pairs[index]
        return np.array(Image.open(image).convert("RGB")).shape, np.array(Image.open(mask)).shape


def coco_tree(root: Path, camvid: Path, pairs: int) -> None:
    sources = []
    for index, (image, mask) in enumerate(frames(camvid)):
        paths = root / f"{index}.jpg", root / f"{index}.png"
        image.resize((500, 375), Image.Resampling.BICUBIC).save(paths[0], quality=92)
        mask.resize((500, 375), Image.Resampling.NEAREST).save(paths[1])
        sources.append(paths)
    for split, count in (("train2017", pairs - pairs // 24), ("val2017", pairs // 24)):
        for folder in ("images", "annotations"):
            (root / folder / split).mkdir(parents=True)
        for number in range(count):
            image, mask = sources[number % len(sources)]
            os.link(image, root / f"images/{split}/{number:012d}.jpg")
            os.link(mask, root / f"annotations/{split}/{number:012d}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camvid", type=Path, required=True, help="CamVid in the folder layout")
    parser.add_argument("--pairs", type=int, default=12000)
    options = parser.parse_args()
    keep_freed_memory()  # as `ladseg check` does
    with tempfile.TemporaryDirectory() as folder:
        coco_tree(Path(folder), options.camvid, options.pairs)
        data = Data(layout="coco_stuff_164k", root=folder)
        started = time.perf_counter()
        listing, _ = find_split(data, "train")
        print(f"listing: {len(listing.pairs)} pairs in {time.perf_counter() - started:.2f} s")
        chunks = [range(start, start + CHUNK) for start in range(0, len(listing.pairs) - CHUNK, CHUNK)]
        loader = DataLoader(Decoded(listing.pairs), batch_sampler=chunks, num_workers=os.cpu_count(), collate_fn=list)
        started = time.perf_counter()
        decoded = sum(len(batch) for batch in loader)
        floor = decoded / (time.perf_counter() - started)
        report = survey(data)
        pace = report.pairs / report.seconds
        print(f"decoding alone: {floor:.0f} pairs/s; ladseg check: {pace:.0f} pairs/s, {pace / floor:.2f} of it")
        print(f"at {pace:.0f} pairs/s the 123,287 pairs take {123287 / pace / 60:.1f} minutes")
        print(f"peak memory of the main process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()

"""A folder data set made smaller, for trainings that a processor can bear.

    python benchmarks/smaller_set.py ../shared/data/camvid camvid-half
    python benchmarks/smaller_set.py camvid-half camvid-quarter
    python benchmarks/smaller_set.py camvid-half camvid-40 --train 40

Each halves the size: images are averaged (box filter) and saved as PNG; of each 2x2 mask pixels the upper left one is
kept. ``--train`` keeps so many training images, spread evenly over their sorted names; validation stays whole.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from PIL import Image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--train", type=int, metavar="N", help="training images to keep (default: all)")
    arguments = parser.parse_args()
    for kind, resample in (("images", Image.Resampling.BOX), ("masks", Image.Resampling.NEAREST)):
        for split in ("train", "val"):
            paths = sorted((arguments.source / kind / split).iterdir())
            if split == "train" and arguments.train:
                paths = spread(paths, arguments.train)
            for path in paths:
                target = (arguments.target / path.relative_to(arguments.source)).with_suffix(".png")
                target.parent.mkdir(parents=True, exist_ok=True)
                with Image.open(path) as image:
                    image.resize((image.width // 2, image.height // 2), resample).save(target)
    for path in arguments.source.glob("*.txt"):
        shutil.copy(path, arguments.target)


def spread(paths: Sequence[Path], count: int) -> list[Path]:
    return [paths[round(index * (len(paths) - 1) / (count - 1))] for index in range(count)]


if __name__ == "__main__":
    main()

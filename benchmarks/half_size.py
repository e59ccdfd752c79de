"""A folder data set at half its size, for trainings that a processor can bear.

    python benchmarks/half_size.py ../shared/data/camvid /tmp/camvid-half

Images are averaged (box filter) and saved as PNG; of each 2x2 mask pixels the upper left one is kept.
"""

import argparse
import shutil
from pathlib import Path

from PIL import Image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    for kind, resample in (("images", Image.Resampling.BOX), ("masks", Image.Resampling.NEAREST)):
        for path in sorted((arguments.source / kind).rglob("*.*")):
            target = (arguments.target / path.relative_to(arguments.source)).with_suffix(".png")
            target.parent.mkdir(parents=True, exist_ok=True)
            with Image.open(path) as image:
                image.resize((image.width // 2, image.height // 2), resample).save(target)
    for path in arguments.source.glob("*.txt"):
        shutil.copy(path, arguments.target)


if __name__ == "__main__":
    main()

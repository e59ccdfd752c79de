"""A folder data set on disk, small and valid, for each test to spoil or read."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ladseg.recipe import Data

CLASSES = ["road", "car", "tree"]


@pytest.fixture
def data(tmp_path: Path) -> Data:
    """Five training and two validation pairs, 20 wide and 16 high; ids 0..2 and 11 for void."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 5), ("val", 2)):
        for kind in ("images", "masks"):
            (tmp_path / kind / split).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (16, 20, 3), dtype=np.uint8)).save(
                tmp_path / f"images/{split}/{i}.png"
            )
            mask = rng.choice(np.array([0, 1, 2, 11], dtype=np.uint8), (16, 20))
            Image.fromarray(mask).save(tmp_path / f"masks/{split}/{i}.png")
    return Data(root=str(tmp_path), classes=CLASSES, ignore_index=11)

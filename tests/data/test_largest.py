"""A file that claims an enormous image is named as too large; no memory is taken, and no advice given about memory."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from ladseg.data import largest
from ladseg.data.largest import as_large_as_memory, free_memory, too_many
from ladseg.data.layouts.coco_json import CocoDrawing
from ladseg.data.layouts.labelme import LabelmeDrawing
from ladseg.data.pairs import Blob, Labels
from ladseg.data.read import decode_image, decode_mask, image_size
from ladseg.errors import FileError
from tests.data.test_bad_inputs import png_of_size

SIDES = [1_000_000, 100_000, 2**31, 10**12]
# Formats hold sides of 32 bits, JPEG of 16.
OF_A_FILE = [1_000_000, 100_000, 65_500]


def png(side: int, folder: Path) -> Path:
    (folder / "x.png").write_bytes(png_of_size(side, side))
    return folder / "x.png"


def jpeg(side: int, folder: Path) -> Path:
    Image.new("RGB", (64, 64)).save(folder / "x.jpg")
    content = bytearray((folder / "x.jpg").read_bytes())
    start = content.index(b"\xff\xc0") + 5
    content[start : start + 4] = struct.pack(">HH", min(side, 65_500), min(side, 65_500))
    (folder / "x.jpg").write_bytes(content)
    return folder / "x.jpg"


def tiff(side: int, folder: Path) -> Path:
    tifffile.imwrite(folder / "x.tif", np.zeros((16, 16, 5), np.uint8), metadata=None, photometric="rgb")
    content = bytearray((folder / "x.tif").read_bytes())
    (start,) = struct.unpack("<I", content[4:8])
    (count,) = struct.unpack("<H", content[start : start + 2])
    for place in range(start + 2, start + 2 + 12 * count, 12):
        if struct.unpack("<H", content[place : place + 2])[0] in (256, 257):  # width and length
            content[place + 2 : place + 12] = struct.pack("<HII", 4, 1, side)
    (folder / "x.tif").write_bytes(content)
    return folder / "x.tif"


READERS: dict[str, Callable[[Path], Any]] = {
    "image": decode_image,
    "bands": lambda path: decode_image(path, None, 5),
    "mask": decode_mask,
    "size": image_size,
}


@pytest.mark.parametrize("side", OF_A_FILE)
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("make", [png, jpeg, tiff])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_header_that_claims_too_much(make: Any, reader: str, side: int, tmp_path: Path) -> None:
    path = make(side, tmp_path)
    with pytest.raises(FileError, match=rf"{path.name}: can't be read as .*too large: [0-9,]+ pixels") as caught:
        READERS[reader](path)
    assert "cut it into smaller ones" in str(caught.value)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", ["labelme", "labelme's mask", "coco", "coco without an annotation"])
def test_annotations_that_claim_too_much(kind: str, side: int, tmp_path: Path) -> None:
    Image.new("RGB", (24, 16)).save(tmp_path / "a.jpg")
    labels = Labels({"a": 1, "1": 1}, 0)
    drawing: CocoDrawing | LabelmeDrawing
    if kind.startswith("labelme"):
        shape = {"label": "a", "points": [[0, 0], [4, 0], [4, 4]], "shape_type": "polygon"}
        if kind != "labelme":
            shape = {"label": "a", "points": [[0, 0], [4, 4]], "shape_type": "mask", "mask": ""}
        content = {"imageHeight": side, "imageWidth": side, "shapes": [shape]}
        (tmp_path / "a.json").write_text(json.dumps(content))
        drawing = LabelmeDrawing(tmp_path / "a.json", tmp_path / "a.jpg", labels)
    else:
        annotations = [] if "without" in kind else [[1, "1", [[0, 0, 4, 0, 4, 4]], False]]
        record = json.dumps({"size": [side, side], "annotations": annotations}).encode()
        drawing = CocoDrawing(Blob("a.json, image 1", record), tmp_path / "a.jpg", labels)
    with pytest.raises(
        FileError, match=rf"a\.json.*: says that its image has {side}x{side} pixels \(too large"
    ) as caught:
        drawing.draw()
    assert "correct its size" in str(caught.value)


def test_the_largest_are_those_that_pillow_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert too_many(200) == ""
    assert too_many(201) == "too large: 201 pixels, where 200 are the most"


def test_windows_may_take_what_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1e8 < free_memory() < 1e14
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    monkeypatch.setattr(largest, "free_memory", lambda: 8_000)
    with as_large_as_memory():
        assert (too_many(1000), bool(too_many(1001))) == ("", True)
    assert Image.MAX_IMAGE_PIXELS == 100

"""Images of more than 8 bits a channel keep their levels, by one range from the check to the delivered file."""

import json
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ladseg.cli import main
from ladseg.data import open_dataset, survey
from ladseg.data.pairs import Blob
from ladseg.data.read import decode_image, read_image, scale_to_8_bits
from ladseg.deploy.predictor import load
from ladseg.deploy.student_header import make_header
from ladseg.errors import ModelError
from ladseg.recipe import Data
from ladseg.recipe_files import dump_recipe, load_recipe, make_recipe

RNG = np.random.default_rng(0)
TWELVE = np.linspace(0, 4095, 16 * 20).astype(np.uint16).reshape(16, 20)
COLOR = RNG.integers(0, 4096, (16, 20, 3)).astype(np.uint16)


def png_16(values: np.ndarray) -> bytes:
    """A 16-bit PNG, grey or RGB, byte by byte: Pillow can't write colour."""
    height, width = values.shape[:2]

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 16, 2 if values.ndim == 3 else 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(values: np.ndarray, order: str = "<", extra: int = 0) -> bytes:
    """An uncompressed TIFF of one strip: its bands are interleaved, those after the third are said to be extra."""
    height, width, bands = values.shape
    bits = values.dtype.itemsize * 8
    body = values.astype(values.dtype.newbyteorder(order)).tobytes()
    entries = 10 + bool(extra)
    after = 8 + len(body) + 2 + 12 * entries + 4
    short = lambda tag, value: struct.pack(order + "HHIHH", tag, 3, 1, value, 0)  # noqa: E731
    tags = [
        *(short(256, width), short(257, height), struct.pack(order + "HHII", 258, 3, bands, after), short(259, 1)),
        *(short(262, 2), struct.pack(order + "HHII", 273, 4, 1, 8), short(277, bands), short(278, height)),
        *(struct.pack(order + "HHII", 279, 4, 1, len(body)), short(284, 1)),
    ]
    if extra == 1:
        tags.append(short(338, 0))
    if extra == 2:
        tags.append(struct.pack(order + "HHIHH", 338, 3, 2, 0, 0))
    mark = b"II*\0" if order == "<" else b"MM\0*"
    directory = struct.pack(order + "H", len(tags)) + b"".join(tags) + struct.pack(order + "I", 0)
    return (
        mark
        + struct.pack(order + "I", 8 + len(body))
        + body
        + directory
        + struct.pack(order + f"{bands}H", *[bits] * bands)
    )


def expected(values: np.ndarray, low: int, high: int) -> np.ndarray:
    grey = np.rint((np.clip(values.astype(float), low, high) - low) * 255 / (high - low))
    return grey if grey.ndim == 3 else np.stack([grey] * 3, -1)


FILES = {
    "grey png": (png_16(TWELVE), TWELVE),
    "grey png of Pillow": (Blob, TWELVE),
    "rgb png": (png_16(COLOR), COLOR),
    "rgb tiff": (tiff(COLOR), COLOR),
    "big-endian rgb tiff": (tiff(COLOR, ">"), COLOR),
}


@pytest.mark.parametrize(("low", "high"), [(0, 4095), (100, 3000), (0, 65535)])
@pytest.mark.parametrize("name", FILES)
def test_the_range_becomes_0_to_255(name: str, low: int, high: int, tmp_path: Path) -> None:
    content, values = FILES[name]
    (tmp_path / "a").write_bytes(content if isinstance(content, bytes) else b"")
    if content is Blob:
        Image.fromarray(values).save(tmp_path / "a", format="PNG")
    pixels, header = decode_image(tmp_path / "a", (low, high))
    assert np.abs(pixels - expected(values, low, high)).max() <= 0.5
    assert header.values == (values.min(), values.max())
    if high == 4095:
        assert len(np.unique(pixels)) > 200


def test_a_rotated_16_bit_picture_is_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(TWELVE).save(tmp_path / "a.png", exif=exif)
    pixels = decode_image(tmp_path / "a.png", (0, 4095))[0]
    assert np.abs(pixels - np.rot90(expected(TWELVE, 0, 4095), -1)).max() <= 0.5


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (tiff(RNG.integers(0, 256, (16, 20, 4)).astype(np.uint8), extra=1), "image has 1 more channel than three"),
        (tiff(RNG.integers(0, 256, (16, 20, 5)).astype(np.uint8), extra=2), "image has 2 more channels than three"),
        (tiff(RNG.integers(0, 4096, (16, 20, 4)).astype(np.uint16), extra=1), "image has 1 more channel than three"),
        (RNG.integers(0, 256, (16, 20, 4)).astype(np.uint8), "an alpha channel that is not opaque everywhere"),
        (RNG.integers(0, 256, (16, 20, 2)).astype(np.uint8), "an alpha channel that is not opaque everywhere"),
    ],
)
def test_channels_that_are_dropped_are_a_warning(content: bytes | np.ndarray, words: str, tmp_path: Path) -> None:
    data = lay(tmp_path, {"train/x": content})
    (finding,) = [found for found in survey(data).findings if found.kind == "channels that are not used"]
    assert finding.level == "warning"
    assert words in finding.message
    assert len(finding.files) == 1


def lay(root: Path, extra: dict[str, bytes | np.ndarray] | None = None) -> Data:
    """Two training images and one to validate on, of 12 bits, and others beside them."""
    contents = {"train/a": TWELVE, "train/b": TWELVE[::-1] // 4, "val/c": TWELVE[:, ::-1], **(extra or {})}
    for seed, (name, content) in enumerate(contents.items()):
        for kind in ("images", "masks"):
            (root / kind / name).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            (root / f"images/{name}.tif").write_bytes(content)
        else:
            Image.fromarray(content).save(root / f"images/{name}.png")
        mask = np.random.default_rng(seed).integers(0, 2, (16, 20), dtype=np.uint8)
        Image.fromarray(mask).save(root / f"masks/{name}.png")
    return Data(root=str(root), classes=["a", "b"])


def test_the_check_reports_values_and_finds_the_range(tmp_path: Path) -> None:
    report = survey(lay(tmp_path))
    assert report.findings == []
    assert report.value_range == (0, 4095)
    assert report.splits[0].image_values == {"PNG I;16": (0, 4095)}
    eight = survey(
        lay(tmp_path / "8", {name: np.full((16, 20), 7, np.uint8) for name in ("train/a", "train/b", "val/c")})
    )
    assert eight.value_range is None
    assert eight.splits[0].image_values == {"PNG L": (7, 7)}


def test_a_stated_range_that_cuts_values_off_is_told(tmp_path: Path) -> None:
    data = Data(**{**vars(lay(tmp_path)), "value_range": (0, 1023)})
    found = [finding for finding in survey(data).findings if finding.kind == "values outside data.value_range"]
    assert [file for finding in found for file in finding.files] == [
        f"{tmp_path}/images/train/a.png",
        f"{tmp_path}/images/val/c.png",
    ]
    assert "image has values of 0..4095, which data.value_range [0, 1023] cuts off" in found[0].message


def test_from_the_check_to_the_delivered_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The range that the check finds is that of training, of the file, of eval and of predict."""
    lay(tmp_path / "data")
    assert main(["check", str(tmp_path / "data"), "--fix-hints"]) == 0
    printed = capsys.readouterr().out
    assert "value_range: [0, 4095]" in printed
    assert "0..4095" in printed
    values = {
        "data.root": tmp_path / "data",
        "data.classes": '["a","b"]',
        "data.ignore_index": 255,
        "student.model": "pspnet@test_resnet",
        "distill.method": "none",
        "schedule.iterations": 1,
        "schedule.batch_size": 2,
        "schedule.crop": "[16, 16]",
        "out": tmp_path / "run",
    }
    assert main(["train", "demo", *(word for key, value in values.items() for word in (f"--{key}", str(value)))]) == 0
    student = load(tmp_path / "run/student.safetensors", device="cpu")
    assert student.value_range == (0, 4095)
    assert list(student.header.data.recipe["value_range"]) == [0, 4095]
    image = tmp_path / "data/images/val/c.png"
    prediction = student.probabilities(image)
    assert prediction.equal(student.probabilities(read_image(image, (0, 4095))))
    with Image.open(image) as opened:
        assert prediction.equal(student.probabilities(opened))
    assert not prediction.equal(student.probabilities(read_image(image)))
    dataset = open_dataset(Data(**{**vars(lay(tmp_path / "data")), "value_range": (0, 4095)}), "val")
    assert dataset.read(0)[0].max() == 255
    weights = str(tmp_path / "run/student.safetensors")
    capsys.readouterr()
    assert main(["eval", weights, "--data", str(tmp_path / "data"), "--json", "-"]) == 0
    measured = json.loads(capsys.readouterr().out)
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert measured["mean_iou"] == pytest.approx(results["networks"]["baseline"]["mean_iou"])


BANDS = np.stack([TWELVE // 4, TWELVE, TWELVE * 16, TWELVE + 100], -1)
RANGES = ((0, 1023), (0, 4095), (0, 65535), (100, 4195))


@pytest.mark.parametrize("channels", [2, 4])
def test_each_band_may_have_its_range(channels: int) -> None:
    """Each comes out as it does alone."""
    bands, ranges = BANDS[..., :channels], RANGES[:channels]
    together = scale_to_8_bits(bands, ranges)
    alone = [scale_to_8_bits(bands[..., at], pair) for at, pair in enumerate(ranges)]
    assert together.dtype == np.uint8
    assert np.array_equal(together, np.stack(alone, -1))
    assert [(band.min(), band.max()) for band in alone] == [(0, 255)] * channels


def test_a_grey_image_gets_a_channel_a_range() -> None:
    pairs = ((0, 4095), (0, 8191), (0, 1023))
    expected = np.stack([scale_to_8_bits(TWELVE, pair) for pair in pairs], -1)
    pixels = decode_image(Blob("x.png", png_16(TWELVE)), pairs)[0]
    assert np.array_equal(pixels, expected)


@pytest.mark.parametrize(
    ("ranges", "found"),
    [
        (RANGES, None),
        (((0, 1023), (0, 4095), (0, 32767), (100, 4195)), "values of 0..65520 in channel 3, which .* [0, 32767] cuts"),
        (
            ((0, 1023), (0, 4095), (0, 65535), (200, 4195)),
            "values of 100..4195 in channel 4, which .* [200, 4195] cuts",
        ),
    ],
)
def test_what_a_bands_range_cuts_off_is_told(ranges: Any, found: str | None, tmp_path: Path) -> None:
    for split in ("train", "val"):
        for folder in ("images", "masks"):
            (tmp_path / folder / split).mkdir(parents=True)
        (tmp_path / f"images/{split}/x.tif").write_bytes(tiff(BANDS, extra=1))
        Image.fromarray((TWELVE > 2000).astype(np.uint8)).save(tmp_path / f"masks/{split}/x.png")
    data = Data(root=str(tmp_path), classes=["a", "b"], channels=4, value_range=list(ranges))
    report = survey(data)
    assert report.of_channels == [(0, 1023), (0, 4095), (0, 65535), (0, 8191)]
    messages = [each.message for each in report.findings if each.kind == "values outside data.value_range"]
    assert len(messages) == (0 if found is None else 2)
    assert all(re.search(found.replace("[", "\\["), message) for message in messages if found)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([0, 4095], (0, 4095)),
        ([[0, 4095], [0, 1], [7, 9]], ((0, 4095), (0, 1), (7, 9))),
        ([[0, 4095], [0, 1]], None),
        ([[0, 4095], [0, 1], [9, 7]], None),
        ([[0, 4095], 0, 1], None),
        ([], None),
    ],
)
def test_the_delivered_files_header_is_checked(value: Any, expected: Any) -> None:
    about = {"class_names": ["a", "b"], "value_range": value}
    values = {"model": "stdc1", "num_classes": 2, "mean": [0, 0, 0], "std": [1, 1, 1], "data": about}
    if expected is None:
        with pytest.raises(ModelError, match="value_range"):
            make_header(Path("w.safetensors"), values)
    else:
        assert make_header(Path("w.safetensors"), values).data.value_range == expected


@pytest.mark.parametrize("value", [None, [0, 4095], [[0, 1023], [0, 4095], [5, 9]]])
def test_a_recipe_with_ranges_is_read_back_equal(value: Any, tmp_path: Path) -> None:
    recipe = make_recipe({"data": {"value_range": value}})
    (tmp_path / "r.yaml").write_text(dump_recipe(recipe))
    assert load_recipe(tmp_path / "r.yaml") == recipe

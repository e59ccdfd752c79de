"""A hundred strange files, one at a time among good ones: each works or is named in one line, and none raises."""

import io
import os
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ladseg.cli import main
from ladseg.data import open_dataset, survey
from ladseg.errors import DataError
from ladseg.recipe import Data

WIDTH, HEIGHT = 24, 16
COLOR = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
IDS = np.random.default_rng(1).integers(0, 3, (HEIGHT, WIDTH), dtype=np.uint8)

# A case writes one image or mask of the pair 'x' below the root, and removes the good one it replaces.
Case = Callable[[Path], object]
IMAGE, MASK = "images/train/x.png", "masks/train/x.png"


def put(name: str, content: bytes | Image.Image, **options: object) -> Case:
    """A case that replaces the good file whose folder ``name`` shares."""

    def write(root: Path) -> None:
        (root / (IMAGE if name.startswith("images") else MASK)).unlink(missing_ok=True)
        path = root / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            content.save(path, **options)

    return write


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    memory = io.BytesIO()
    picture.save(memory, kind, **options)
    return memory.getvalue()


def rgb() -> Image.Image:
    return Image.fromarray(COLOR)


def ids(values: np.ndarray = IDS) -> Image.Image:
    return Image.fromarray(values)


def palette_png(values: np.ndarray = IDS, colors: int = 3, **options: object) -> bytes:
    picture = Image.frombytes("P", (WIDTH, HEIGHT), values.tobytes())
    picture.putpalette(np.random.default_rng(2).integers(0, 256, 3 * colors, dtype=np.uint8).tobytes())
    return encoded(picture, "PNG", **options)


def cut(content: bytes, part: float) -> bytes:
    return content[: int(len(content) * part)]


def flipped(content: bytes, place: float) -> bytes:
    """One byte changed; PNG's check sums notice, JPEG's entropy code may not."""
    index = int(len(content) * place)
    return content[:index] + bytes([content[index] ^ 0xFF]) + content[index + 1 :]


def png(header: tuple[int, ...], *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG chunk by chunk, as no library would write it."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    parts = ((b"IHDR", struct.pack(">IIBBBBB", *header)), *chunks, (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def png_of_size(width: int, height: int) -> bytes:
    """It says it is so large and holds nothing."""
    return png((width, height, 8, 2, 0, 0, 0), (b"IDAT", zlib.compress(b"")))


def palette_with_holes() -> bytes:
    """Ids up to 2, of which the palette has a colour for 0 alone."""
    rows = zlib.compress(b"".join(b"\x00" + row.tobytes() for row in IDS))
    return png((WIDTH, HEIGHT, 8, 3, 0, 0, 0), (b"PLTE", bytes(3)), (b"IDAT", rows))


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def animation(kind: str) -> bytes:
    frames = [Image.fromarray(np.roll(COLOR, shift, 0)) for shift in range(3)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


def linked(name: str, target: str) -> Case:
    def write(root: Path) -> None:
        (root / name).unlink(missing_ok=True)
        (root / name).symlink_to(target)

    return write


def folder_named(name: str) -> Case:
    def write(root: Path) -> None:
        (root / name).unlink()
        (root / name).mkdir()

    return write


def renamed(new: str) -> Case:
    def write(root: Path) -> None:
        (root / IMAGE).rename(root / f"images/train/{new}.png")
        (root / MASK).rename(root / f"masks/train/{new}.png")

    return write


def without_permission(name: str) -> Case:
    return lambda root: (root / name).chmod(0)


NO_UTF8 = b"caf\xe9"
JPEG, PNG = encoded(rgb(), "JPEG"), encoded(rgb(), "PNG")
MASK_PNG = encoded(ids(), "PNG")
WIDE = np.zeros((HEIGHT, WIDTH), np.uint16)

# What is used as it is. The mask's values, or the image's shape, are looked at below.
WORKS: dict[str, Case] = {
    "jpeg": put("images/train/x.jpg", JPEG),
    "progressive jpeg": put("images/train/x.jpg", encoded(rgb(), "JPEG", progressive=True)),
    "capital suffix": put("images/train/x.JPG", JPEG),
    "jpeg called png": put("images/train/x.png", JPEG),
    "png called jpg": put("images/train/x.jpg", PNG),
    "bmp": put("images/train/x.bmp", rgb()),
    "tiff": put("images/train/x.tif", rgb()),
    "tiff deflate": put("images/train/x.tiff", rgb(), compression="tiff_deflate"),
    "webp": put("images/train/x.webp", rgb(), lossless=True),
    "grey image": put("images/train/x.png", rgb().convert("L")),
    "grey jpeg": put("images/train/x.jpg", rgb().convert("L")),
    "grey and alpha": put("images/train/x.png", rgb().convert("LA")),
    "rgba": put("images/train/x.png", rgb().convert("RGBA")),
    "cmyk jpeg": put("images/train/x.jpg", rgb().convert("CMYK")),
    "cmyk tiff": put("images/train/x.tif", rgb().convert("CMYK")),
    "tiff with jpeg inside": put("images/train/x.tif", rgb(), compression="jpeg"),
    "lab tiff": put("images/train/x.tif", rgb().convert("LAB")),
    "palette image": put("images/train/x.png", rgb().quantize(16)),
    "palette image with transparent bytes": put(
        "images/train/x.png", encoded(rgb().quantize(4), "PNG", transparency=bytes([0, 128, 255, 255]))
    ),
    "one-bit image": put("images/train/x.png", rgb().convert("1")),
    "16-bit grey image": put("images/train/x.png", Image.fromarray(COLOR[..., 0].astype(np.uint16) * 257)),
    "16-bit grey tiff": put("images/train/x.tif", Image.fromarray(COLOR[..., 0].astype(np.uint16) * 257)),
    "image with a broken colour profile": put("images/train/x.png", rgb(), icc_profile=b"broken"),
    "image with odd dpi": put("images/train/x.jpg", rgb(), dpi=(1, 1)),
    "upright exif": put("images/train/x.jpg", encoded(rgb(), "JPEG", exif=exif(1))),
    "exif upside down": put("images/train/x.jpg", encoded(rgb(), "JPEG", exif=exif(3))),
    "exif mirrored": put("images/train/x.jpg", encoded(rgb(), "JPEG", exif=exif(2))),
    "exif quarter turn": put("images/train/x.jpg", encoded(rgb().rotate(90, expand=True), "JPEG", exif=exif(6))),
    "exif without meaning": put("images/train/x.jpg", encoded(rgb(), "JPEG", exif=exif(77))),
    "exif that is broken": put("images/train/x.jpg", encoded(rgb(), "JPEG", exif=b"Exif\x00\x00broken")),
    "bytes after the end": put("images/train/x.jpg", JPEG + b"more"),
    "png with bytes after the end": put("images/train/x.png", PNG + b"more"),
    "interlaced palette mask": put("masks/train/x.png", palette_png(interlace=1)),
    "palette mask": put("masks/train/x.png", palette_png()),
    "palette mask with holes": put("masks/train/x.png", palette_with_holes()),
    "palette mask of 256": put("masks/train/x.png", palette_png(IDS, colors=256)),
    "palette mask with transparency": put("masks/train/x.png", palette_png(transparency=0)),
    "2-bit palette mask": put("masks/train/x.png", palette_png(bits=2)),
    "one-bit mask": put("masks/train/x.png", ids(IDS % 2 * 255).convert("1")),
    "grey mask as rgb": put("masks/train/x.png", Image.merge("RGB", [ids()] * 3)),
    "grey mask as rgba": put("masks/train/x.png", Image.merge("RGBA", [*[ids()] * 3, ids(IDS * 0 + 255)])),
    "grey mask and alpha": put("masks/train/x.png", Image.merge("LA", [ids(), ids(IDS * 0 + 255)])),
    "16-bit mask of small ids": put("masks/train/x.png", Image.fromarray(WIDE + IDS)),
    "32-bit mask of small ids": put("masks/train/x.tif", Image.fromarray(IDS.astype(np.int32))),
    "tiff mask": put("masks/train/x.tif", ids()),
    "bmp mask": put("masks/train/x.bmp", ids()),
    "gif mask": put("masks/train/x.gif", encoded(Image.frombytes("P", (WIDTH, HEIGHT), IDS.tobytes()), "GIF")),
    "mask with a comment": put("masks/train/x.png", ids(), pnginfo=None, dpi=(72, 72)),
    "unicode name": renamed("žluťoučký kůň 漢字"),
    "space in the name": renamed("a  b"),
    "dots in the name": renamed("a.b.c"),
    "quotes in the name": renamed("it's \"so\""),
    "brackets in the name": renamed("[bold]x[red]"),
    "percent and braces": renamed("{stem}%s"),
    "newline in the name": renamed("a\nb"),
    "a name of 200 letters": renamed("x" * 200),
    "bytes that are no utf-8": renamed(os.fsdecode(NO_UTF8)),
    "a link to the file": lambda r: ((r / IMAGE).rename(r / "its.png"), (r / IMAGE).symlink_to(r / "its.png")),
    "a hidden file beside": lambda r: (r / "images/train/.x.png").write_bytes(b""),
    "a text file beside": lambda r: (r / "images/train/notes.txt").write_text("no image"),
    "Thumbs.db beside": lambda r: (r / "masks/train/Thumbs.db").write_bytes(b"\x00"),
    "macos file beside": lambda r: (r / "images/train/._x.png").write_bytes(b"\x00\x05"),
    "an empty folder beside": lambda r: (r / "images/train/more").mkdir(),
    "a link to its own folder": lambda r: (r / "images/train/loop").symlink_to(r / "images/train"),
}  # fmt: skip

# What is named, and the words that it is named with.
NAMED: dict[str, tuple[Case, str]] = {
    "zero bytes": (put("images/train/x.png", b""), "can't be read as an image"),
    "zero bytes jpeg": (put("images/train/x.jpg", b""), "can't be read as an image"),
    "one byte": (put("images/train/x.png", b"x"), "can't be read as an image"),
    "text": (put("images/train/x.png", b"<html>404</html>"), "can't be read as an image"),
    "signature alone": (put("images/train/x.png", PNG[:8]), "can't be read as an image"),
    "jpeg cut in the header": (put("images/train/x.jpg", cut(JPEG, 0.1)), "can't be read as an image"),
    "jpeg cut in half": (put("images/train/x.jpg", cut(JPEG, 0.5)), "can't be read as an image"),
    "jpeg cut near the end": (put("images/train/x.jpg", cut(JPEG, 0.9)), "can't be read as an image"),
    "png cut in half": (put("images/train/x.png", cut(PNG, 0.5)), "can't be read as an image"),
    "png cut near the end": (put("images/train/x.png", cut(PNG, 0.9)), "can't be read as an image"),
    "png with a wrong byte": (put("images/train/x.png", flipped(PNG, 0.5)), "can't be read as an image"),
    "png with a wrong header": (put("images/train/x.png", flipped(PNG, 20 / len(PNG))), "can't be read as an image"),
    "bmp cut": (put("images/train/x.bmp", cut(encoded(rgb(), "BMP"), 0.5)), "can't be read as an image"),
    "webp cut": (put("images/train/x.webp", cut(encoded(rgb(), "WEBP"), 0.5)), "can't be read as an image"),
    "tiff cut": (put("images/train/x.tif", cut(encoded(rgb(), "TIFF"), 0.5)), "can't be read as an image"),
    "gif cut": (put("images/train/x.gif", cut(encoded(rgb(), "GIF"), 0.5)), "can't be read as an image"),
    "a zip file": (put("images/train/x.png", b"PK\x03\x04" + bytes(100)), "can't be read as an image"),
    "a pdf": (put("images/train/x.jpg", b"%PDF-1.4 \n"), "can't be read as an image"),
    "an svg": (put("images/train/x.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "can't be read as an image"),
    "numpy file": (put("images/train/x.png", b"\x93NUMPY"), "can't be read as an image"),
    "decompression bomb": (put("images/train/x.png", png_of_size(60000, 60000)), "can't be read as an image"),
    "no width": (put("images/train/x.png", png_of_size(0, 16)), "can't be read as an image"),
    "no pixels": (put("images/train/x.png", png_of_size(24, 16)), "can't be read as an image"),
    "float image": (put("images/train/x.tif", Image.fromarray(COLOR[..., 0] / np.float32(255))), "32 bits a channel"),
    "32-bit image": (put("images/train/x.tif", Image.fromarray(COLOR[..., 0].astype(np.int32))), "32 bits a channel"),
    "animated gif": (put("images/train/x.gif", animation("GIF")), "an animation of 3 frames, of which the first"),
    "animated webp": (put("images/train/x.webp", animation("WEBP")), "an animation of 3 frames"),
    "animated png": (put("images/train/x.png", animation("PNG")), "an animation of 3 frames"),
    "one-pixel image": (put("images/train/x.png", Image.new("RGB", (1, 1))), "but its image .*x.png is 1x1"),
    "one-pixel mask": (put("masks/train/x.png", Image.new("L", (1, 1))), "mask is 1x1 but"),
    "huge image": (put("images/train/x.png", Image.new("RGB", (12000, 8000))), "is 12000x8000"),
    "mask of the turned image": (
        put("images/train/x.jpg", encoded(rgb(), "JPEG", exif=exif(6))),
        "the image is turned by its EXIF orientation, the mask is not",
    ),
    "mask zero bytes": (put("masks/train/x.png", b""), "can't be read as a mask"),
    "mask cut": (put("masks/train/x.png", cut(MASK_PNG, 0.7)), "can't be read as a mask"),
    "mask with a wrong byte": (put("masks/train/x.png", flipped(MASK_PNG, 0.6)), "can't be read as a mask"),
    "mask as jpeg": (put("masks/train/x.png", encoded(ids(IDS * 100), "JPEG")), "mask has values .* but there are 3"),
    "mask of 0 and 254": (put("masks/train/x.png", ids(np.where(IDS > 0, 254, 0).astype(np.uint8))), "value 254"),
    "mask all ignored": (put("masks/train/x.png", ids(IDS * 0 + 255)), "mask is all ignored"),
    "16-bit instance ids": (put("masks/train/x.png", Image.fromarray(WIDE + 26001)), "values up to 26001"),
    "16-bit 65535": (put("masks/train/x.png", Image.fromarray(WIDE + 65535)), "values up to 65535"),
    "negative ids": (put("masks/train/x.tif", Image.fromarray(IDS.astype(np.int32) - 1)), "more than 8 bits hold"),
    "float mask": (put("masks/train/x.tif", Image.fromarray(IDS.astype(np.float32))), "floating-point values"),
    "colour mask": (put("masks/train/x.png", rgb()), "mask is in colour"),
    "colour mask with alpha": (put("masks/train/x.png", rgb().convert("RGBA")), "mask is in colour"),
    "cmyk mask": (put("masks/train/x.tif", rgb().convert("CMYK")), "mask is in colour"),
    "palette mask of unknown ids": (put("masks/train/x.png", palette_png(IDS + 7, colors=16)), "values 7, 8, 9"),
    "a folder called x.png": (folder_named(IMAGE), "image without mask|mask without image"),
    "a link to itself": (linked(IMAGE, "x.png"), "can't be read as an image"),
    "a link to nothing": (linked(MASK, "/nowhere/x.png"), "can't be read as a mask"),
    "links in a ring": (
        lambda r: (linked(IMAGE, "y.png")(r), linked("images/train/y.png", "x.png")(r)),
        "can't be read as an image|image without mask",
    ),
    "no mask": (lambda r: (r / MASK).unlink(), "image without mask"),
    "no image": (lambda r: (r / IMAGE).unlink(), "mask without image"),
    "two images of one name": (lambda r: (r / "images/train/x.jpg").write_bytes(JPEG), "a second file called 'x'"),
    "mask with another capital": (lambda r: (r / MASK).rename(r / "masks/train/X.png"), "image without mask"),
    "a strange name that stands alone": (
        lambda r: (r / IMAGE).rename(r / "images/train" / os.fsdecode(NO_UTF8 + b"\nx.png")),
        r"caf\\xe9\\nx.png: image without mask",
    ),
    "the same picture in both splits": (
        lambda r: (r / "images/val/c.png").write_bytes((r / IMAGE).read_bytes()),
        "the same picture as .*x.png of 'train'",
    ),
    "the same picture twice": (
        lambda r: (r / "images/train/a.png").write_bytes((r / IMAGE).read_bytes()),
        "the same picture as",
    ),
}  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Data:
    """Pairs a and x to train on, c to validate on; three classes."""
    for shift, name in enumerate(["train/x", "train/a", "val/c"]):
        for kind in ("images", "masks"):
            (tmp_path / kind / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.roll(COLOR, shift, 1)).save(tmp_path / f"images/{name}.png")
        ids(np.roll(IDS, shift, 1)).save(tmp_path / f"masks/{name}.png")
    return Data(root=str(tmp_path), classes=["a", "b", "c"])


def test_there_are_a_hundred() -> None:
    assert len(WORKS) + len(NAMED) >= 100


@pytest.mark.parametrize("name", WORKS)
def test_it_works(name: str, data: Data) -> None:
    WORKS[name](Path(data.root))
    report = survey(data)
    assert [finding.message for finding in report.findings] == []
    dataset = open_dataset(data, "train")
    for index in range(2):
        image, label = dataset.read(index)
        assert image.shape == (3, HEIGHT, WIDTH)
        assert label.shape == (HEIGHT, WIDTH)
        assert image.float().std() > 40
    if name not in ("one-bit mask",):
        wanted = [np.roll(IDS, shift, 1).tolist() for shift in (0, 1)]
        assert sorted(dataset.read(index)[1].tolist() for index in range(2)) == sorted(wanted)


def test_pictures_are_read_as_they_look(data: Data) -> None:
    """Of what has several encodings, the pixels: 16-bit grey is not cut off, CMYK and EXIF come out as they went in."""
    grey = COLOR[..., :1].repeat(3, 2)
    turned = np.array(rgb().rotate(180))
    for name, expected, tolerance in (
        ("16-bit grey image", grey, 0),
        ("16-bit grey tiff", grey, 0),
        ("cmyk tiff", COLOR, 2),
        ("rgba", COLOR, 0),
        ("exif upside down", turned, 80),
    ):
        WORKS[name](Path(data.root))
        image = open_dataset(data, "train").read(1)[0].permute(1, 2, 0).numpy().astype(int)
        assert np.abs(image - expected).mean() <= tolerance, name
        for extra in (Path(data.root) / "images/train").glob("x.*"):
            extra.unlink()
        rgb().save(Path(data.root) / IMAGE)


@pytest.mark.parametrize("name", NAMED)
def test_it_is_named_in_one_line(name: str, data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    spoil, words = NAMED[name]
    spoil(Path(data.root))
    messages = [finding.message + "; " + finding.hint for finding in survey(data).findings]
    assert any(re.search(words, message) for message in messages), messages
    assert all("\n" not in message for message in messages)
    capsys.readouterr()
    code = main(["check", data.root, "--data.classes", '["a","b","c"]', "--json", "-"])
    assert code in (1, 2)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", [IMAGE, MASK, "images/train", "masks"])
def test_missing_permission(name: str, data: Data) -> None:
    without_permission(name)(Path(data.root))
    try:
        messages = [finding.message for finding in survey(data).findings]
    except DataError as error:
        messages = [str(error)]
    finally:
        (Path(data.root) / name).chmod(0o755)
    assert re.search("Permission denied|no such folder|can't be listed", messages[0])


def test_all_at_once_through_the_command(tmp_path: Path) -> None:
    """One data set with every file that is named by itself: status 2, no traceback, each file in the report."""
    for kind in ("images", "masks"):
        for split in ("train", "val"):
            (tmp_path / kind / split).mkdir(parents=True)
    for place, name in enumerate(NAMED):
        root = tmp_path / "one" / str(place)
        for kind in ("images", "masks"):
            (root / kind / "train").mkdir(parents=True)
            (root / kind / "val").mkdir(parents=True)
        rgb().save(root / IMAGE)
        ids().save(root / MASK)
        rgb().save(root / "images/train/a.png")
        NAMED[name][0](root)
        for path in [*root.glob("images/*/*"), *root.glob("masks/*/*")]:
            path.rename(tmp_path / path.relative_to(root).parent / f"{place}_{path.name}")
    rgb().save(tmp_path / "images/val/good.png")
    ids().save(tmp_path / "masks/val/good.png")
    command = [sys.executable, "-m", "ladseg", "check", str(tmp_path), "--data.classes", '["a","b","c"]']
    done = subprocess.run(
        [*command, "--html", str(tmp_path / "page.html")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stdout + done.stderr
    assert "kinds of error and" in done.stdout
    assert (tmp_path / "page.html").stat().st_size > 5000


def test_a_picture_drawn_over_masks_of_another_size_is_told(data: Data) -> None:
    """Sizes that differ by a row are told too, and a good recipe stays good after the pair is repaired."""
    Image.fromarray(IDS[:-1]).save(Path(data.root) / MASK)
    assert [finding.kind for finding in survey(data).findings] == ["sizes differ"]
    ids().save(Path(data.root) / MASK)
    assert survey(replace(data, workers=0)).level == 0

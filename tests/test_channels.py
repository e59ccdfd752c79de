"""Images of one, two or many channels and of 8 to 16 bits, from the file to the delivered network."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import yaml
from PIL import Image
from timm.models import adapt_input_conv
from torch import Tensor, nn

from ladseg.cli import main
from ladseg.commands.init import propose_recipe
from ladseg.data import check_dataset, keep_decoded, open_dataset, survey
from ladseg.data.bands import bands_in, pictured
from ladseg.data.pairs import Blob
from ladseg.data.read import decode_image, read_image, scale_to_8_bits
from ladseg.data.statistics import channel_statistics
from ladseg.data.transforms import augment
from ladseg.deploy.export import export_student
from ladseg.deploy.predictor import load
from ladseg.deploy.teacher_file import load_teacher
from ladseg.errors import DataError, FileError, RecipeError
from ladseg.evaluation import Inference
from ladseg.models import build_model
from ladseg.models.adapt import adapt
from ladseg.models.image_channels import take_channels
from ladseg.objectives import LabelAssisted, segmenter
from ladseg.outputs import SegmentationOutput
from ladseg.recipe import Augment, Data
from ladseg.recipe_files import make_recipe
from ladseg.runs.validation import by_argmax_of_both

RNG = np.random.default_rng(0)
EIGHT = RNG.integers(0, 256, (20, 24, 5)).astype(np.uint8)
TWELVE = RNG.integers(0, 4096, (20, 24, 5)).astype(np.uint16)
WAYS: dict[str, dict[str, Any]] = {
    "bands interleaved": {"photometric": "minisblack", "planarconfig": "contig"},
    "bands as planes": {"photometric": "minisblack", "planarconfig": "separate"},
    "compressed by LZW": {"photometric": "minisblack", "planarconfig": "contig", "compression": "lzw"},
    "deflated, big-endian": {"photometric": "minisblack", "planarconfig": "separate", "compression": "zlib",
                             "byteorder": ">"},
    "in tiles": {"photometric": "minisblack", "planarconfig": "contig", "tile": (16, 16)},
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("values", [EIGHT, TWELVE], ids=["8 bits", "12 bits"])
@pytest.mark.parametrize("channels", [2, 4, 5])
def test_bands_of_tiff_files(way: str, values: np.ndarray, channels: int, tmp_path: Path) -> None:
    values, options = values[..., :channels], WAYS[way]
    stored = values.transpose(2, 0, 1) if options["planarconfig"] == "separate" else values
    tifffile.imwrite(tmp_path / "x.tif", stored, **options)
    expected = values if values.dtype == np.uint8 else scale_to_8_bits(values, (0, 4095))
    for source in (tmp_path / "x.tif", Blob("x.tif", (tmp_path / "x.tif").read_bytes())):
        pixels, header = decode_image(source, (0, 4095), channels)
        assert np.array_equal(pixels, expected)
        assert header.bits == (8 if values.dtype == np.uint8 else 16)


def test_grey_images_of_one_channel(tmp_path: Path) -> None:
    grey, deep = EIGHT[..., 0], TWELVE[..., 0]
    tifffile.imwrite(tmp_path / "deep.tif", deep)
    for name, pixels in {"L.png": grey, "L.bmp": grey, "deep.png": deep}.items():
        Image.fromarray(pixels).save(tmp_path / name)
    Image.fromarray(np.stack([grey] * 3, -1)).save(tmp_path / "RGB.png")
    for name in ("L.png", "L.bmp", "RGB.png"):
        assert np.array_equal(read_image(tmp_path / name, None, 1)[0].numpy(), grey)
    for name in ("deep.png", "deep.tif"):
        assert np.array_equal(read_image(tmp_path / name, (0, 4095), 1)[0], scale_to_8_bits(deep, (0, 4095)))


def test_alpha_is_the_fourth_channel(tmp_path: Path) -> None:
    Image.fromarray(EIGHT[..., :4], "RGBA").save(tmp_path / "x.png")
    assert np.array_equal(decode_image(tmp_path / "x.png", None, 4)[0], EIGHT[..., :4])


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (EIGHT[..., :3], r"x\.tif: image has 3 channels, but data\.channels is 5"),
        (
            EIGHT.astype(np.float32) / 255,
            r"x\.tif: image has values of type float32, from 0 to 1; save it with 8 or 16",
        ),
        (EIGHT.astype(np.int16) - 9, r"x\.tif: image has values of type int16, from -9"),
    ],
)
def test_other_files_are_refused_in_one_line(pixels: np.ndarray, words: str, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", pixels, photometric="minisblack", planarconfig="contig")
    with pytest.raises(FileError, match=words):
        decode_image(tmp_path / "x.tif", None, 5)


def test_spoilt_tiff_files_are_refused_in_one_line(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", EIGHT, photometric="minisblack", planarconfig="contig")
    whole = (tmp_path / "x.tif").read_bytes()
    for length in (0, 7, 100, len(whole) // 2):
        (tmp_path / "x.tif").write_bytes(whole[:length])
        with pytest.raises(FileError, match=r"x\.tif: can't be read as TIFF"):
            decode_image(tmp_path / "x.tif", None, 5)


def lay(root: Path, channels: int, dtype: type = np.uint16) -> dict[str, Any]:
    """Six training and two validation images of two classes, which band 0 tells apart."""
    rng = np.random.default_rng(1)
    for split, count in (("train", 6), ("val", 2)):
        for folder in ("images", "masks"):
            (root / folder / split).mkdir(parents=True)
        for number in range(count):
            mask = (rng.random((9, 10)) < 0.5).astype(np.uint8).repeat(8, 0).repeat(8, 1)
            pixels = rng.integers(0, 2000, (72, 80, channels))
            pixels[..., 0] += 2000 * mask.astype(int)
            pixels = (pixels if dtype is np.uint16 else pixels // 16).astype(dtype)
            name = root / f"images/{split}/{number}.tif"
            colors = "rgb" if channels == 3 else "minisblack"
            tifffile.imwrite(name, pixels.squeeze(), photometric=colors, planarconfig="contig")
            Image.fromarray(mask).save(root / f"masks/{split}/{number}.png")
    return {"root": str(root), "classes": ["a", "b"], "channels": channels}


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_statistics_are_those_of_numpy(channels: int, tmp_path: Path) -> None:
    dataset = open_dataset(Data(**lay(tmp_path, channels, np.uint8 if channels == 3 else np.uint16)), "train")
    pixels = np.concatenate([dataset.read(i)[0].flatten(1).numpy() for i in range(6)], 1).astype(np.float64) / 255
    mean, std = channel_statistics(dataset)
    np.testing.assert_allclose(mean, pixels.mean(1), rtol=1e-12)
    np.testing.assert_allclose(std, pixels.std(1), rtol=1e-12)


def test_the_cache_keeps_bands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    dataset = open_dataset(Data(**lay(tmp_path / "d", 5)), "train")
    kept = keep_decoded(dataset, "disk")
    assert all(torch.equal(a, b) for i in range(6) for a, b in zip(dataset.read(i), kept.read(i), strict=True))


class Unshuffled(nn.Module):
    """Space to depth, in torch's order or pixel by pixel, then a convolution."""

    def __init__(self, by_pixel: bool) -> None:
        super().__init__()
        self.by_pixel = by_pixel
        self.conv = nn.Conv2d(12, 3, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        n, c, h, w = image.shape
        blocks = image.view(n, c, h // 2, 2, w // 2, 2)
        order = (0, 3, 5, 1, 2, 4) if self.by_pixel else (0, 1, 3, 5, 2, 4)
        return self.conv(blocks.permute(order).reshape(n, 4 * c, h // 2, w // 2))


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1, groups=3)

    def forward(self, image: Tensor) -> Tensor:
        return self.conv(image)


NETWORKS = {
    "resnet": lambda: build_model("pspnet@test_resnet", 3),
    "vit": lambda: build_model("fcn@test_vit", 3),
    "stdc": lambda: build_model("stdc1", 3),
    "space to depth": lambda: adapt(Unshuffled(False)),
    "space to depth by pixel": lambda: adapt(Unshuffled(True)),
    "grouped": lambda: adapt(Grouped()),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_an_image_of_repeated_channels_gives_what_rgb_gave(name: str, channels: int) -> None:
    """Six channels that are RGB twice, and one that all of RGB are, are the same to the network."""
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    rgb = torch.rand(1, 3, 64, 64)
    rgb = rgb[:, :1].expand(-1, 3, -1, -1) if channels == 1 else rgb
    with torch.no_grad():
        before = network(rgb).logits
        take_channels(network, channels)
        assert network.in_channels == channels
        after = network(rgb.repeat(1, 2, 1, 1)[:, :channels]).logits
        teacher = LabelAssisted(network, 3).eval()
        assisted = teacher(torch.rand(1, channels, 64, 64), torch.zeros(1, 64, 64, dtype=torch.long)).logits
    assert segmenter(teacher).in_channels == channels + 1
    assert assisted.shape == after.shape == before.shape
    if channels != 2:
        torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4)


def first_weight(network: nn.Module) -> Tensor:
    return next(module.weight for module in network.modules() if isinstance(module, nn.Conv2d))


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_first_layers_are_timms(channels: int) -> None:
    torch.manual_seed(0)
    rgb = first_weight(build_model("pspnet@test_resnet", 3))
    torch.manual_seed(0)
    ours = first_weight(build_model("pspnet@test_resnet", 3, image_channels=channels))
    torch.testing.assert_close(ours, adapt_input_conv(channels, rgb))


def test_colours_of_five_channels() -> None:
    """Brightness and contrast about the mean of all channels, then the cut at 0 and 255; no saturation."""
    image, label = torch.from_numpy(EIGHT).permute(2, 0, 1), torch.zeros(20, 24, dtype=torch.uint8)
    mean, std = torch.linspace(0.3, 0.6, 5), torch.linspace(0.1, 0.3, 5)
    plain, jittered = (
        augment(image, label, (20, 24), mean, std, torch.Generator().manual_seed(3), settings)[0] * std[:, None, None]
        + mean[:, None, None]
        for settings in (Augment(scale=[1, 1], flip=0, color="none"), Augment(scale=[1, 1], flip=0))
    )
    torch.testing.assert_close(plain * 255, image.float(), atol=1e-3, rtol=0)
    inside = (jittered > 1e-4) & (jittered < 1 - 1e-4)
    slope = np.polyfit(plain[inside], jittered[inside], 1)
    torch.testing.assert_close(jittered, (plain * slope[0] + slope[1]).clamp(0, 1).float(), atol=1e-4, rtol=0)
    for settings in (Augment(rotate=20), Augment(blur=1), Augment(cutout=1), Augment(color="none", vertical_flip=1)):
        assert augment(image, label, (16, 16), mean, std, torch.Generator(), settings)[0].shape == (5, 16, 16)


def test_a_picture_shows_three_channels_or_one() -> None:
    image = torch.from_numpy(EIGHT).permute(2, 0, 1)
    for channels, expected in ((5, [0, 1, 2]), (3, [0, 1, 2]), (2, [0, 0, 0]), (1, [0, 0, 0])):
        assert np.array_equal(pictured(image[:channels]), EIGHT[..., expected])


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"data": {"channels": 4, "mean": [0.5] * 3, "std": [0.2] * 3}}, r"data\.mean has 3 numbers, but"),
        ({"data": {"mean": [0.5] * 3}}, r"data\.mean and data\.std go together"),
        ({"data": {"channels": 4}, "augment": {"color": "photometric"}}, "photometric is of red, green and blue"),
        ({"data": {"channels": 4}, "student": {"input": "bgr"}}, "bgr is of three channels"),
        ({"data": {"channels": 1, "mean": [0.5], "std": [0.0]}}, r"data\.std\[0\]"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_are_refused(section: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        make_recipe(section)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_windows_of_an_image_and_its_label(channels: int) -> None:
    """A network of single pixels predicts the same in windows, whatever the number of channels before the label."""

    def network(batch: dict[str, Tensor]) -> SegmentationOutput:
        image, label = batch["image"], batch["label"]
        assert image.shape[1] == channels
        return SegmentationOutput.of(torch.stack([image.sum(1), label.float(), image[:, -1] * label], 1))

    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, channels, 40, 50, generator=generator)
    batch = {"image": image, "label": torch.randint(0, 3, (1, 40, 50), generator=generator)}
    windowed = by_argmax_of_both(network, Inference(window=(24, 20)))
    assert torch.equal(windowed(batch), by_argmax_of_both(network, Inference())(batch))


@pytest.mark.parametrize("channels", [1, 5])
def test_from_check_to_the_exported_file(
    channels: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = lay(tmp_path / "d", channels)
    recipe = {
        "data": data,
        "student": {"model": "pspnet@test_resnet"},
        "schedule": {"iterations": 2, "batch_size": 2, "crop": [32, 32], "precision": "fp32"},
        "trackers": [],
        "out": "run",
    }
    Path("r.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["train", "r.yaml"]) == 2
    assert "needs data.mean and data.std; 'ladseg check RECIPE --stats' prints them" in capsys.readouterr().err
    assert main(["check", "r.yaml", "--stats", "--html", "check.html"]) in (0, 1)
    lines = capsys.readouterr().out.split("training images:\n")[1]
    found = yaml.safe_load(lines)["data"]
    assert found["channels"] == channels
    # Its first band uses a bit more than the others.
    ranges = [0, 4095] if channels == 1 else [[0, 4095], *[[0, 2047]] * 4]
    assert found["value_range"] == ranges
    Path("r.yaml").write_text(yaml.safe_dump({**recipe, "data": {**data, **found}}))
    assert main(["train", "r.yaml"]) == 0, capsys.readouterr().err
    assert Path("run/picture.png").is_file()

    student = load("run/student.safetensors", device="cpu")
    assert (student.header.channels, student.network.in_channels) == (channels, channels)
    teacher = load_teacher(Path("run/teacher.safetensors"))
    assert segmenter(teacher).in_channels == channels + 1
    file = tmp_path / "d/images/val/0.tif"
    stored = tifffile.imread(file).reshape(72, 80, channels).astype(np.float32)
    steps = np.float32([255 / 4095, *[255 / 2047] * (channels - 1)])
    pixels = torch.from_numpy(np.rint(stored * steps).astype(np.uint8)).permute(2, 0, 1)
    assert torch.equal(read_image(file, student.value_range, channels), pixels)
    ids = student.predict(file)
    assert torch.equal(ids, student.predict(pixels))
    assert torch.equal(ids, student.predict(pixels.permute(1, 2, 0).numpy()))
    with pytest.raises(ValueError, match=f"expected \\({channels}, H, W\\)"):
        student.predict(torch.zeros(3, 8, 8, dtype=torch.uint8))

    if channels == 5:
        exported = export_student("run/student.safetensors", to="torch", normalize=True, out="s.pt2")
        assert exported.measured[0].shape[1] == channels
        assert main(["eval", "s.pt2", "--data", str(tmp_path / "d")]) == 0
    assert main(["eval", "run", "--data", str(tmp_path / "d")]) == 0
    assert main(["predict", "run", str(file), "--out", "seen"]) == 0
    with Image.open("seen/overlays/0.jpg") as overlay:
        assert overlay.size == (80, 72)
    student.save_pretrained("hub")
    assert f"Images have {channels} channels" in Path("hub/README.md").read_text()
    assert main(["train", "r.yaml", "--teacher-from", "run", "--out", "second"]) == 0
    capsys.readouterr()
    wider = ["--data.value_range", "[0, 8191]", "--out", "third"]
    assert main(["train", "r.yaml", "--teacher-from", "run", *wider]) == 2
    told = capsys.readouterr().err
    assert f"its 16-bit images were scaled by data.value_range {ranges}, those of the data are by [0, 8191]" in told
    assert not Path("third/baseline").exists()


def test_init_finds_the_number_of_bands(tmp_path: Path) -> None:
    lay(tmp_path, 5)
    seen, text = propose_recipe(str(tmp_path))
    assert yaml.safe_load(text)["data"]["channels"] == 5
    assert any("Images have 5 channels" in line for line in seen)


@pytest.mark.parametrize(
    ("bands", "extra", "expected"),
    [(3, None, 3), (4, "unassalpha", 3), (4, "assocalpha", 3), (4, "unspecified", 4), (5, "unspecified", 5)],
)
def test_alpha_is_no_band(bands: int, extra: str | None, expected: int, tmp_path: Path) -> None:
    samples = None if extra is None else [extra] * (bands - 3)
    tifffile.imwrite(tmp_path / "x.tif", EIGHT[..., :bands], photometric="rgb", extrasamples=samples)
    assert bands_in(tmp_path / "x.tif") == expected


def test_the_check_reports_bands_and_bits(tmp_path: Path) -> None:
    report = survey(Data(**lay(tmp_path, 5)))
    assert report.value_range == (0, 4095)
    assert report.splits[0].image_kinds == {"TIFF of 5 channels": 6}
    assert not [finding for finding in report.findings if finding.level == "error"]
    with pytest.raises(DataError, match=r"has 5 channels, but data\.channels is 4"):
        check_dataset(Data(root=str(tmp_path), classes=["a", "b"], channels=4))

"""Each key of the augmentation against another library or its definition; all of it a function of the seed."""

import colorsys
import itertools
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as V

from ladseg.data import open_dataset, photometric, train_loader, transforms
from ladseg.data.transforms import augment
from ladseg.errors import RecipeError
from ladseg.recipe import Augment, Data
from ladseg.recipe_files import make_recipe

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
NOTHING = Augment(scale=[1.0, 1.0], flip=0.0, color="none")


def scene(height: int = 40, width: int = 56) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    image = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
    label = torch.randint(0, 4, (height // 8, width // 8), generator=generator).to(torch.uint8)
    return image, label.repeat_interleave(8, 0).repeat_interleave(8, 1)


def shown(settings: Augment, seed: int = 0, crop: tuple[int, int] = (40, 56)) -> tuple[Tensor, Tensor]:
    """The augmented scene, its image back in 0..255."""
    image, label = scene()
    image, label = augment(image, label, crop, MEAN, STD, torch.Generator().manual_seed(seed), settings)
    return (image * STD[:, None, None] + MEAN[:, None, None]) * 255, label


def with_keys(**keys: Any) -> Augment:
    return Augment(**{**vars(NOTHING), **keys})


def test_nothing_leaves_the_image_as_it_is() -> None:
    image, label = scene()
    found, labels = shown(NOTHING)
    torch.testing.assert_close(found, image.float(), rtol=0, atol=1e-3)
    assert torch.equal(labels, label)


@pytest.mark.parametrize("settings", [Augment(), with_keys(color="photometric", rotate=30.0, blur=0.5, cutout=0.5)])
def test_draws_come_from_the_generator_alone(settings: Augment) -> None:
    torch.manual_seed(1)
    first = shown(settings, 3)
    torch.manual_seed(2)
    second = shown(settings, 3)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], shown(settings, 4)[0])


@pytest.mark.parametrize(
    ("keys", "change"), [({"flip": 1.0}, lambda x: x.flip(-1)), ({"vertical_flip": 1.0}, lambda x: x.flip(-2))]
)
def test_flips(keys: dict, change: Any) -> None:
    image, label = scene()
    found, labels = shown(with_keys(**keys))
    torch.testing.assert_close(found, change(image).float(), rtol=0, atol=1e-3)
    assert torch.equal(labels, change(label))


def test_cirkds_factors_are_half_to_double_in_tenths() -> None:
    settings = with_keys(scale=[0.5, 2.0], scale_step=0.1)
    generator = torch.Generator().manual_seed(0)
    drawn = [round(transforms._scale(generator, settings), 6) for _ in range(600)]
    expected = [round(0.5 + k / 10, 6) for k in range(16)]
    assert sorted(set(drawn)) == expected
    assert all(20 < drawn.count(factor) < 60 for factor in expected)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((500, 375), 512 / 375), ((375, 500), 512 / 375), ((400, 2000), 2048 / 2000), ((1024, 2048), 0.5)],
)
def test_rescaling_is_mmcvs(size: tuple[int, int], expected: float) -> None:
    """imrescale: min(long / larger side, short / smaller side); VOC's 500x375 becomes 683x512."""
    label = torch.zeros(size, dtype=torch.uint8)
    settings = with_keys(rescale=[2048, 512])
    _, found = transforms._choose_window(label, (4096, 4096), torch.Generator().manual_seed(0), settings)
    assert found == tuple(round(side * expected) for side in size)


def test_without_antialiasing_images_shrink_as_opencv_does_it() -> None:
    """Bilinear between the two nearest pixel centres on each axis, however many lie between."""
    image, _ = scene()
    settings = with_keys(scale=[0.5, 0.5], antialias=False)
    found = shown(settings)[0][:, :20, :28]
    for y, x in itertools.product(range(0, 20, 3), range(0, 28, 5)):
        v, u = 2 * (y + 0.5) - 0.5, 2 * (x + 0.5) - 0.5
        top, left = int(v), int(u)
        a, b = v - top, u - left
        block = image[:, top : top + 2, left : left + 2].double()
        rows = block[:, 0] * (1 - a) + block[:, 1] * a
        expected = rows[:, 0] * (1 - b) + rows[:, 1] * b
        torch.testing.assert_close(found[:, y, x].double(), expected, rtol=0, atol=1.01)  # rounded on each axis
    smooth = shown(with_keys(scale=[0.5, 0.5]))[0][:, :20, :28]
    assert float((smooth - found).abs().mean()) > 5


def hsv(image: Tensor) -> np.ndarray:
    """By the standard library, pixel by pixel: ``(H, W, 3)``."""
    pixels = image.permute(1, 2, 0).double().numpy() / 255
    return np.array([[colorsys.rgb_to_hsv(*pixel) for pixel in row] for row in pixels])


def rgb(values: np.ndarray) -> Tensor:
    pixels = np.array([[colorsys.hsv_to_rgb(*pixel) for pixel in row] for row in values])
    return torch.from_numpy(pixels * 255).permute(2, 0, 1)


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.5])
def test_saturation_is_that_of_hsv(factor: float) -> None:
    image = scene(8, 8)[0].float()
    image[:, 0] = image[:1, 0]  # greys
    image[:, 1, 1] = 0
    values = hsv(image)
    values[..., 1] = (values[..., 1] * factor).clip(0, 1)
    found = photometric.scale_saturation(image, factor)
    torch.testing.assert_close(found.double(), rgb(values), rtol=0, atol=1e-3)


def distorted(image: Tensor, draws: list[float]) -> Tensor:
    """mmsegmentation's steps in its order, on HSV of the standard library; ``draws`` are uniform in 0..1."""
    draw = iter(draws)
    image = image.double()
    if next(draw) < 0.5:
        image = (image - 32 + 64 * next(draw)).clamp(0, 255)
    mode = next(draw) < 0.5
    if mode and next(draw) < 0.5:
        image = (image * (0.5 + next(draw))).clamp(0, 255)
    if next(draw) < 0.5:
        values = hsv(image)
        values[..., 1] = (values[..., 1] * (0.5 + next(draw))).clip(0, 1)
        image = rgb(values)
    if next(draw) < 0.5:
        values = hsv(image)
        values[..., 0] = (values[..., 0] + (-18 + 36 * next(draw)) / 180) % 1
        image = rgb(values)
    if not mode and next(draw) < 0.5:
        image = (image * (0.5 + next(draw))).clamp(0, 255)
    return image


def test_photometric_distortion_is_mmsegmentations() -> None:
    image = scene(8, 8)[0].float()
    unchanged = 0
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        draws = [float(torch.rand((), generator=generator)) for _ in range(12)]
        expected = distorted(image, draws)
        found = photometric.distort(image, torch.Generator().manual_seed(seed))
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-2)
        unchanged += int(torch.equal(found, image))
    assert unchanged < 8


def test_no_class_fills_a_crop_where_another_place_can_be_had() -> None:
    """In a corner of another class: with the ratio most crops show it, without it few do."""
    label = torch.zeros(120, 120, dtype=torch.uint8)
    label[:50, :50] = 1
    label[60:, 60:] = 255
    shares: dict[float | None, list[float]] = {None: [], 0.75: []}
    for ratio, found in shares.items():
        for seed in range(120):
            settings = with_keys(cat_max_ratio=ratio)
            window, size = transforms._choose_window(label, (40, 40), torch.Generator().manual_seed(seed), settings)
            counts = torch.bincount(transforms._crop_label(label, window, size).flatten(), minlength=256)[:255]
            found.append(float(counts.max() / counts.sum().clamp(min=1)))
    assert sum(share < 0.75 for share in shares[None]) < 40
    assert sum(share < 0.75 for share in shares[0.75]) > 90
    everywhere = torch.ones(120, 120, dtype=torch.uint8)  # where none can be had, the eleventh place is taken
    window, size = transforms._choose_window(everywhere, (40, 40), torch.Generator(), with_keys(cat_max_ratio=0.75))
    assert size == (40, 40)
    assert window[2:] == (40, 40)


def test_rotation_turns_image_and_label_alike() -> None:
    image, label = scene()
    found, labels = shown(with_keys(rotate=20.0), 1)
    generator = torch.Generator().manual_seed(1)
    draws = [float(torch.rand((), generator=generator)) for _ in range(5)]  # scale, top, left, flip, angle
    angle = 20 * (2 * draws[4] - 1)
    expected = V.rotate(image, angle, v2.InterpolationMode.BILINEAR, fill=(255 * MEAN).tolist())
    torch.testing.assert_close(found, expected.float(), rtol=0, atol=1e-3)
    assert torch.equal(labels, V.rotate(label[None], angle, fill=[255.0])[0])
    assert (labels == 255).any()
    assert abs(angle) > 2


def test_blur_is_a_gaussian_and_a_cutout_is_a_rectangle_of_the_mean() -> None:
    image, label = scene()
    blurred, _ = shown(with_keys(blur=1.0))
    assert float(blurred.std()) < float(image.float().std())
    areas = []
    for seed in range(30):
        found, labels = shown(with_keys(cutout=1.0), seed)
        assert torch.equal(labels, label)
        changed = ((found - image).abs() > 0.01).any(0)
        rows, columns = changed.any(1), changed.any(0)
        assert changed.sum() >= 0.95 * rows.sum() * columns.sum(), "a rectangle, but for pixels of the mean colour"
        expected = (255 * MEAN)[:, None].expand(3, int(changed.sum()))
        torch.testing.assert_close(found[:, changed], expected, rtol=0, atol=1e-3)
        areas.append(float(changed.float().mean()))
    assert 0.01 < min(areas) < 0.1
    assert 0.2 < max(areas) < 0.35


OWN = """
import random
import numpy as np
import torch
from torchvision.transforms import v2
from torchvision.tv_tensors import Mask

def build(crop):
    return v2.Compose([
        v2.RandomCrop(crop, pad_if_needed=True, fill={Mask: 255, "others": 0}),
        v2.RandomHorizontalFlip(),
        lambda image, mask: (image.clamp(max=int(random.random() * 100 + np.random.rand() * 100)), mask),
    ])

def small(crop):
    return lambda image, mask: (image[:, :5, :6], mask[:5, :6])

def large(crop):
    return lambda image, mask: (image, mask)

def floating(crop):
    return lambda image, mask: (image / 255, mask)

def nothing(crop):
    return None
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_augmentation.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    return "my_augmentation"


def batches(data: Data, function: str, **options: Any) -> list[dict[str, Tensor]]:
    settings = {"crop": (12, 14), "batch_size": 4, "seed": 3, "start_step": 0, "steps": 3, **options}
    loader = train_loader(
        open_dataset(data, "train"), mean=(0.5,) * 3, std=(0.25,) * 3, settings=Augment(function=function), **settings
    )
    return list(loader)


def test_an_augmentation_of_ones_own_is_a_function_of_the_seed(data: Data, own: str) -> None:
    name = f"{own}:build"
    assert make_recipe({"augment": name}).augment == Augment(function=name)
    assert make_recipe({}, ["--augment", name]).augment == Augment(function=name)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[union-attr]
    first = batches(data, name)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.random.get_state()[1].tolist() == states[2]  # type: ignore[union-attr]
    torch.rand(3)
    random.random()
    for again in (batches(data, name), batches(data, name, workers=2)):
        assert all(torch.equal(a[key], b[key]) for a, b in zip(first, again, strict=True) for key in a)
    later = batches(data, name, start_step=2)
    assert torch.equal(later[0]["image"], first[2]["image"])
    assert not torch.equal(batches(data, name, seed=4)[0]["image"], first[0]["image"])
    assert first[0]["image"].shape == (4, 3, 12, 14)


def test_what_is_smaller_than_the_crop_is_padded(data: Data, own: str) -> None:
    batch = batches(data, f"{own}:small")[0]
    assert batch["label"].shape == (4, 12, 14)
    assert bool((batch["label"][:, 5:] == 255).all())
    assert bool((batch["image"][:, :, :, 6:] == 0).all())


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("large", "is larger than schedule.crop (12, 14); crop in it"),
        ("floating", "leave both uint8"),
        ("nothing", "returned a NoneType, which can't be called"),
        ("absent", "has no attribute 'absent'; write package.module:build"),
    ],
)
def test_faults_of_ones_own_augmentation_are_one_line(data: Data, own: str, function: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        batches(data, f"{own}:{function}")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"scale": [2, 0.5]}, "augment.scale is [2.0, 0.5]; the smallest factor comes first"),
        ({"scale": [1]}, "augment.scale is [1]"),
        ({"scale": [0, 1]}, "augment.scale[0] is 0"),
        ({"flip": 1.5}, "augment.flip is 1.5; it must be a number of at least 0 and at most 1"),
        ({"cat_max_ratio": 0}, "augment.cat_max_ratio is 0"),
        ({"color": "mmseg"}, "augment.color is 'mmseg'; it must be one of jitter, photometric, none"),
        ({"rescale": [512]}, "augment.rescale is [512]"),
        ({"rotate": 200}, "augment.rotate is 200"),
        ({"cutot": 1}, "unknown key 'augment.cutot'; did you mean 'cutout'?"),
    ],
)
def test_wrong_settings_are_one_line(keys: dict, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        make_recipe({"augment": keys})
    assert message in str(caught.value)


def test_default_settings_are_what_they_were() -> None:
    """The first numbers of the stream: scale, place, flip, three factors of the jitter, and nothing else is drawn."""
    image, label = scene()
    image = 90 + image // 5  # no factor reaches the ends
    generator, twin = torch.Generator().manual_seed(9), torch.Generator().manual_seed(9)
    result, _ = augment(image, label, (16, 24), MEAN, STD, generator)
    drawn = [float(torch.rand((), generator=twin)) for _ in range(7)]
    assert torch.equal(torch.rand(1, generator=generator), torch.rand(1, generator=twin))
    scale = 0.5 + 1.5 * drawn[0]
    height, width = round(16 / scale), round(24 / scale)
    top, left = int(drawn[1] * (40 - height + 1)), int(drawn[2] * (56 - width + 1))
    part = F.interpolate(
        image[None, :, top : top + height, left : left + width], (16, 24), mode="bilinear", antialias=True
    )[0]
    if drawn[3] < 0.5:
        part = part.flip(-1)
    expected = part.double() / 255
    for adjust, draw in zip((V.adjust_brightness, V.adjust_contrast, V.adjust_saturation), drawn[4:], strict=True):
        expected = adjust(expected, 0.75 + 0.5 * draw)
    expected = (expected - MEAN.double()[:, None, None]) / STD.double()[:, None, None]
    assert float((result.double() - expected).abs().median()) < 2e-3

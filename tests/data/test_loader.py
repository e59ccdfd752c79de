"""Order, augmentation and geometry: functions of (seed, step, position), the same for image and label."""

from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as V

from ladseg.data import eval_loader, open_dataset, train_loader, transforms
from ladseg.data.transforms import augment, normalize
from ladseg.errors import RecipeError
from ladseg.recipe import Augment, Data

PLAIN = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}


def batches(data: Data, **options) -> list[dict[str, torch.Tensor]]:  # type: ignore[no-untyped-def]
    settings = {"crop": (12, 14), "batch_size": 4, "seed": 3, "start_step": 0, "steps": 4, **PLAIN, **options}
    return list(train_loader(open_dataset(data, "train"), **settings))


def equal(a: list[dict[str, torch.Tensor]], b: list[dict[str, torch.Tensor]]) -> bool:
    return len(a) == len(b) and all(torch.equal(x[k], y[k]) for x, y in zip(a, b, strict=True) for k in x)


def test_shapes_and_types(data: Data) -> None:
    batch = batches(data)[0]
    assert batch["image"].shape == (4, 3, 12, 14)
    assert batch["image"].dtype == torch.float32
    assert batch["label"].shape == (4, 12, 14)
    assert batch["label"].dtype == torch.uint8
    assert set(batch["label"].unique().tolist()) <= {0, 1, 2, 255}
    assert batch["seed"].unique().numel() == 4


def test_starting_later_is_the_rest_of_starting_at_zero(data: Data) -> None:
    assert equal(batches(data)[2:], batches(data, start_step=2))


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_gives_the_same(data: Data, workers: int) -> None:
    assert equal(batches(data), batches(data, workers=workers))


def test_two_processes_share_the_batches_of_one(data: Data) -> None:
    shares = [batches(data, rank=rank, world_size=2) for rank in (0, 1)]
    joined = [{k: torch.cat([a[k], b[k]]) for k in a} for a, b in zip(*shares, strict=True)]
    assert equal(batches(data), joined)


def test_another_seed_gives_another_stream_and_the_global_generator_is_left_alone(data: Data) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = batches(data)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    assert equal(first, batches(data))
    assert not equal(first, batches(data, seed=4))


def test_every_image_once_each_time_round(data: Data) -> None:
    """The red of its top left pixel names an image; augmentation is taken out by a full-size look at the order."""
    from ladseg.data.loader import _permutation

    for epoch in range(3):
        assert Counter(_permutation(3, "order", epoch, 5).tolist()) == Counter(range(5))
    assert not torch.equal(_permutation(3, "order", 0, 50), _permutation(3, "order", 1, 50))


def test_a_batch_that_cannot_be_shared_is_refused(data: Data) -> None:
    with pytest.raises(RecipeError, match="batch_size 4 can't be shared by 3 processes"):
        batches(data, world_size=3)


def test_image_and_label_go_through_the_same_geometry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels carry their own coordinates, so wherever one lands its label must be beside it."""
    rows, columns = torch.meshgrid(torch.arange(60), torch.arange(80), indexing="ij")
    cells = ((rows // 10) * 8 + columns // 10).to(torch.uint8)
    image = torch.stack([cells * 5, cells * 5, cells * 5])
    mean, std = torch.zeros(3), torch.ones(3)
    agree = 0.0
    monkeypatch.setattr(transforms, "_factors", lambda generator, jitter: (1.0, 1.0, 1.0))
    for seed in range(20):
        shown, label = augment(image, cells, (40, 48), mean, std, torch.Generator().manual_seed(seed))
        valid = label != 255
        assert bool((shown[:, ~valid] == 0).all()), "padding is the mean and is ignored"
        read = (shown[0] * 255 / 5).round()
        agree += float((read[valid] == label[valid]).float().mean()) / 20
    assert agree > 0.8, "cells agree but for blended borders"


def drawn_window(
    source: tuple[int, int], crop: tuple[int, int], seed: int
) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
    label = torch.zeros(source, dtype=torch.uint8)
    return transforms._choose_window(label, crop, torch.Generator().manual_seed(seed), Augment())


def test_crops_are_the_whole_image_resized_and_cut() -> None:
    """A slow twin: resize everything, cut the window. Equal up to the window's alignment to whole source pixels."""
    image = torch.rand(1, 3, 64, 96)
    image = F.interpolate(F.avg_pool2d(image, 8), scale_factor=8, mode="bilinear")
    for seed in range(10):
        (top, left, height, width), size = drawn_window((64, 96), (40, 48), seed)
        cut = F.interpolate(
            image[..., top : top + height, left : left + width], size=size, mode="bilinear", antialias=True
        )
        scale_y, scale_x = size[0] / height, size[1] / width
        whole = F.interpolate(image, size=(round(64 * scale_y), round(96 * scale_x)), mode="bilinear", antialias=True)
        y, x = round(top * scale_y), round(left * scale_x)
        twin = whole[..., y : y + size[0], x : x + size[1]]
        shared = cut[..., : twin.shape[-2], : twin.shape[-1]]
        assert float((shared - twin).abs().mean()) < 0.02


def test_scale_covers_half_to_double_and_flips_are_even() -> None:
    scales = []
    for seed in range(300):
        (_, _, height, _), size = drawn_window((200, 200), (50, 50), seed)
        scales.append(size[0] / height)
    assert 0.49 < min(scales) < 0.55
    assert 1.9 < max(scales) < 2.06
    assert np.mean(scales) == pytest.approx(1.25, abs=0.08)
    image, label = torch.zeros(3, 8, 8, dtype=torch.uint8), torch.zeros(8, 8, dtype=torch.uint8)
    label[:, :4] = 1
    flipped = 0
    for seed in range(200):
        result = augment(image, label, (16, 16), torch.zeros(3), torch.ones(3), torch.Generator().manual_seed(seed))[1]
        valid = result[0][result[0] != 255]
        flipped += int(valid[-1] == 1 and valid[0] == 0)
    assert 60 < flipped < 140


def test_colour_jitter_moves_colours_only_so_far() -> None:
    image = torch.full((3, 32, 32), 100, dtype=torch.uint8)
    label = torch.ones(32, 32, dtype=torch.uint8)
    means = []
    for seed in range(50):
        shown, out = augment(image, label, (16, 16), torch.zeros(3), torch.ones(3), torch.Generator().manual_seed(seed))
        means.append(float(shown.mean()) * 255)
        assert bool((out == 1).all())
    assert max(means) > 110
    assert min(means) < 90
    assert min(means) >= 74
    assert max(means) <= 126


@pytest.mark.parametrize(
    "factors", [(1.0, 1.0, 1.0), (0.8, 1.0, 1.0), (1.0, 1.2, 1.0), (1.0, 1.0, 0.75), (1.1, 0.8, 1.25)]
)
def test_colours_change_as_torchvision_changes_them(factors: tuple[float, float, float]) -> None:
    """Its three functions on floats, one after the other, where nothing is cut off."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    image = torch.randint(90, 150, (3, 33, 47), dtype=torch.uint8)
    expected = image.double() / 255
    for adjust, factor in zip((V.adjust_brightness, V.adjust_contrast, V.adjust_saturation), factors, strict=True):
        expected = adjust(expected, factor)
    expected = (expected - mean.double().view(3, 1, 1)) / std.double().view(3, 1, 1)
    for layout in (image, image.permute(1, 2, 0).contiguous().permute(2, 0, 1)):
        result = transforms._recolor(layout, factors, mean, std)
        # Its grey weights add up to 0.9999.
        torch.testing.assert_close(result.double(), expected, rtol=0, atol=1e-3)
    extremes = torch.tensor([0, 255], dtype=torch.uint8).repeat(3, 4, 4)
    shown = transforms._recolor(extremes, factors, mean, std)
    assert float((shown * std.view(3, 1, 1) + mean.view(3, 1, 1)).min()) >= -1e-6
    assert float((shown * std.view(3, 1, 1) + mean.view(3, 1, 1)).max()) <= 1 + 1e-6


@pytest.mark.parametrize(("start", "length", "size"), [(0, 10, 10), (3, 7, 20), (5, 40, 13), (0, 1, 4), (2, 9, 1)])
def test_labels_are_resized_as_torch_does_it(start: int, length: int, size: int) -> None:
    values = torch.arange(60, dtype=torch.uint8)
    window = values[start : start + length].view(1, 1, 1, -1).expand(1, 1, 2, -1)
    expected = F.interpolate(window, (2, size), mode="nearest-exact")[0, 0, 0]
    assert torch.equal(values[torch.from_numpy(transforms._nearest(start, length, size))], expected)
    assert (
        transforms._nearest(start, length, size, True).tolist()
        == transforms._nearest(start, length, size)[::-1].tolist()
    )


def test_normalisation_is_the_formula() -> None:
    image = torch.randint(0, 256, (3, 4, 5), dtype=torch.uint8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = (image.double() / 255 - mean.double().view(3, 1, 1)) / std.double().view(3, 1, 1)
    torch.testing.assert_close(normalize(image, mean, std).double(), expected, rtol=0, atol=2e-6)


def test_evaluation_yields_whole_images_and_shares_them(data: Data) -> None:
    dataset = open_dataset(data, "val")
    whole = list(eval_loader(dataset, **PLAIN))
    assert [int(batch["index"]) for batch in whole] == [0, 1]
    assert whole[0]["image"].shape == (1, 3, 16, 20)
    pixels = torch.from_numpy(np.array(Image.open(dataset.pairs[0][0]))).permute(2, 0, 1)
    torch.testing.assert_close(whole[0]["image"][0], (pixels / 255 - 0.5) / 0.25)
    second = list(eval_loader(dataset, **PLAIN, rank=1, world_size=2))
    assert [int(batch["index"]) for batch in second] == [1]
    assert torch.equal(second[0]["seed"], whole[1]["seed"])

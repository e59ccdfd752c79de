"""Laws of Eq. 5."""

import pytest
import torch

from ladseg import LabelNoise
from tests.reference import equations


def make_label(classes: int = 5, seed: int = 0, shape: tuple[int, int, int] = (3, 17, 23)) -> torch.Tensor:
    label = torch.randint(0, classes, shape, generator=torch.Generator().manual_seed(seed))
    label[:, :2, :3] = 255
    return label


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("alpha", [0.0, 0.01, 1.0])
def test_equals_the_one_hot_formula(alpha: float) -> None:
    label = make_label()
    noised = LabelNoise(5, alpha=alpha, scale=1.7, class_weights="random")(label, generator())
    source = generator()
    weights = torch.randn(3, 6, generator=source)
    noise = torch.randn(3, 17, 23, generator=source) if alpha else torch.zeros(3, 17, 23)
    ids = label.masked_fill(label == 255, 5)
    expected = torch.stack([equations.label_noise(ids[n], weights[n], noise[n], alpha) for n in range(3)])
    torch.testing.assert_close(noised[:, 0].double(), 1.7 * expected, rtol=1e-6, atol=1e-6)
    assert noised.shape == (3, 1, 17, 23)
    assert noised.dtype == torch.float32


@pytest.mark.parametrize("class_weights", ["random", "fixed", "none"])
def test_alpha_zero_gives_one_value_a_class_and_image(class_weights: str) -> None:
    label = make_label()
    noised = LabelNoise(5, alpha=0.0, class_weights=class_weights)(label, generator())
    for n in range(3):
        values = {int(c): noised[n, 0][label[n] == c].unique() for c in label[n].unique()}
        assert all(len(v) == 1 for v in values.values())
        assert len({float(v) for v in values.values()}) == 6, "every class, void too, has a value of its own"


def test_images_and_calls_draw_their_own_weights() -> None:
    label = make_label()[:1].expand(2, -1, -1).contiguous()
    noise, source = LabelNoise(5, alpha=0.0, class_weights="random"), generator()
    first, second = noise(label, source), noise(label, source)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, second)
    assert torch.equal(noise(label, generator()), first), "equal generators, equal noise"


def test_permuting_class_ids_only_permutes_the_weights() -> None:
    label = torch.arange(5).repeat(2, 4, 3)
    order = torch.tensor([3, 1, 4, 0, 2])
    plain = LabelNoise(5, alpha=0.0, class_weights="random")(label, generator())
    permuted = LabelNoise(5, alpha=0.0, class_weights="random")(order[label], generator())
    for n in range(2):
        weights = torch.stack([plain[n, 0][label[n] == c][0] for c in range(5)])
        assert torch.equal(permuted[n, 0], weights[order[label[n]]])


def test_weights_and_pixel_noise_are_standard_gaussian() -> None:
    label = torch.arange(1000).view(1, 1, 1000).expand(64, 1, 1000).contiguous()
    draw = LabelNoise(1000, alpha=0.0, ignore_index=-1, class_weights="random")(label, generator())
    assert abs(float(draw.mean())) < 0.02
    assert abs(float(draw.std()) - 1) < 0.02
    flat = torch.zeros(4, 200, 200, dtype=torch.int64)
    noised = LabelNoise(1, alpha=0.5)(flat, generator())
    assert torch.allclose(noised.flatten(1).std(1), torch.tensor(0.5), atol=0.01)


def test_ignored_pixels_are_a_class_or_zero() -> None:
    label = make_label()
    void = label == 255
    as_class = LabelNoise(5, alpha=0.1)(label, generator())[:, 0]
    as_zero = LabelNoise(5, alpha=0.1, ignore="zero")(label, generator())[:, 0]
    assert (as_zero[void] == 0).all()
    assert (as_class[void] != 0).all()
    assert torch.equal(as_class[~void], as_zero[~void])


def test_fixed_ramp_is_the_released_codes_for_voc() -> None:
    label = torch.arange(22).view(1, 1, 22)
    noised = LabelNoise(21, alpha=0.0, ignore_index=21, class_weights="fixed")(label)
    torch.testing.assert_close(noised.flatten(), (torch.arange(22) - 11) / 10)


@pytest.mark.parametrize("classes", [1, 2, 19, 171])
def test_clean_label_is_standardised_over_the_ids(classes: int) -> None:
    noised = LabelNoise(classes, alpha=0.0, class_weights="none")(torch.arange(classes).view(1, 1, -1)).double()
    assert abs(float(noised.mean())) < 1e-6
    if classes > 1:
        assert abs(float(noised.std(correction=0)) - 1) < 1e-6
    assert bool(noised.isfinite().all())


def test_a_generator_an_image_makes_the_draw_independent_of_the_batch() -> None:
    label, noise = make_label(), LabelNoise(5, alpha=0.1, class_weights="random")
    together = noise(label, [generator(seed) for seed in (7, 8, 9)])
    for n, seed in enumerate((7, 8, 9)):
        assert torch.equal(together[n : n + 1], noise(label[n : n + 1], [generator(seed)]))


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (torch.zeros(2, 1, 4, 4, dtype=torch.int64), r"it must be \(N, H, W\) int64"),
        (torch.zeros(2, 4, 4), r"it must be \(N, H, W\) int64"),
        (torch.full((1, 4, 4), 7), "label has value 7 but there are 5 classes"),
        (torch.full((1, 4, 4), -2), "label has value -2 but there are 5 classes"),
        (torch.full((1, 4, 4), 300), "label has value 300 but there are 5 classes"),
        (torch.full((1, 4, 4), 5), "label has value 5 but there are 5 classes"),
    ],
)
def test_unusable_labels_are_refused(label: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LabelNoise(5)(label)


def test_the_label_is_not_changed() -> None:
    label = make_label()
    before = label.clone()
    LabelNoise(5, ignore="zero")(label, generator())
    assert torch.equal(label, before)


def test_cost_is_a_look_up_whatever_the_number_of_classes() -> None:
    """No tensor that the module makes has a size that grows with classes times pixels."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                self.elements = max(self.elements, result.numel())
            return result

    label = torch.zeros(2, 40, 40, dtype=torch.int64)
    for classes in (2, 171):
        with Largest() as largest:
            LabelNoise(classes)(label)
        assert largest.elements == label.numel()

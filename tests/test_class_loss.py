"""The class losses of a recipe against torch's own, mmsegmentation's sampler written out, and formulas in float64."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ladseg.errors import RecipeError
from ladseg.losses.class_loss import make_class_loss
from ladseg.losses.cross_entropy import HardPixels, cross_entropy
from ladseg.recipe import Loss, Recipe
from ladseg.recipe_files import make_recipe
from ladseg.runs.class_weights import balanced_weights, with_class_weights
from ladseg.runs.trainings import baseline_training, student_training, teacher_training

CLASSES = 5
WEIGHTS = [0.5, 2.0, 0.0, 1.5, 3.0]


def case(dtype: torch.dtype = torch.float64, size: tuple[int, int] = (17, 23)) -> tuple[Tensor, Tensor]:
    """Logits at a third of the label's size, and labels of which some are ignored, in one image most of them."""
    generator = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(3, CLASSES, 6, 8, generator=generator, dtype=dtype)
    label = torch.randint(CLASSES, (3, *size), generator=generator)
    label[0, :14] = 255
    label[1, 2:5, 3:9] = 255
    return logits.requires_grad_(), label


def upsampled(logits: Tensor, label: Tensor) -> Tensor:
    return F.interpolate(logits, label.shape[1:], mode="bilinear", align_corners=True)


def assert_equal_with_gradient(ours: Tensor, theirs: Tensor, logits: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    (a,), (b,) = (torch.autograd.grad(value, logits) for value in (ours, theirs))
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    assert a.abs().sum() > 0


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("mean", ["valid", "all"])
def test_class_weights_and_means_are_torchs(weights: list[float] | None, mean: Any) -> None:
    logits, label = case()
    weight = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    full = upsampled(logits, label)
    if mean == "valid":
        expected = F.cross_entropy(full, label, weight, ignore_index=255)
    else:  # mmsegmentation: no reduction, ignored pixels are 0, then the mean
        expected = F.cross_entropy(full, label, weight, ignore_index=255, reduction="none").mean()
    assert_equal_with_gradient(cross_entropy(logits, label, class_weights=weights, mean=mean), expected, logits)


def sampled(logits: Tensor, label: Tensor, threshold: float, min_kept: int) -> Tensor:
    """The weights of mmsegmentation's OHEMPixelSampler, pixel by pixel from a sorted list."""
    shares = upsampled(logits, label).softmax(1)
    found = [
        (float(shares[n, label[n, i, j], i, j]), n, i, j)
        for n, i, j in np.ndindex(*label.shape)
        if label[n, i, j] != 255
    ]
    ordered = sorted(share for share, *_ in found)
    limit = max(ordered[min(min_kept * len(label), len(ordered) - 1)], threshold)
    weight = torch.zeros(label.shape, dtype=logits.dtype)
    for share, n, i, j in found:
        weight[n, i, j] = float(share < limit)
    return weight


@pytest.mark.parametrize(
    ("threshold", "min_kept", "kept"),
    [(0.7, 1, "below the threshold"), (0.05, 150, "the hardest"), (0.05, 10**6, "all but the easiest")],
)
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_hard_pixels_are_mmsegmentations(
    threshold: float, min_kept: int, kept: str, weights: list[float] | None
) -> None:
    logits, label = case()
    chosen = sampled(logits.detach(), label, threshold, min_kept)
    valid = int((label != 255).sum())
    count = int(chosen.sum())
    assert {"below the threshold": 3 < count < valid, "the hardest": count == 450}.get(kept, count == valid - 1)
    weight = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    losses = F.cross_entropy(upsampled(logits, label), label, weight, ignore_index=255, reduction="none")
    hard = HardPixels(threshold, min_kept)
    ours = cross_entropy(logits, label, class_weights=weights, mean="all", hard=hard)
    assert_equal_with_gradient(ours, (losses * chosen).mean(), logits)
    over_kept = cross_entropy(logits, label, mean="valid", hard=hard)
    plain = F.cross_entropy(upsampled(logits, label), label, ignore_index=255, reduction="none")
    assert_equal_with_gradient(over_kept, plain[chosen.bool()].mean(), logits)


@pytest.mark.parametrize("settings", [Loss(mean="all"), Loss(ohem=0.7), Loss(dice=1.0, focal=1.0, lovasz=1.0)])
def test_a_batch_without_labels_costs_nothing(settings: Loss) -> None:
    logits, label = case()
    loss = make_class_loss(settings, CLASSES)(logits, torch.full_like(label, 255), align_corners=True)
    loss.backward()
    assert loss == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def dice(shares: Tensor, one_hot: Tensor) -> Tensor:
    """Of each class over the batch, averaged over all; 0 for a class that is not there."""
    overlap, size = (shares * one_hot).sum(0), (shares + one_hot).sum(0)
    return ((1 - 2 * overlap / size) * (one_hot.sum(0) > 0)).mean()


def focal(shares: Tensor, one_hot: Tensor, logits: Tensor, gamma: float) -> Tensor:
    """One against the rest for each class, on sigmoids, averaged over the classes."""
    total = torch.zeros((), dtype=torch.float64)
    for c in range(CLASSES):
        probability = logits[:, c].sigmoid()
        right = torch.where(one_hot[:, c] > 0, probability, 1 - probability)
        total = total + (-((1 - right) ** gamma) * right.log()).mean()
    return total / CLASSES


def lovasz(shares: Tensor, one_hot: Tensor) -> Tensor:
    """By the definition: errors in falling order times the steps of the Jaccard loss of the first k as mistakes."""
    values = []
    for c in range(CLASSES):
        truth = one_hot[:, c]
        if not truth.any():
            continue
        errors, order = (truth - shares[:, c]).abs().sort(descending=True)
        truth = truth[order]
        before, total = 0.0, torch.zeros((), dtype=torch.float64)
        for k in range(1, len(errors) + 1):
            wrong_inside, wrong_outside = float(truth[:k].sum()), float((1 - truth[:k]).sum())
            jaccard = 1 - (float(truth.sum()) - wrong_inside) / (float(truth.sum()) + wrong_outside)
            total, before = total + errors[k - 1] * (jaccard - before), jaccard
        values.append(total)
    return torch.stack(values).mean()


def test_other_losses_are_summed_by_weight() -> None:
    logits, label = case(torch.float32)
    label[label == 3] = 255  # a class that is not there
    flat = upsampled(logits.detach().double(), label).permute(0, 2, 3, 1)[label != 255]
    one_hot = F.one_hot(label[label != 255], CLASSES).double()
    shares = flat.softmax(1)
    expected = {
        "cross_entropy": F.cross_entropy(flat, one_hot.argmax(1)),
        "dice": dice(shares, one_hot),
        "focal": focal(shares, one_hot, flat, 1.5),
        "lovasz": lovasz(shares, one_hot),
    }
    assert len({round(float(value), 3) for value in expected.values()}) == 4
    nothing = dict.fromkeys(expected, 0.0)
    for name, value in expected.items():
        loss = make_class_loss(Loss(**(nothing | {name: 1.0}), focal_gamma=1.5), CLASSES)(logits, label)
        torch.testing.assert_close(loss.double(), value, rtol=2e-5, atol=1e-6)
    weights = {"cross_entropy": 0.5, "dice": 2.0, "focal": 0.25, "lovasz": 3.0}
    both = make_class_loss(Loss(**weights, focal_gamma=1.5), CLASSES)(logits, label)
    torch.testing.assert_close(both.double(), sum(weights[k] * expected[k] for k in weights), rtol=2e-5, atol=1e-6)
    assert torch.autograd.grad(both, logits)[0].isfinite().all()


def test_without_the_library_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ladseg.losses.class_loss.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"loss.dice is computed by .*pip install 'ladseg\[losses\]'"):
        make_class_loss(Loss(dice=1.0), CLASSES)
    assert make_class_loss(Loss(), CLASSES)(*case())  # which needs no library


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({"class_weights": "balnced"}, "did you mean 'balanced'?"),
        ({"class_weights": [1, -1]}, "loss.class_weights[1] is -1; it must be a number of at least 0"),
        ({"class_weights": []}, "loss.class_weights"),
        ({"ohem": 0}, "loss.ohem is 0; it must be a number above 0 and at most 1"),
        ({"ohem_min_kept": 0}, "loss.ohem_min_kept is 0"),
        ({"mean": "every"}, "loss.mean is 'every'; it must be one of valid, all"),
        ({"cross_entropy": 0}, "loss has weight 0 for every part"),
        ({"dice": -1}, "loss.dice is -1"),
    ],
)
def test_wrong_settings_are_one_line(text: dict, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        make_recipe({"loss": text})
    assert message in str(caught.value)


def test_a_weight_for_each_class() -> None:
    with pytest.raises(RecipeError, match=r"loss\.class_weights has 2 numbers, and the data has 5 classes"):
        make_class_loss(Loss(class_weights=[1.0, 2.0]), CLASSES)


class Spec:
    num_classes = 4


class Labels:
    """Two labels of a data set; class 2 occurs in none."""

    spec = Spec()

    def __len__(self) -> int:
        return 2

    def read(self, index: int) -> tuple[None, Tensor]:
        label = torch.tensor([[[0, 0, 0], [0, 255, 1]], [[3, 3, 0], [0, 0, 255]]][index], dtype=torch.uint8)
        return None, label


def test_balanced_weights_make_every_class_count_the_same() -> None:
    """7 pixels of class 0, 1 of class 1, 2 of class 3: of 10 pixels and 3 classes that occur."""
    dataset: Any = Labels()
    weights = balanced_weights(dataset)
    assert weights == pytest.approx([10 / (3 * 7), 10 / 3, 0, 10 / (3 * 2)])
    assert 7 * weights[0] == pytest.approx(1 * weights[1]) == pytest.approx(2 * weights[3])
    recipe = make_recipe({"loss": {"class_weights": "balanced", "mean": "all"}})
    assert with_class_weights(recipe, dataset).loss == Loss(class_weights=weights, mean="all")
    assert with_class_weights(Recipe(), dataset) == Recipe()


def test_every_training_of_a_recipe_has_its_loss() -> None:
    base = make_recipe({"student": {"model": "stdc1"}, "teacher": {"consistency": 1}, "schedule": {"crop": [64, 64]}})
    losses = {}
    for name, loss in {"plain": Loss(), "all": Loss(mean="all"), "ohem": Loss(ohem=0.7, mean="all")}.items():
        recipe = replace(base, loss=loss)
        assert make_recipe({"loss": vars(loss)}).loss == loss
        baseline, teacher = baseline_training(recipe, CLASSES), teacher_training(recipe, CLASSES, None)
        student = student_training(recipe, CLASSES, None, teacher.network)  # type: ignore[arg-type]
        label = torch.randint(CLASSES, (2, 64, 64), generator=torch.Generator().manual_seed(0))
        label[:, :40] = 255
        image = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        batch = {"image": image, "label": label, "seed": torch.arange(2)}
        for training in (baseline, teacher, student):
            terms = training.objective.train()(batch)
            for term in ("seg", "aux", "seg_1", "aux_2"):
                if term in terms:
                    losses[training.key, term, name] = float(terms[term])
            assert ("loss" in training.depends_on) == (name != "plain")
    keys = {(key, term) for key, term, _ in losses}
    assert keys == {(k, t) for k in ("baseline", "student") for t in ("seg", "aux")} | {
        ("teacher", "seg_1"),
        ("teacher", "aux_2"),
    }
    for key, term in keys:
        # Three eighths of the pixels count.
        assert losses[key, term, "all"] == pytest.approx(0.375 * losses[key, term, "plain"], rel=1e-4)
        assert losses[key, term, "ohem"] <= losses[key, term, "all"] + 1e-6

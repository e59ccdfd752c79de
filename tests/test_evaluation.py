"""The confusion matrix against brute force and torchmetrics; evaluation at the label's own size."""

import math

import numpy as np
import pytest
import torch
import torchmetrics
from hypothesis import given, settings
from hypothesis import strategies as st

from ladseg import ConfusionMatrix
from ladseg.evaluation import by_argmax, iou_of, mean_pairwise_kl, paired_interval
from ladseg.evaluation.evaluate import evaluate
from tests.reference import equations


def pair(classes: int, seed: int, ignored: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(seed)
    prediction = torch.randint(0, classes, (3, 6, 7), generator=source)
    label = torch.randint(0, classes, (3, 6, 7), generator=source)
    if ignored:
        label[torch.rand(3, 6, 7, generator=source) < 0.2] = 255
    return prediction, label


@given(classes=st.integers(1, 9), seed=st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_equals_brute_force(classes: int, seed: int) -> None:
    prediction, label = pair(classes, seed)
    matrix = ConfusionMatrix(classes)
    matrix.update(prediction, label)
    assert matrix.mean_iou() == pytest.approx(equations.mean_iou(prediction, label, classes))


def test_equals_torchmetrics() -> None:
    prediction, label = pair(6, 0)
    matrix = ConfusionMatrix(6)
    matrix.update(prediction, label)
    theirs = torchmetrics.classification.MulticlassConfusionMatrix(6, ignore_index=255)
    assert torch.equal(matrix.counts, theirs(prediction, label).long())
    jaccard = torchmetrics.classification.MulticlassJaccardIndex(6, ignore_index=255, average="none")
    torch.testing.assert_close(matrix.iou().float(), jaccard(prediction, label))
    accuracy = torchmetrics.classification.MulticlassAccuracy(6, ignore_index=255, average="micro")
    assert matrix.pixel_accuracy() == pytest.approx(float(accuracy(prediction, label)))


def test_any_order_and_any_split_into_matrices_give_the_same_counts() -> None:
    whole, parts = ConfusionMatrix(5), [ConfusionMatrix(5), ConfusionMatrix(5)]
    for seed in range(4):
        whole.update(*pair(5, seed))
    for seed in (3, 1, 0, 2):
        parts[seed % 2].update(*pair(5, seed))
    assert torch.equal(parts[0].merge(parts[1]).counts, whole.counts)


def test_classes_absent_from_both_are_left_out() -> None:
    matrix = ConfusionMatrix(4)
    matrix.update(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]))
    assert matrix.iou().tolist()[:2] == [0.5, 0.5]
    assert all(math.isnan(value) for value in matrix.iou().tolist()[2:])
    assert matrix.mean_iou() == 0.5
    assert math.isnan(ConfusionMatrix(3).mean_iou())


def test_all_ignored_counts_nothing() -> None:
    matrix = ConfusionMatrix(3)
    matrix.update(torch.zeros(2, 3, dtype=torch.int64), torch.full((2, 3), 255))
    assert int(matrix.counts.sum()) == 0


@pytest.mark.parametrize(
    ("prediction", "label", "message"),
    [
        (torch.tensor([3]), torch.tensor([0]), "prediction has ids 3..3 but there are 3 classes"),
        (torch.tensor([0]), torch.tensor([7]), "label has ids 7..7 but there are 3 classes"),
        (torch.tensor([0, 1]), torch.tensor([0]), "prediction is"),
    ],
)
def test_unusable_ids_are_refused(prediction: torch.Tensor, label: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConfusionMatrix(3).update(prediction, label)


def test_merging_other_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot merge 4 classes into 3"):
        ConfusionMatrix(3).merge(ConfusionMatrix(4))


def test_evaluation_upsamples_to_each_labels_own_size() -> None:
    source = torch.Generator().manual_seed(0)
    batches, expected = [], ConfusionMatrix(4)
    for height, width in [(16, 24), (11, 9)]:
        logits = torch.randn(1, 4, 3, 5, generator=source)
        label = torch.randint(0, 4, (1, height, width), generator=source)
        batches.append(
            {
                "image": torch.zeros(1, 3, height, width),
                "label": label,
                "logits": logits,
                "index": torch.tensor([len(batches)]),
            }
        )
        expected.update(equations.upsample(logits, height, width).argmax(1), label)
    measured = evaluate(by_argmax(lambda batch: batch["logits"]), batches, 4)
    assert torch.equal(measured.matrix.counts, expected.counts)


def test_evaluation_counts_every_image() -> None:
    batches, expected = [], []
    for index in (2, 0, 1):  # as processes may hand them in
        prediction, label = pair(3, index)
        batches.append(
            {
                "image": torch.zeros(1, 3, 6, 7),
                "label": label[:1],
                "ids": prediction[:1],
                "index": torch.tensor([index]),
            }
        )
    measured = evaluate(lambda batch: batch["ids"], batches, 3)
    for index in range(3):
        prediction, label = pair(3, index)
        one = ConfusionMatrix(3)
        one.update(prediction[:1], label[:1])
        expected.append(one)
        assert torch.equal(iou_of(measured.images[index]), one.iou())
    assert torch.equal(measured.matrix.counts, sum(one.counts for one in expected))


def test_interval_of_a_difference() -> None:
    """Against resampling by hand, one draw after the other."""
    source = torch.Generator().manual_seed(0)
    right = torch.randint(5, 40, (2, 12, 1, 4), generator=source)
    counts = torch.cat([right, right + 10, right + torch.randint(0, 30, (2, 12, 1, 4), generator=source)], dim=2)
    before, after = counts
    low, high = paired_interval(before, after, draws=4000)
    rng = np.random.default_rng(1)
    gains = []
    for _ in range(4000):
        chosen = rng.integers(12, size=12)
        hits, labelled, predicted = (counts[:, chosen, part].sum(1).double() for part in range(3))
        iou = hits / (labelled + predicted - hits)
        gains.append(float(iou[1].mean() - iou[0].mean()))
    assert (low, high) == pytest.approx(np.quantile(gains, [0.025, 0.975]).tolist(), abs=0.006)
    assert low < float(iou_of(after.sum(0)).mean() - iou_of(before.sum(0)).mean()) < high
    assert paired_interval(before, before) == (0.0, 0.0)
    with pytest.raises(ValueError, match="the same images"):
        paired_interval(before, after[:3])


def test_stability_is_the_papers_double_sum() -> None:
    draws = [torch.randn(1, 3, 2, 2, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    total = sum(equations.kd(b, a, 1.0) for a in draws for b in draws)
    assert mean_pairwise_kl(draws) == pytest.approx(total / 9, rel=1e-5)
    assert mean_pairwise_kl([draws[0]] * 3) == pytest.approx(0.0, abs=1e-6)

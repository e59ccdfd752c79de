"""Cross-entropy against torch's own on the upsampled map; the boundary loss against its definition, pixel by pixel."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ladseg import resize
from ladseg.losses import boundary_loss, boundary_target
from ladseg.losses.cross_entropy import cross_entropy
from ladseg.measure.peak_memory import PeakMemory


def edges(label: Tensor, stride: int) -> Tensor:
    """Eight times the pixel less its neighbours, zeros outside, every ``stride`` pixels."""
    height, width = label.shape
    rows = []
    for i in range(0, height, stride):
        row = []
        for j in range(0, width, stride):
            around = [
                int(label[a, b]) if 0 <= a < height and 0 <= b < width else 0
                for a in range(i - 1, i + 2)
                for b in range(j - 1, j + 2)
            ]
            row.append(float(9 * int(label[i, j]) - sum(around) > 0))
        rows.append(row)
    return torch.tensor(rows)


@pytest.mark.parametrize("size", [(16, 24), (13, 18)])
def test_target_by_loops(size: tuple[int, int]) -> None:
    label = torch.randint(0, 4, (size[0] // 4 + 1, size[1] // 4 + 1)).repeat_interleave(4, 0).repeat_interleave(4, 1)
    label = label[: size[0], : size[1]]
    expected = torch.zeros(size)
    for stride, weight in ((1, 0.6), (2, 0.3), (4, 0.1)):
        found = edges(label, stride)
        for i in range(size[0]):
            for j in range(size[1]):
                expected[i, j] += weight * found[i * len(found) // size[0], j * found.shape[1] // size[1]]
    assert torch.equal(boundary_target(label[None])[0, 0], (expected > 0.1 + 1e-6).float())


def test_a_boundary_is_where_classes_meet() -> None:
    label = torch.zeros(1, 12, 12, dtype=torch.int64)
    label[0, :, 6:] = 2
    target = boundary_target(label)[0, 0]
    assert target[6, 6] == 1
    assert target[:, :4].sum() == 0
    assert target[4:8, 9:10].sum() == 0


def test_loss_by_its_formula_over_the_pixels_that_count() -> None:
    torch.manual_seed(0)
    label = torch.randint(0, 3, (2, 8, 8))
    label[0, :3] = 255
    logits = torch.randn(2, 1, 8, 8, requires_grad=True)
    valid = label != 255
    target = boundary_target(label)[:, 0]
    cross_entropy = F.binary_cross_entropy_with_logits(logits[:, 0][valid], target[valid])
    dice = []
    for n in range(2):
        p, t = logits[n, 0][valid[n]].sigmoid(), target[n][valid[n]]
        dice.append(1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1))
    torch.testing.assert_close(boundary_loss(logits, label), cross_entropy + sum(dice) / 2)


def test_two_channels_are_mmsegmentations_loss() -> None:
    """Class by class: binary cross-entropy of each channel, and Dice of the softmax with squares below the line."""
    torch.manual_seed(0)
    label = torch.randint(0, 3, (2, 8, 8))
    label[0, :3] = 255
    logits = torch.randn(2, 2, 8, 8)
    valid, boundary = label != 255, boundary_target(label)[:, 0]
    entropy, dice = [], []
    for channel, target in ((0, 1 - boundary), (1, boundary)):
        entropy.append(F.binary_cross_entropy_with_logits(logits[:, channel][valid], target[valid]))
        for n in range(2):
            p, t = logits.softmax(1)[n, channel][valid[n]], target[n][valid[n]]
            dice.append(1 - (2 * (p * t).sum() + 1) / ((p**2).sum() + (t**2).sum() + 1))
    torch.testing.assert_close(boundary_loss(logits, label), sum(entropy) / 2 + sum(dice) / 4)
    assert boundary_loss(logits, torch.full_like(label, 255)) == 0


def test_nothing_to_see_costs_nothing() -> None:
    logits = torch.randn(1, 1, 4, 4, requires_grad=True)
    loss = boundary_loss(logits, torch.full((1, 8, 8), 255))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()


def upsampled_cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    full = F.interpolate(logits.double(), size=label.shape[-2:], mode="bilinear", align_corners=True)
    return F.cross_entropy(full, label, ignore_index=255)


@pytest.mark.parametrize("rows", [1, 5, 1000])
@pytest.mark.parametrize(("small", "size"), [((3, 4), (13, 9)), ((6, 7), (6, 7)), ((1, 1), (8, 8)), ((9, 9), (5, 4))])
def test_cross_entropy_in_chunks_of_rows(
    rows: int, small: tuple[int, int], size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(resize.CHUNK, "cpu", rows * 2 * 5 * size[1])
    for layout in (torch.contiguous_format, torch.channels_last):
        logits = (4 * torch.randn(2, 5, *small)).to(memory_format=layout).requires_grad_()
        label = torch.randint(0, 5, (2, *size))
        label[0, :2] = 255
        expected = upsampled_cross_entropy(logits, label)
        (gradient,) = torch.autograd.grad(expected, logits)
        found = cross_entropy(logits, label)
        (3 * found).backward()
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(logits.grad, 3 * gradient, rtol=1e-4, atol=1e-6)
        assert cross_entropy(logits.detach(), label).item() == pytest.approx(expected.item(), rel=1e-5)


def test_cross_entropy_by_finite_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(resize.CHUNK, "cpu", 3 * 3 * 11)
    label = torch.randint(0, 3, (1, 10, 11))
    label[0, 4] = 255
    logits = torch.randn(1, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: cross_entropy(x, label), logits)


def test_cross_entropy_of_low_precision_gives_its_gradient_in_it() -> None:
    logits = torch.tensor([[[[300.0]], [[-300.0]]]], dtype=torch.bfloat16, requires_grad=True)
    loss = cross_entropy(logits, torch.ones(1, 4, 4, dtype=torch.int64))
    loss.backward()
    assert (loss.item(), loss.dtype) == (600.0, torch.float32)
    assert logits.grad is not None
    assert logits.grad.dtype == torch.bfloat16
    assert logits.grad.flatten().tolist() == [1.0, -1.0]


@pytest.mark.parametrize("value", [11, 12, 200, -1])
def test_cross_entropy_refuses_labels_outside_the_classes(value: int) -> None:
    with pytest.raises(ValueError, match=f"label has value {value} but there are 11 classes"):
        cross_entropy(torch.randn(1, 11, 4, 4), torch.full((1, 8, 8), value))


@pytest.mark.parametrize("classes", [1, 2, 11, 15, 16, 17])
def test_cross_entropy_of_any_number_of_classes(classes: int) -> None:
    logits = (30 * torch.randn(2, classes, 5, 6)).requires_grad_()
    label = torch.randint(0, classes, (2, 13, 11))
    label[1, 3] = 255
    expected = upsampled_cross_entropy(logits, label)
    (gradient,) = torch.autograd.grad(expected, logits)
    found = cross_entropy(logits, label)
    found.backward()
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(logits.grad, gradient, rtol=1e-4, atol=1e-6)


def test_cross_entropy_holds_no_full_size_map() -> None:
    """Of 171 classes, whose map takes 171 MiB here."""
    logits = torch.randn(1, 171, 64, 64, requires_grad=True)
    label = torch.randint(0, 171, (1, 512, 512))
    cross_entropy(logits, label).backward()
    memory = PeakMemory(torch.device("cpu"), trim=True)
    cross_entropy(logits, label).backward()
    if memory.added is None:
        pytest.skip("this system doesn't tell a process's peak of memory")
    assert memory.added < 100 << 20

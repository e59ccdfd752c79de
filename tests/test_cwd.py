"""CWD's loss and gradients, which are made by hand, against torch's own divergence in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ladseg.distillers import cwd_loss
from ladseg.resize import VECTOR

# Classes are softmaxed one by one or side by side.
FEW, MANY = 5, VECTOR + 3
LAYOUTS = (torch.contiguous_format, torch.channels_last)


def by_torch(student: Tensor, teacher: Tensor, tau: float) -> Tensor:
    one, other = ((logits.double().flatten(2) / tau).log_softmax(-1) for logits in (student, teacher))
    return F.kl_div(one, other, reduction="sum", log_target=True) * tau**2 / one[..., 0].numel()


def pair(channels: int, *layouts: torch.memory_format, size: tuple[int, int] = (6, 7)) -> list[Tensor]:
    source = torch.Generator().manual_seed(0)
    maps = (3 * torch.randn(2, channels, *size, generator=source) for _ in range(2))
    return [logits.contiguous(memory_format=layout) for logits, layout in zip(maps, layouts, strict=True)]


@pytest.mark.parametrize("tau", [1.0, 4.0])
@pytest.mark.parametrize("channels", [FEW, MANY])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("lowered", [(), ("student",), ("teacher",), ("student", "teacher")])
def test_where_the_first_share_underflows(
    lowered: tuple[str, ...], layout: torch.memory_format, channels: int, tau: float
) -> None:
    student, teacher = pair(channels, layout, layout)
    for name, logits in (("student", student), ("teacher", teacher)):
        if name in lowered:
            logits[..., 0, 0] -= 1000
    student.requires_grad_()
    teacher.requires_grad_()
    expected, found = by_torch(student, teacher, tau), cwd_loss(student, teacher, tau)
    steps = 3e-4  # float32 of 1,000 goes by 6e-5
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=steps)
    gradients = (torch.autograd.grad(3 * loss, [student, teacher]) for loss in (found, expected))
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=steps)


@pytest.mark.parametrize("channels", [FEW, MANY])
@pytest.mark.parametrize("of_student", LAYOUTS)
@pytest.mark.parametrize("of_teacher", LAYOUTS)
@pytest.mark.parametrize("asks", [0, 1])
def test_where_one_argument_asks_for_its_gradient(
    asks: int, of_teacher: torch.memory_format, of_student: torch.memory_format, channels: int
) -> None:
    both = pair(channels, of_student, of_teacher)
    both[asks].requires_grad_()
    found, expected = (torch.autograd.grad(loss(*both, 4.0), both[asks])[0] for loss in (cwd_loss, by_torch))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("channels", [FEW, MANY])
def test_channels_far_apart_keep_their_figures(channels: int) -> None:
    student, teacher = pair(channels, torch.channels_last, torch.channels_last, size=(30, 40))
    student += torch.linspace(-200, 200, 2 * channels).view(2, channels, 1, 1)
    torch.testing.assert_close(cwd_loss(student, teacher).double(), by_torch(student, teacher, 4.0), rtol=1e-4, atol=0)


def test_gradients_are_not_differentiated_again() -> None:
    student, teacher = pair(FEW, *LAYOUTS)
    loss = cwd_loss(student.requires_grad_(), teacher)
    with pytest.raises(RuntimeError, match="create_graph"):
        torch.autograd.grad(loss, student, create_graph=True)

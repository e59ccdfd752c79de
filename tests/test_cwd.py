"""CWD's values against the formula by loops in float64, and its derivatives of first and second order."""

import pytest
import torch
from torch import Tensor

from ladseg.distillers import cwd_loss
from tests.reference import equations

LAYOUTS = (torch.contiguous_format, torch.channels_last)


def pair(channels: int, size: tuple[int, int] = (6, 7)) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(0)
    student, teacher = 3 * torch.randn(2, 2, channels, *size, generator=source)
    return student, teacher


@pytest.mark.parametrize("tau", [1.0, 4.0])
@pytest.mark.parametrize("channels", [5, 19])
@pytest.mark.parametrize("of_student", LAYOUTS)
@pytest.mark.parametrize("of_teacher", LAYOUTS)
def test_values_in_every_memory_layout(
    of_teacher: torch.memory_format, of_student: torch.memory_format, channels: int, tau: float
) -> None:
    student, teacher = pair(channels)
    student, teacher = student.contiguous(memory_format=of_student), teacher.contiguous(memory_format=of_teacher)
    assert cwd_loss(student, teacher, tau).item() == pytest.approx(equations.cwd(student, teacher, tau), rel=1e-5)


@pytest.mark.parametrize("lowered", [("student",), ("teacher",), ("student", "teacher")])
@pytest.mark.parametrize("tau", [1.0, 4.0])
def test_shares_that_underflow(tau: float, lowered: tuple[str, ...]) -> None:
    """A score 1,000 below the others has a softmax of 0 in float32; its logarithm counts all the same."""
    student, teacher = pair(5)
    for name, logits in (("student", student), ("teacher", teacher)):
        if name in lowered:
            logits[..., 0, 0] -= 1000
    expected = log_softmax_free(student.double(), teacher.double(), tau)
    assert cwd_loss(student, teacher, tau).item() == pytest.approx(expected.item(), rel=1e-5)
    gradient = torch.autograd.grad(cwd_loss(student.requires_grad_(), teacher, tau), student)[0]
    assert gradient.isfinite().all()


def log_softmax_free(student: Tensor, teacher: Tensor, tau: float) -> Tensor:
    """The formula with the logarithm of each sum of exponentials written out."""
    s, t = student.flatten(2) / tau, teacher.flatten(2) / tau
    shares = t.softmax(-1)
    divergence = (shares * (t - s)).sum(-1) - t.logsumexp(-1) + s.logsumexp(-1)
    return tau**2 * divergence.mean()


def test_channels_far_apart_keep_their_figures() -> None:
    student, teacher = pair(5, size=(30, 40))
    student += torch.linspace(-200, 200, 10).view(2, 5, 1, 1)
    assert cwd_loss(student, teacher).item() == pytest.approx(equations.cwd(student, teacher, 4.0), rel=1e-4)


def test_derivatives_of_first_and_second_order_by_finite_differences() -> None:
    """Of both arguments, with the teacher's map resized on the way."""
    student, teacher = (logits.double().requires_grad_() for logits in pair(3, size=(3, 2)))
    large = torch.randn(2, 3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    for other in (teacher, large):
        assert torch.autograd.gradcheck(cwd_loss, (student, other))
        assert torch.autograd.gradgradcheck(cwd_loss, (student, other))


def test_under_torch_func() -> None:
    """The student's gradient is ``tau / (N C) * (phi(S) - phi(T))``, and the Hessian is the softmax's Jacobian."""
    tau = 2.0
    student, teacher = (logits.double() for logits in pair(3, size=(2, 3)))
    shares_s, shares_t = ((logits.flatten(2) / tau).softmax(-1) for logits in (student, teacher))
    gradient = torch.func.grad(cwd_loss)(student, teacher, tau)
    torch.testing.assert_close(gradient.flatten(2), tau / 6 * (shares_s - shares_t))
    of_row = torch.func.grad(lambda row: cwd_loss(row.view(1, 1, 2, 3), teacher[:1, :1], tau))
    hessian = torch.func.jacrev(of_row)(student[0, 0].ravel())
    row = shares_s[0, 0]
    torch.testing.assert_close(hessian, torch.diag(row) - torch.outer(row, row))


def test_per_image_gradients_by_vmap() -> None:
    student, teacher = pair(3)
    each = torch.func.vmap(torch.func.grad(cwd_loss))(student[:, None], teacher[:, None])[:, 0]
    both = torch.func.grad(cwd_loss)(student, teacher)
    torch.testing.assert_close(each / 2, both)

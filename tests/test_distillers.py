"""CWD and KD against the formulas with loops, and their laws."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ladseg import SegmentationOutput
from ladseg.distillers import DISTILLERS, build_distiller, cwd_loss, kd_loss
from ladseg.recipe import Distill
from tests.reference import equations

LOSSES = {"cwd": (cwd_loss, equations.cwd), "kd": (kd_loss, equations.kd)}


def pair(seed: int = 0, shape: tuple[int, ...] = (2, 4, 5, 7), size: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(*shape, generator=source) * size for _ in range(2))  # type: ignore[return-value]


@pytest.mark.parametrize("name", LOSSES)
@given(seed=st.integers(0, 1000), tau=st.sampled_from([0.5, 1.0, 4.0]), h=st.integers(1, 5), w=st.integers(1, 5))
@settings(max_examples=15, deadline=None)
def test_equals_the_formula(name: str, seed: int, tau: float, h: int, w: int) -> None:
    student, teacher = pair(seed, (2, 3, h, w))
    fast, slow = LOSSES[name]
    assert float(fast(student, teacher, tau)) == pytest.approx(slow(student, teacher, tau), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_zero_only_for_equal_outputs(name: str) -> None:
    student, teacher = pair()
    loss, _ = LOSSES[name]
    assert float(loss(student, student)) == pytest.approx(0.0, abs=1e-5)
    assert float(loss(student, teacher)) > 0.01


def test_cwd_ignores_a_constant_a_channel_and_kd_a_constant_a_position() -> None:
    student, teacher = pair()
    channel, position = torch.randn(2, 4, 1, 1), torch.randn(2, 1, 5, 7)
    torch.testing.assert_close(cwd_loss(student + channel, teacher), cwd_loss(student, teacher))
    torch.testing.assert_close(kd_loss(student + position, teacher), kd_loss(student, teacher))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_extreme_logits_in_low_precision_stay_finite(name: str, dtype: torch.dtype) -> None:
    student, teacher = (logits.to(dtype).requires_grad_() for logits in pair(size=3000.0))
    loss = LOSSES[name][0](student, teacher)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert student.grad is not None
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_of_both_arguments(name: str) -> None:
    loss = LOSSES[name][0]
    student, teacher = (logits.requires_grad_() for logits in pair(shape=(1, 3, 3, 2)))
    for which, value in (("student", student), ("teacher", teacher)):
        (gradient,) = torch.autograd.grad(loss(student, teacher), value)
        for index in [(0, 0, 0, 0), (0, 2, 1, 1)]:
            step = torch.zeros_like(value)
            step[index] = 1e-2
            moved = [
                (student + s * step, teacher) if which == "student" else (student, teacher + s * step) for s in (1, -1)
            ]
            reference = LOSSES[name][1]
            tau = 4.0 if name == "cwd" else 1.0
            slope = (reference(*moved[0], tau) - reference(*moved[1], tau)) / 2e-2
            assert float(gradient[index]) == pytest.approx(slope, rel=2e-3, abs=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_the_larger_map_is_resized_to_the_smaller(name: str) -> None:
    loss = LOSSES[name][0]
    small, _ = pair(shape=(2, 4, 5, 7))
    large = torch.randn(2, 4, 9, 13)
    reduced = equations.upsample(large, 5, 7).float()
    torch.testing.assert_close(loss(small, large), loss(small, reduced))
    torch.testing.assert_close(loss(large, small), loss(reduced, small))


def test_other_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="images and classes must be the same"):
        cwd_loss(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4, 4))


@pytest.mark.parametrize("method", DISTILLERS)
def test_every_distiller_returns_named_finite_terms(method: str) -> None:
    student, teacher = pair()
    student.requires_grad_()
    label = torch.full((2, 40, 56), 255)
    distiller = build_distiller(Distill(method=method))  # type: ignore[arg-type]
    terms = distiller(SegmentationOutput(student), SegmentationOutput(teacher), label)
    assert set(terms) == (set() if method == "none" else {method}) == distiller.terms
    for value in terms.values():
        assert value.shape == ()
        (gradient,) = torch.autograd.grad(value, student)
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0

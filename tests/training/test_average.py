"""Averaged weights, parts of a batch, early stops and last weights, in whole trainings of the toy."""

import json
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from timm.utils import ModelEmaV3
from torch import Tensor

from ladseg.errors import TrainingError
from ladseg.recipe import Schedule
from ladseg.training import build_optimizer
from ladseg.training.average import AveragedWeights
from ladseg.training.identity import refuse_other_identity, training_identity
from ladseg.training.step import train_step
from tests.training import toy

EMA = replace(toy.SCHEDULE, ema=0.8)


@pytest.fixture(autouse=True)
def _own_accelerator() -> Iterator[None]:
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def moved(network: torch.nn.Module, step: int) -> None:
    """Change every parameter and buffer."""
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.add_(torch.randn(value.shape, generator=generator))
            else:
                value.add_(1)


@pytest.mark.parametrize("decay", [0.5, 0.9999])
def test_the_average_is_timms(decay: float) -> None:
    """With its warm-up; and the same by the formula, in float64, with a loop."""
    network = toy.Network()
    ours, theirs = AveragedWeights(network, decay), ModelEmaV3(network, decay=decay, use_warmup=True)
    expected = {name: value.double() for name, value in network.state_dict().items()}
    for step in range(1, 9):
        moved(network, step)
        ours.update(step)
        theirs.update(network, step)
        d = min(decay, 1 - step ** (-2 / 3))
        for name, value in network.state_dict().items():
            whole = not value.is_floating_point()
            expected[name] = value.double() if whole else d * expected[name] + (1 - d) * value.double()
    for name, value in theirs.module.state_dict().items():
        torch.testing.assert_close(ours.values[name], value, rtol=0, atol=0)
        torch.testing.assert_close(ours.values[name].double(), expected[name], rtol=1e-4, atol=1e-4)
    assert not torch.equal(ours.values["first.weight"], network.first.weight)


def test_the_network_has_the_average_for_a_while() -> None:
    network = toy.Network()
    average = AveragedWeights(network, 0.9)
    moved(network, 1)
    before = {name: value.clone() for name, value in network.state_dict().items()}

    def fail() -> None:
        with average.in_network():
            assert all(torch.equal(value, average.values[name]) for name, value in network.state_dict().items())
            raise ValueError("in evaluation")

    with pytest.raises(ValueError, match="in evaluation"):
        fail()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_average_is_evaluated_and_delivered_and_disturbs_nothing(tmp_path: Path) -> None:
    """The training itself goes as without: same losses, same weights in the checkpoints."""
    seen: dict[str, list[dict[str, Tensor]]] = {"with": [], "without": []}
    for name, schedule in {"with": EMA, "without": toy.SCHEDULE}.items():
        toy.run(
            tmp_path / name,
            schedule,
            evaluated=lambda network, to=seen[name]: to.append(  # type: ignore[misc]
                {key: value.clone() for key, value in network.state_dict().items()}
            ),
        )
    checkpoint, plain = (
        torch.load(tmp_path / name / "toy" / "checkpoints" / "step_000024.pt", weights_only=True) for name in seen
    )
    for name, value in plain["objective"].items():
        assert torch.equal(checkpoint["objective"][name], value)
    assert "average" not in plain
    assert all(torch.equal(value, seen["with"][-1][name]) for name, value in checkpoint["average"].items())
    assert not torch.equal(seen["with"][-1]["first.weight"], seen["without"][-1]["first.weight"])
    result = json.loads((tmp_path / "with" / "toy" / "result.json").read_text())
    delivered = load_file(tmp_path / "with" / "toy" / "weights.safetensors")
    best = seen["with"][result["best_step"] // 8 - 1]
    assert all(torch.equal(delivered[name], value) for name, value in best.items())


@pytest.mark.parametrize(
    "moments", [["forward 11"], ["torch.save 2", "evaluate 1", "save_weights 1"]], ids=lambda m: ", ".join(m)
)
def test_an_average_goes_on_where_it_was(moments: list[str], tmp_path: Path) -> None:
    def end(process: toy.BaseProcess) -> int | None:
        process.join(60)
        return process.exitcode

    assert end(toy.start(toy.run, tmp_path / "unbroken", EMA)) == 0
    for moment in moments:
        assert end(toy.start(toy.run_until_killed, tmp_path / "killed", moment, EMA)) == -signal.SIGKILL
    assert end(toy.start(toy.run, tmp_path / "killed", EMA)) == 0
    ours, theirs = (load_file(tmp_path / name / "toy" / "weights.safetensors") for name in ("killed", "unbroken"))
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def test_last_weights_are_delivered(tmp_path: Path) -> None:
    """With scores that only fall, the best ones are those of the first evaluation."""
    for deliver, step in (("best", 8), ("last", 24)):
        scores = iter((0.9, 0.5, 0.1))
        schedule = replace(toy.SCHEDULE, deliver=deliver)
        result = toy.run(tmp_path / deliver, schedule, score=lambda: next(scores))  # noqa: B023
        delivered = load_file(tmp_path / deliver / "toy" / "weights.safetensors")
        kept = torch.load(tmp_path / deliver / "toy" / "checkpoints" / f"step_{step:06d}.pt", weights_only=True)
        assert torch.equal(delivered["first.weight"], kept["objective"]["network.first.weight"])
        assert (result.best_step, result.best_score, result.last_score) == (step, 0.9, 0.1)


def test_a_training_stops_early(tmp_path: Path) -> None:
    scores = iter((0.5, 0.6, 0.6, 0.4, 0.9))
    schedule = replace(toy.SCHEDULE, iterations=40, early_stop=2)
    result = toy.run(tmp_path, schedule, score=lambda: next(scores))
    assert (result.iterations, result.best_step, result.best_score) == (32, 16, 0.6)
    assert toy.run(tmp_path, schedule, score=lambda: next(scores)) == result


@pytest.mark.parametrize("accumulate", [2, 4])
def test_parts_of_a_batch_add_up_to_the_batch(accumulate: int) -> None:
    """Without batch norm and dropout the step is the same; a torch loop over the whole batch says so."""
    ours, theirs = toy.build(dropout=0.0, norm=False), toy.build(dropout=0.0, norm=False)
    batch = toy.batch_of(0)
    schedule = replace(toy.SCHEDULE, accumulate=accumulate)
    optimizer = build_optimizer(ours, schedule)
    parameters = [value for value in ours.parameters() if value.requires_grad]
    terms = train_step(ours.train(), batch, optimizer, parameters, 0.1, schedule, Accelerator(cpu=True))
    whole = theirs.train()(batch)
    whole["loss"].backward()
    for (name, value), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        if other.grad is not None:
            assert value.grad is not None, name
            torch.testing.assert_close(value.grad, other.grad, rtol=1e-4, atol=1e-6)
    for name in ("loss", "seg", "kd"):
        torch.testing.assert_close(terms[name], whole[name].detach(), rtol=1e-5, atol=1e-6)


def test_keys_that_came_later_do_not_tell_trainings_apart(tmp_path: Path) -> None:
    """A training of an earlier version goes on where a new key has its default, and only there."""
    later = ("min_lr", "decay", "warmup_ratio", "ema", "early_stop", "deliver", "accumulate", "freeze", "head_lr")
    now = training_identity(Schedule(), 0, "student", {})
    there = {key: value for key, value in json.loads(now).items() if key.removeprefix("schedule.") not in later}
    assert len(there) == len(json.loads(now)) - len(later)
    refuse_other_identity(tmp_path, json.dumps(there), now)
    with pytest.raises(TrainingError, match=r"with schedule\.freeze \[\], and now it is \['backbone'\]"):
        refuse_other_identity(
            tmp_path, json.dumps(there), training_identity(Schedule(freeze=["backbone"]), 0, "student", {})
        )


def test_a_seed_that_no_recipe_sets_is_not_asked_back(tmp_path: Path) -> None:
    """Versions derive a teacher's seed in different ways, so the recipe's seed may be the same."""
    there, now = (training_identity(Schedule(), seed, "teacher", {}) for seed in (0, 2173428334377041140))
    with pytest.raises(TrainingError, match="another version of ladseg began it, or another seed; finish it with"):
        refuse_other_identity(tmp_path, there, now)


def test_parts_are_equal() -> None:
    model: Any = toy.build()
    with pytest.raises(TrainingError, match=r"schedule\.accumulate 3 does not divide the 8 images"):
        train_step(
            model, toy.batch_of(0), build_optimizer(model, Schedule()), [], 0.1, Schedule(accumulate=3), Accelerator()
        )

"""Learning rates, moments, optimizers and precision are functions that can be checked by hand."""

import copy
import warnings
from dataclasses import replace

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, PolynomialLR

from ladseg.errors import RecipeError, TrainingError
from ladseg.recipe import Schedule
from ladseg.recipe_files import make_recipe
from ladseg.training import build_optimizer, depthwise_in_float32, is_due, learning_rate, poly_lr, resolve_precision
from ladseg.training.schedule import evaluation_is_due, is_delivered, is_over, log_is_due, save_is_due


@pytest.mark.parametrize("power", [0.9, 1.0, 2.0])
def test_poly_is_torch_s_polynomial(power: float) -> None:
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=0.02)
    scheduler = PolynomialLR(optimizer, total_iters=50, power=power)
    for step in range(50):
        assert poly_lr(step, 0.02, 50, power=power) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        scheduler.step()


def test_warm_up_is_a_ramp_times_the_decay() -> None:
    for step in range(40):
        expected = 0.1 * (1 - step / 40) ** 0.9 * ((step + 1) / 8 if step < 8 else 1)
        assert poly_lr(step, 0.1, 40, warmup=8, power=0.9) == pytest.approx(expected)


def rates(scheduler: LRScheduler, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(scheduler.get_last_lr()[0])
        scheduler.optimizer.step()
        scheduler.step()
    return found


def sgd(lr: float) -> SGD:
    return SGD([nn.Parameter(torch.zeros(1))], lr=lr)


@pytest.mark.parametrize("floor", [0.0, 1e-4])
def test_rates_are_torchs(floor: float) -> None:
    """Its cosine to a floor; its polynomial, of what is above the floor; its linear warm-up as a factor on either."""
    ramp = rates(LinearLR(sgd(1.0), start_factor=0.1, total_iters=10), 50)
    curves = {
        "cosine": rates(CosineAnnealingLR(sgd(0.02), 50, eta_min=floor), 50),
        "poly": [floor + above for above in rates(PolynomialLR(sgd(0.02 - floor), 50, power=0.9), 50)],
    }
    for decay, expected in curves.items():
        schedule = Schedule(iterations=50, lr=0.02, min_lr=floor, decay=decay)  # type: ignore[arg-type]
        assert [learning_rate(step, schedule) for step in range(50)] == pytest.approx(expected, rel=1e-9)
        warm = replace(schedule, warmup=10, warmup_ratio=0.1)
        warmed = [rate * factor for rate, factor in zip(expected, ramp, strict=True)]
        assert [learning_rate(step, warm) for step in range(50)] == pytest.approx(warmed, rel=1e-9)
        assert learning_rate(9, warm) < expected[9]
        assert learning_rate(10, warm) == pytest.approx(expected[10])


def test_stdc_is_warmed_up_as_mmcv_does() -> None:
    """Its formula: regular * (1 - (1 - step / 1000) * (1 - 0.1)), the regular rate poly to 1e-4."""
    schedule = Schedule(iterations=80_000, lr=0.01, min_lr=1e-4, warmup=1000, warmup_ratio=0.1)
    for step in (0, 1, 500, 999, 1000, 79_999):
        regular = (0.01 - 1e-4) * (1 - step / 80_000) ** 0.9 + 1e-4
        expected = regular * (1 - (1 - step / 1000) * (1 - 0.1)) if step < 1000 else regular
        assert learning_rate(step, schedule) == pytest.approx(expected, rel=1e-12)
    assert learning_rate(0, schedule) == pytest.approx(0.001)


def test_without_new_keys_the_rate_is_poly_lr_to_the_last_bit() -> None:
    schedule = Schedule(iterations=37, lr=0.013, warmup=5, power=0.8)
    for step in range(37):
        assert learning_rate(step, schedule) == poly_lr(step, 0.013, 37, 5, 0.8)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"min_lr": 0.1}, "schedule.min_lr 0.1 is above schedule.lr 0.02"),
        ({"min_lr": -1}, "schedule.min_lr is -1; it must be a number of at least 0"),
        ({"warmup_ratio": 0}, "schedule.warmup_ratio is 0; it must be a number above 0 and at most 1"),
        ({"decay": "cosin"}, "did you mean 'cosine'?"),
        ({"ema": 1}, "schedule.ema is 1; it must be a number above 0 and below 1"),
        ({"deliver": "first"}, "schedule.deliver is 'first'; it must be one of best, last"),
        ({"early_stop": 0}, "schedule.early_stop is 0"),
        ({"accumulate": 3}, "schedule.accumulate 3 does not divide schedule.batch_size 8"),
        ({"norm_decay": -1}, "schedule.norm_decay is -1"),
        ({"head_lr": 0}, "schedule.head_lr is 0; it must be a number above 0"),
    ],
)
def test_wrong_values_are_one_line(keys: dict, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        make_recipe({"schedule": keys})
    assert message in str(caught.value)


def test_an_early_stop_counts_evaluations_without_a_better_one() -> None:
    schedule = Schedule(iterations=100, eval_every=10, early_stop=3)
    assert [step for step in range(10, 101, 10) if is_over(step, 20, schedule)] == [50, 60, 70, 80, 90, 100]
    assert not is_over(55, 30, schedule)
    never = replace(schedule, early_stop=None)
    assert [step for step in range(101) if is_over(step, 0, never)] == [100]


def test_the_last_weights_are_delivered_at_the_end() -> None:
    schedule = Schedule(iterations=100, eval_every=10)
    assert [s for s in range(10, 101, 10) if is_delivered(s, 20, schedule)] == [20]
    last = replace(schedule, deliver="last")
    assert [s for s in range(10, 101, 10) if is_delivered(s, 20, last)] == [20, 100]
    assert is_delivered(50, 20, replace(last, early_stop=3))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_heads_and_norms_have_settings_of_their_own(optimizer: str) -> None:
    network = nn.ModuleDict(
        {
            "backbone": nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)),
            "head": nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)),
        }
    )
    names = {id(value): name for name, value in network.named_parameters()}
    schedule = Schedule(optimizer=optimizer, head_lr=10, weight_decay=0.01, norm_decay=0.002)  # type: ignore[arg-type]
    found = {
        names[id(value)]: (group["weight_decay"], group["lr_factor"])
        for group in build_optimizer(network, schedule).param_groups
        for value in group["params"]
    }
    assert found == {
        name: (0.01 if value.ndim > 1 else 0.002, 10 if name.startswith("head") else 1)
        for name, value in network.named_parameters()
    }
    with pytest.raises(TrainingError, match="the network has no module called backbone or encoder"):
        build_optimizer(network["head"], schedule)


@pytest.mark.parametrize(
    ("iterations", "every", "times"),
    [
        (4000, None, [800, 1600, 2400, 3200, 4000]),
        (7, None, [2, 4, 6, 7]),
        (3, None, [1, 2, 3]),
        (10, 4, [4, 8, 10]),
        (10, 50, [10]),
    ],
)
def test_moments(iterations: int, every: int | None, times: list[int]) -> None:
    assert [step for step in range(iterations + 1) if is_due(step, every, iterations)] == times


def test_evaluated_weights_are_saved_and_saved_ones_checked() -> None:
    schedule = Schedule(iterations=100, eval_every=30, save_every=20)
    moments = {
        name: {step for step in range(101) if due(step, schedule)}
        for name, due in {"evaluate": evaluation_is_due, "save": save_is_due, "log": log_is_due}.items()
    }
    assert moments["evaluate"] == {30, 60, 90, 100}
    assert moments["save"] == {20, 30, 40, 60, 80, 90, 100}
    assert moments["evaluate"] <= moments["save"] <= moments["log"]


def test_optimizers_train_what_requires_a_gradient() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Linear(2, 2).requires_grad_(False))
    sgd = build_optimizer(module, Schedule(optimizer="sgd", weight_decay=0.01))
    assert [len(group["params"]) for group in sgd.param_groups] == [4]
    assert sgd.param_groups[0]["weight_decay"] == 0.01
    adamw = build_optimizer(module, Schedule(optimizer="adamw", weight_decay=0.01))
    by_decay = {group["weight_decay"]: [p.ndim for p in group["params"]] for group in adamw.param_groups}
    assert by_decay == {0.01: [4], 0.0: [1, 1, 1]}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_optimizers_take_the_same_step_as_torch_s_plain_loop(optimizer: str) -> None:
    schedule = replace(Schedule(), optimizer=optimizer, lr=0.1, weight_decay=0.01)  # type: ignore[arg-type]
    ours, theirs = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
    theirs.load_state_dict(ours.state_dict())
    plain: torch.optim.Optimizer = (
        SGD(theirs.parameters(), 0.1, momentum=0.9, weight_decay=0.01, foreach=False)
        if optimizer == "sgd"
        else torch.optim.AdamW(theirs.parameters(), 0.1, weight_decay=0.01, foreach=False)
    )
    fast = build_optimizer(ours, schedule)
    for step in range(3):
        for module, opt in ((ours, fast), (theirs, plain)):
            module.weight.grad = torch.full((3, 3), 1.0 + step)
            opt.step()
    torch.testing.assert_close(ours.weight, theirs.weight)


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({"avx2", "avx512f"}, "fp32"),
        ({"avx512_bf16"}, "bf16"),
        ({"amx_bf16", "amx_tile"}, "bf16"),
        ({"asimd", "bf16"}, "bf16"),
        (set(), "fp32"),
    ],
)
def test_auto_is_bfloat16_where_the_processor_has_it(features: set[str], expected: str) -> None:
    assert resolve_precision("auto", "cpu", frozenset(features)) == expected


def test_an_explicit_precision_is_kept() -> None:
    assert resolve_precision("bf16", "cpu", frozenset()) == "bf16"
    assert resolve_precision("fp32", "cuda") == "fp32"
    assert resolve_precision("auto", "mps") == "fp32"


@pytest.mark.parametrize("able", [True, False])
def test_auto_asks_the_gpu(able: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: able)
    assert resolve_precision("auto", "cuda") == ("bf16" if able else "fp32")


def test_this_processor_answers_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert resolve_precision("auto", "cpu") in ("fp32", "bf16")


@pytest.mark.parametrize(("groups", "dtype"), [(6, torch.float32), (2, torch.bfloat16), (1, torch.bfloat16)])
def test_only_depthwise_convolutions_stay_in_float32(groups: int, dtype: torch.dtype) -> None:
    layer = nn.Conv2d(6, 6, 3, groups=groups)
    expected = layer(image := torch.randn(2, 6, 9, 9))
    with depthwise_in_float32(nn.Sequential(layer)), depthwise_in_float32(layer):
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(image.bfloat16()).dtype == dtype
        torch.testing.assert_close(layer(image), expected, rtol=0, atol=0)
        twin = copy.deepcopy(layer)
        nn.init.zeros_(twin.weight)
        assert not torch.equal(twin(image), expected), "a copy computes with weights of its own"
        assert set(layer.state_dict()) == {"weight", "bias"}


def test_convolutions_are_given_back_as_they_came() -> None:
    """After an error too, and with a forward pass that somebody else has put into the layer."""
    layer, other = (nn.Conv2d(4, 4, 3, groups=4) for _ in range(2))
    own = other.forward = lambda map_: map_  # type: ignore[assignment, misc]
    before = dict(vars(layer))

    def fail() -> None:
        with depthwise_in_float32(nn.Sequential(layer, other)):
            assert vars(layer) != before
            raise ValueError("in training")

    with pytest.raises(ValueError, match="in training"):
        fail()
    assert vars(layer) == before
    assert type(layer) is nn.Conv2d
    assert other.forward is own


def test_a_subclass_of_convolution_keeps_its_own_ways() -> None:
    """timm's pads by the image's size."""
    layer = Conv2dSame(4, 4, 3, stride=2, groups=4)
    with depthwise_in_float32(layer), torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(1, 4, 7, 9)).shape == (1, 4, 4, 5)

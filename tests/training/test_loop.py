"""The loop's promises to whoever calls it."""

import io
import json
import math
import os
import re
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from rich.console import Console
from rich.text import Text
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from ladseg.errors import TrainingError, UserError
from ladseg.progress import progress
from ladseg.recipe import Schedule
from ladseg.training import FitResult, fit, make_accelerator
from ladseg.training.logs import RunLog, Stage
from tests.training import toy

SHORT = replace(toy.SCHEDULE, iterations=6, eval_every=2, save_every=None, warmup=0)


@pytest.fixture(autouse=True)
def _own_accelerator() -> Iterator[None]:
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


class Line(nn.Module):
    """One weight w, and the loss w * slope(step): every update is known by hand."""

    def __init__(self, slope: Callable[[int], float] = lambda step: 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.slope = slope

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        step = int(batch["step"])
        loss = (self.weight * self.slope(step)).sum()
        return {"loss": loss, "line": loss.detach(), "steady": torch.ones(())}


def train_line(
    folder: Path,
    schedule: Schedule = SHORT,
    evaluate: Callable[[Line], float] | None = None,
    **options: Any,
) -> tuple[Line, FitResult]:
    objective = Line(options.pop("slope", lambda step: 1.0))
    for name, value in options.pop("attributes", {}).items():
        setattr(objective, name, value)

    def batches(start: int) -> Iterator[dict[str, Tensor]]:
        return ({"step": torch.tensor([step])} for step in range(start, schedule.iterations))

    result = fit(
        objective,
        objective,
        options.pop("batches", batches),
        None if evaluate is None else lambda: evaluate(objective),
        schedule,
        folder / "line",
        make_accelerator(schedule.precision, folder, options.pop("trackers", ())),
        seed=0,
        title="line",
        **options,
    )
    return objective, result


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "line/metrics.jsonl").read_text().splitlines()]


def test_updates_are_sgd_with_momentum_and_the_poly_schedule(tmp_path: Path) -> None:
    schedule = replace(SHORT, weight_decay=0.0)
    objective, result = train_line(tmp_path, schedule)
    weight = velocity = 0.0
    for step in range(6):
        velocity = 0.9 * velocity + 1.0
        weight -= 0.05 * (1 - step / 6) ** 0.9 * velocity
    assert objective.weight.item() == pytest.approx(weight, rel=1e-5)
    assert (result.best_score, result.best_step, result.iterations) == (None, 6, 6)


def test_clipping_bounds_the_step_and_logs_the_norm(tmp_path: Path) -> None:
    schedule = replace(SHORT, weight_decay=0.0, momentum=0.0, power=0.0, clip_grad=0.5)
    objective, _ = train_line(tmp_path, schedule, slope=lambda step: 40.0)
    assert objective.weight.item() == pytest.approx(-6 * 0.05 * 0.5, rel=1e-4)
    assert metrics(tmp_path)[0]["grad_norm"] == pytest.approx(40.0)


def test_best_weights_are_delivered_and_not_the_last(tmp_path: Path) -> None:
    """The score peaks at the evaluation after four steps."""
    seen: list[float] = []

    def evaluate(objective: Line) -> float:
        assert not objective.training
        assert not torch.is_grad_enabled()
        seen.append(objective.weight.item())
        return [0.1, 0.9, 0.3][len(seen) - 1]

    objective, result = train_line(tmp_path, evaluate=evaluate)
    assert (result.best_step, result.best_score, result.last_score) == (4, 0.9, 0.3)
    assert objective.weight.item() == seen[1] != seen[2]
    assert load_file(tmp_path / "line/weights.safetensors")["weight"].item() == seen[1]
    kept = sorted(path.name for path in (tmp_path / "line/checkpoints").iterdir())
    assert kept == ["step_000004.pt", "step_000006.pt"]


def test_two_last_checkpoints_and_the_best_are_kept(tmp_path: Path) -> None:
    scores = iter([0.9, 0.1, 0.1, 0.1])
    train_line(tmp_path, replace(SHORT, iterations=8), evaluate=lambda objective: next(scores))
    kept = sorted(path.name for path in (tmp_path / "line/checkpoints").iterdir())
    assert kept == ["step_000002.pt", "step_000006.pt", "step_000008.pt"]
    content = torch.load(tmp_path / "line/checkpoints/step_000008.pt", weights_only=True)
    assert content["precision"] == "fp32"


def test_finished_training_returns_its_result_at_once(tmp_path: Path) -> None:
    first, result = train_line(tmp_path, evaluate=lambda objective: 0.5)

    def never(start: int) -> Iterator[dict[str, Tensor]]:
        raise AssertionError("trained again")

    second, again = train_line(tmp_path, evaluate=lambda objective: math.nan, batches=never)
    assert again == result
    assert torch.equal(second.weight, first.weight)


@pytest.mark.parametrize("finished", [True, False])
def test_another_recipe_is_refused(finished: bool, tmp_path: Path) -> None:
    train_line(tmp_path, depends_on={"teacher": "a"})
    if not finished:
        (tmp_path / "line/result.json").unlink()
    with pytest.raises(TrainingError, match=r"line: holds a training with schedule\.lr 0\.05, and now it is 0\.1;"):
        train_line(tmp_path, replace(SHORT, lr=0.1), depends_on={"teacher": "a"})
    with pytest.raises(TrainingError, match="teacher a, and now it is b"):
        train_line(tmp_path, depends_on={"teacher": "b"})
    train_line(tmp_path, replace(SHORT, save_every=1), depends_on={"teacher": "a"})
    # A key that the program did not have then, at null.
    train_line(tmp_path, depends_on={"teacher": "a", "distill": None})


def test_non_finite_term_stops_with_its_name_and_step(tmp_path: Path) -> None:
    schedule = replace(SHORT, iterations=200, eval_every=50)
    with pytest.raises(TrainingError) as caught:
        train_line(tmp_path, schedule, slope=lambda step: math.inf if step == 52 else 1.0)
    message = str(caught.value)
    assert "'line' is -inf at step 53" in message
    assert "step_000050.pt" in message
    assert "\n" not in message
    content = torch.load(tmp_path / "line/checkpoints/step_000050.pt", weights_only=True)
    assert content["objective"]["weight"].isfinite().all()
    assert not (tmp_path / "line/result.json").exists()
    assert all(math.isfinite(value) for line in metrics(tmp_path) for value in line.values())
    assert message in (tmp_path / "line/log.txt").read_text()


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({}, "lower schedule.lr or set schedule.warmup or schedule.clip_grad"),
        ({"lr_key": "distill.lr"}, "lower distill.lr or set schedule.warmup or schedule.clip_grad"),
        ({"lr_key": None}, "set schedule.clip_grad"),
    ],
    ids=["the schedule's", "its own", "fixed"],
)
def test_a_training_that_diverges_names_the_key_of_its_rate(
    options: dict[str, Any], remedy: str, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=f"; {remedy}, in a new folder$"):
        train_line(tmp_path, slope=lambda step: math.nan, **options)


def test_non_finite_weights_are_not_saved(tmp_path: Path) -> None:
    """The loss of the last step is finite and its gradient is not."""

    class Root(Line):
        def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            loss = self.weight.abs().sqrt().sum()
            return {"loss": loss}

    objective = Root()
    batches = [{"step": torch.tensor([step])} for step in range(2)]
    schedule = replace(SHORT, iterations=1)
    with pytest.raises(
        TrainingError, match=r"weights are not finite after step 1; no checkpoint.*; lower schedule\.lr or"
    ):
        fit(
            objective,
            objective,
            lambda start: batches,
            None,
            schedule,
            tmp_path / "root",
            make_accelerator("fp32", tmp_path),
            seed=0,
            title="root",
        )
    assert not list(tmp_path.glob("root/checkpoints/*"))


def test_weighted_term_that_never_shows_up_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="'cwd' did not show up at step 1; the objective gave loss, line, steady"):
        train_line(tmp_path, attributes={"expected_terms": {"cwd", "line"}})


def test_batches_that_end_early_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="ended before step 3"):
        train_line(tmp_path, batches=lambda start: [{"step": torch.tensor([step])} for step in range(2)])


def test_every_term_is_logged_as_its_mean_over_the_steps(tmp_path: Path) -> None:
    schedule = replace(SHORT, iterations=300, eval_every=100, lr=1e-30, momentum=0.0, weight_decay=0.0)
    train_line(tmp_path, schedule, evaluate=lambda objective: 0.25)
    lines = metrics(tmp_path)
    terms = [line for line in lines if "loss" in line]
    assert [line["step"] for line in terms] == sorted({*range(3, 301, 3), 100, 200, 300})
    assert all(line["steady"] == 1.0 and line["images_per_second"] > 0 for line in terms)
    assert [line["step"] for line in lines if "score" in line] == [100, 200, 300]


def test_tensorboard_shows_terms_score_and_pictures(tmp_path: Path) -> None:
    picture = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    drawn = []

    def pictures() -> list[np.ndarray]:
        drawn.append(len(drawn))
        return [picture]

    schedule = replace(SHORT, iterations=300, eval_every=100, lr=1e-30, momentum=0.0, weight_decay=0.0)
    train_line(tmp_path, schedule, evaluate=lambda objective: 0.25, pictures=pictures, trackers=["tensorboard"])
    events = EventAccumulator(str(tmp_path / "line/ladseg")).Reload()
    logged = [line for line in metrics(tmp_path) if "loss" in line]
    for term in ("loss", "lr", "steady"):
        shown = [(event.step, event.value) for event in events.Scalars(f"train/{term}")]
        assert shown == [(line["step"], pytest.approx(line[term])) for line in logged]
    assert [(event.step, event.value) for event in events.Scalars("val/score")] == [(s, 0.25) for s in (100, 200, 300)]
    shown = events.Images("samples/0")
    assert [event.step for event in shown] == [100, 200, 300]
    with Image.open(io.BytesIO(shown[0].encoded_image_string)) as decoded:
        assert np.array_equal(np.asarray(decoded), picture)


def test_no_tracker_no_pictures(tmp_path: Path) -> None:
    def pictures() -> list[np.ndarray]:
        raise AssertionError("drawn for nobody")

    train_line(tmp_path, evaluate=lambda objective: 0.25, pictures=pictures)
    assert not list(tmp_path.rglob("events.out.tfevents.*"))


def test_a_tracker_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ladseg.training.accelerators.find_spec", lambda name: None)
    with pytest.raises(TrainingError, match="trackers has 'wandb', which is not installed: pip install wandb"):
        make_accelerator("fp32", tmp_path, ["wandb"])


def test_resume_in_another_precision_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train_line(tmp_path)
    (tmp_path / "line/result.json").unlink()
    train_line(tmp_path, replace(SHORT, precision="bf16"))
    assert "goes on from step 6 in bf16; it was fp32 so far" in capsys.readouterr().out


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def flip(path: Path) -> None:
    """One bit of the weight, which torch.load takes without a word."""
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        entry = next(info for info in archive.infolist() if "/data/" in info.filename)
    name_length, extra_length = struct.unpack("<HH", content[entry.header_offset + 26 : entry.header_offset + 30])
    content[entry.header_offset + 30 + name_length + extra_length + 2] ^= 1 << 4
    path.write_bytes(content)
    torch.load(path, weights_only=True)


@pytest.mark.parametrize("spoil", [cut, flip, lambda path: path.write_bytes(b""), lambda path: torch.save({}, path)])
def test_a_damaged_checkpoint_is_passed_over_with_a_word(
    spoil: Callable[[Path], object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = [0.1, 0.5, 0.9]
    whole, expected = train_line(tmp_path / "whole", evaluate=lambda objective: scores[int(count(objective)) - 1])
    train_line(tmp_path, evaluate=lambda objective: scores[int(count(objective)) - 1])
    (tmp_path / "line/result.json").unlink()
    path = tmp_path / "line/checkpoints/step_000006.pt"
    spoil(path)
    capsys.readouterr()
    again, result = train_line(tmp_path, evaluate=lambda objective: scores[int(count(objective)) - 1])
    said = capsys.readouterr().out
    assert "step_000006.pt: not a readable checkpoint (" in said
    assert "goes on from step 4" in said
    assert torch.equal(again.weight, whole.weight)
    assert replace(result, seconds=0.0) == replace(expected, seconds=0.0)
    assert path.is_file()


def count(objective: Line) -> float:
    """The number of the evaluation, by the weight, which only falls."""
    return {True: 1.0}.get(objective.weight.item() > -0.3, 2.0 if objective.weight.item() > -0.7 else 3.0)


def test_checkpoints_that_are_all_damaged_are_an_error(tmp_path: Path) -> None:
    train_line(tmp_path)
    (tmp_path / "line/result.json").unlink()
    for path in (tmp_path / "line/checkpoints").iterdir():
        cut(path)
    with pytest.raises(TrainingError, match=r"step_000006\.pt: not a readable checkpoint .* no good one before it"):
        train_line(tmp_path)


@pytest.mark.parametrize("spoil", [cut, Path.unlink])
@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("best", [2, 6])
def test_damaged_weights_are_made_again_from_the_best_checkpoint(
    best: int, finished: bool, spoil: Callable[[Path], object], tmp_path: Path
) -> None:
    scores = iter([0.9, 0.1, 0.1] if best == 2 else [0.1, 0.1, 0.9])
    first, _ = train_line(tmp_path, evaluate=lambda objective: next(scores))
    spoil(tmp_path / "line/weights.safetensors")
    if not finished:
        (tmp_path / "line/result.json").write_text("{")
    second, result = train_line(tmp_path, evaluate=lambda objective: 0.0)
    assert torch.equal(second.weight, first.weight)
    assert result.best_step == best
    assert load_file(tmp_path / "line/weights.safetensors")["weight"].item() == first.weight.item()


def test_metrics_after_a_power_cut(tmp_path: Path) -> None:
    train_line(tmp_path)
    (tmp_path / "line/result.json").unlink()
    whole = metrics(tmp_path)
    path = tmp_path / "line/metrics.jsonl"
    path.write_bytes(path.read_bytes() + b'{"step": 7, "lo' + bytes(4096) + b"\n\xff\n[1]\n" + bytes(100))
    train_line(tmp_path)
    assert metrics(tmp_path) == whole


def test_a_full_disk_is_one_line_with_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(
            UserError, match=r"step_000002\.pt: can't be written \(No space left .*MB are free"
        ) as error:
            train_line(tmp_path, evaluate=lambda objective: 0.5)
    assert "MB are needed" in str(error.value)
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "line/checkpoints").iterdir())
    assert train_line(tmp_path, evaluate=lambda objective: 0.5)[1].iterations == 6


def test_a_log_that_can_not_be_written_is_one_line(tmp_path: Path) -> None:
    def write(log: RunLog) -> None:
        with open("/dev/full", "w") as full, log:
            for file in log.files:
                file.close()
            log.files = [full, full]
            log.terms(1, 0.1, {"loss": 1.0}, 1.0, 1.0)

    with pytest.raises(UserError, match=r"full: can't be written \(No space left on device\); make room"):
        write(RunLog(tmp_path, "line", 0, 6, make_accelerator("fp32", tmp_path)))


def test_frozen_children_are_not_in_checkpoints_and_not_trained(tmp_path: Path) -> None:
    before = toy.build().teacher.state_dict()
    toy.run(tmp_path, SHORT)
    content = torch.load(tmp_path / "toy/checkpoints/step_000006.pt", weights_only=True)
    assert {name.split(".")[0] for name in content["objective"]} == {"network", "projector"}
    weights = load_file(tmp_path / "toy/weights.safetensors")
    assert weights.keys() == before.keys()
    toy.build().network.load_state_dict(weights)


def test_bfloat16_trains_and_delivers_float32(tmp_path: Path) -> None:
    result = toy.run(tmp_path, replace(SHORT, precision="bf16"))
    assert result.precision == "bf16"
    weights = load_file(tmp_path / "toy/weights.safetensors")
    assert weights["first.weight"].dtype == torch.float32


def test_an_objective_may_be_trained_again_in_the_same_precision(tmp_path: Path) -> None:
    """accelerate leaves a model that it has seen before out of autocast."""
    schedule = replace(SHORT, precision="bf16", eval_every=None)
    objective = toy.build()
    forward = objective.forward
    dtypes = []

    def batches(start: int) -> Iterator[dict[str, Tensor]]:
        return map(toy.batch_of, range(start, schedule.iterations))

    objective.network.first.register_forward_hook(lambda layer, inputs, output: dtypes.append(output.dtype))
    for name in ("first", "second"):
        accelerator = make_accelerator("bf16", tmp_path)
        fit(objective, objective.network, batches, None, schedule, tmp_path / name, accelerator, seed=0, title=name)
    assert dtypes == [torch.bfloat16] * 2 * schedule.iterations
    assert objective.forward == forward


def test_terminal_gets_a_bar_and_files_get_lines(tmp_path: Path) -> None:
    accelerator = make_accelerator("fp32", tmp_path)
    screen = Console(file=io.StringIO(), force_terminal=True, width=150)
    with RunLog(tmp_path / "a", "teacher", 0, 10, accelerator, screen) as log:
        log.terms(4, 0.01, {"loss": 1.25}, 2.0, 16.0)
        log.advance(4)
        log.evaluation(4, 0.5, 0.5, 4, 1.0)
    text = screen.file.getvalue()  # type: ignore[attr-defined]
    assert all(word in text for word in ("teacher", "4/10", "16.0 images/s", "loss 1.2500", "left", "mIoU 50.00 %"))

    assert "stage" not in text

    file = Console(file=io.StringIO(), force_terminal=False)
    with RunLog(tmp_path / "b", "teacher", 0, 10, accelerator, file) as log:
        log.terms(4, 0.01, {"loss": 1.25}, 2.0, 16.0)
        log.say("all [is] well")
    assert file.file.getvalue() == "teacher  all [is] well\n"  # type: ignore[attr-defined]
    assert "step 4/10  lr 0.01  16.0 images/s  loss 1.2500" in (tmp_path / "b/log.txt").read_text()


@pytest.mark.parametrize("iterations", [250, 160000])
def test_at_80_columns_stage_step_and_both_times_come_first(tmp_path: Path, iterations: int) -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=80)
    stage = Stage(2, 3, later=iterations / 2)
    with RunLog(tmp_path, "teacher", 0, iterations, make_accelerator("fp32", tmp_path), screen, stage=stage) as log:
        log.started -= 60  # of which a quarter of the steps has taken
        done = iterations // 4
        log.terms(done, 0.01, {"loss": 1.25, "seg_1": 1.0, "seg_2": 1.0, "consistency": 0.25}, 2.0, 16.0)
        log.advance(done)
        for _ in progress([1], 1, "evaluating", "images"):
            log.bar.refresh()
        assert len(log.bar.tasks) == 1  # the evaluation's bar has gone
    written = [Text.from_ansi(line).plain for line in screen.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    line = next(line for line in reversed(written) if "stage" in line)
    assert all(len(line) <= 80 for line in written)
    assert re.match(rf"stage 2 of 3: teacher +{done}/{iterations} \S+ 0:0[23]:\d\d left, run 0:0[45]:\d\d 16", line)
    assert line.endswith("…")
    assert any(line.startswith("evaluating") for line in written)


def test_terms_are_read_only_when_they_are_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each read waits for a GPU: none may happen between two lines."""
    reads: list[int] = []
    original = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda tensor: reads.append(1) or original(tensor))

    def forbidden(tensor: Tensor) -> float:
        raise AssertionError("item() in a step")

    monkeypatch.setattr(torch.Tensor, "item", forbidden)
    schedule = replace(SHORT, iterations=200, eval_every=100)
    train_line(tmp_path, schedule)
    assert len(reads) == sum("loss" in line for line in metrics(tmp_path)) <= 100


@pytest.mark.parametrize("ema", [None, 0.9])
@pytest.mark.parametrize(
    ("scores", "counts", "deliver", "best_step"),
    [
        ([0.5, 0.4, 0.3, 0.2], True, "best", 0),
        ([0.5, 0.5, 0.3, 0.2], True, "best", 0),
        ([0.5, 0.4, 0.6, 0.2], True, "best", 4),
        ([0.5, 0.4, 0.3, 0.2], True, "last", 6),
        ([0.4, 0.3, 0.2], False, "best", 2),
    ],
    ids=["worse", "as good", "better", "the last all the same", "from scratch"],
)
def test_a_start_that_counts_may_be_the_best(
    scores: list[float], counts: bool, deliver: Any, best_step: int, ema: float | None, tmp_path: Path
) -> None:
    weights: dict[int, float] = {}
    remaining = iter(scores)

    def evaluate(objective: Line) -> float:
        weights[2 * len(weights) + (0 if counts else 2)] = objective.weight.item()
        return next(remaining)

    schedule = replace(SHORT, deliver=deliver, eval_every=2, ema=ema)
    objective, result = train_line(tmp_path, schedule, evaluate, start_counts=counts)
    assert (result.best_step, result.best_score, result.last_score) == (best_step, max(scores), scores[-1])
    assert objective.weight.item() == weights[best_step]
    curve = [(line["step"], line["score"]) for line in metrics(tmp_path) if "score" in line]
    assert curve == [*zip(weights, scores, strict=True)]
    assert next(remaining, None) is None
    # A finished training is not evaluated again.
    again, same = train_line(tmp_path, schedule, lambda objective: math.nan, start_counts=counts)
    assert (again.weight.item(), same) == (weights[best_step], result)


def test_early_stopping_counts_from_a_start_that_is_the_best(tmp_path: Path) -> None:
    scores = iter([0.5, 0.4, 0.3, 0.2])
    schedule = replace(SHORT, eval_every=2, early_stop=2)
    result = train_line(tmp_path, schedule, lambda objective: next(scores), start_counts=True)[1]
    assert (result.best_step, result.iterations) == (0, 4)

"""The verdict says no more than the evidence allows: tables of cases."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ladseg.evaluation import ConfusionMatrix
from ladseg.report.comparison_tables import compare_markdown, verdict_lines
from ladseg.report.verdict import Learner, method_verdict, run_verdict
from ladseg.results import Difference, MeanInterval, RunResults, Verdict, read_json, write_json
from tests.made_results import comparison_results, method_row, network_row, run_results

FLAT = [(250, 0.40), (500, 0.47), (750, 0.495), (1000, 0.50)]
RISING = [(250, 0.20), (500, 0.30), (750, 0.40), (1000, 0.50)]
# Five evaluations: none lies at three quarters, so the rise of two fifths of the steps is brought to a quarter.
FIVE_FLAT = [(200, 0.30), (400, 0.42), (600, 0.48), (800, 0.495), (1000, 0.50)]
FIVE_RISING = [(200, 0.20), (400, 0.30), (600, 0.38), (800, 0.44), (1000, 0.50)]
FELL = [(250, 0.40), (500, 0.50), (750, 0.49), (1000, 0.48)]


def run(
    student: float | None,
    baseline: float | None,
    interval: tuple[float, float] | None = None,
    curve: list[tuple[int, float]] = FLAT,
    constant: float | None = 0.05,
) -> RunResults:
    values = {"student": student, "baseline": baseline}
    networks = {
        key: network_row(value, steps=1000, validation_curve=curve)
        for key, value in values.items()
        if value is not None
    }
    difference = None
    if student is not None and baseline is not None:
        difference = Difference(student - baseline, interval, None if interval else "there is one validation image")
    return run_results(networks, difference=difference, constant_mean_iou=constant)


RUNS = [
    # Six steps of the demo: one class everywhere has 4 %.
    (run(0.0306, 0.0089, (0.01, 0.03), constant=0.04), "not learned yet"),
    (run(0.04, 0.04, (-0.01, 0.01), constant=0.04), "not learned yet"),
    (run(0.058, 0.03, (0.01, 0.04), constant=0.04), "not learned yet"),
    # One of the two has learned.
    (run(0.30, 0.04, (0.2, 0.3), constant=0.04), "ahead in this run"),
    # Two classes, nine tenths of the pixels of one: one class everywhere has 45 %.
    (run(0.455, 0.45, (0.001, 0.01), constant=0.45), "not learned yet"),
    (run(0.60, 0.55, (0.01, 0.09), curve=[], constant=0.45), "ahead in this run"),
    (run(None, 0.04, constant=0.04), "not learned yet"),
    (run(0.52, 0.50, (0.01, 0.03), curve=RISING), "still improving"),
    (run(0.52, 0.50, (-0.01, 0.05), curve=RISING), "still improving"),
    (run(0.52, 0.50, (0.01, 0.03), curve=FIVE_RISING), "still improving"),
    (run(0.52, 0.50, (0.01, 0.03), curve=FIVE_FLAT), "ahead in this run"),
    (run(0.52, 0.50, (0.01, 0.03), curve=FELL), "ahead in this run"),
    (run(None, 0.50, curve=RISING), "still improving"),
    # Too few evaluations to tell.
    (run(0.52, 0.50, (0.01, 0.03), curve=[(1000, 0.5)]), "ahead in this run"),
    (run(0.52, 0.50, (0.01, 0.03), curve=[]), "ahead in this run"),
    (run(0.52, 0.50, (0.01, 0.03)), "ahead in this run"),
    (run(0.48, 0.50, (-0.03, -0.01)), "behind in this run"),
    (run(0.52, 0.50, (-0.01, 0.05)), "no difference shown"),
    (run(0.48, 0.50, (-0.05, 0.01)), "no difference shown"),
    (run(0.50, 0.50, (0.0, 0.0)), "no difference shown"),
    (run(0.52, 0.50), "ahead in this run"),
    (run(0.52, None), "not compared"),
    (run(None, 0.50), "not compared"),
    # Results of an older version have neither the constant's score nor the curve.
    (run(0.03, 0.01, (0.01, 0.03), curve=[], constant=None), "ahead in this run"),
]


@pytest.mark.parametrize(("results", "word"), RUNS)
def test_of_a_run(results: RunResults, word: str) -> None:
    verdict = run_verdict(results)
    assert verdict.word == word
    for key in results.students:
        assert f"{100 * results.networks[key].mean_iou:.2f}" in verdict.sentence
    assert "better" not in verdict.sentence
    if len(results.students) == 2:
        assert results.difference is not None
        assert f"{100 * results.difference.mean_iou:+.2f} points" in verdict.sentence
        assert "one seed" in verdict.sentence


@pytest.mark.parametrize(
    ("results", "words"),
    [
        (RUNS[0][0], "Neither network has learned yet: one class everywhere would have 4.00 % mIoU"),
        (RUNS[7][0], "Still improving: train longer before you compare."),
        (run(0.52, 0.50), "without an interval: there is one validation image"),
        (run(0.52, 0.50, (0.01, 0.03)), "95 % interval +1.00 to +3.00 over the validation images"),
        (run(0.52, None), "nothing to compare it with"),
        (run(None, 0.50), "nothing was distilled"),
    ],
)
def test_sentence_of_a_run(results: RunResults, words: str) -> None:
    assert words in run_verdict(results).sentence


TEACHER = {"mean_iou": 0.60, "steps": 0}


@pytest.mark.parametrize(
    ("teacher", "baseline", "delivers", "words"),
    [
        # The student alone of an earlier run, which is the same network.
        (TEACHER, None, None, "60.00 against the delivered student's 52.00 %"),
        (TEACHER, 0.50, "student", "60.00 against the delivered student's 52.00 %"),
        (TEACHER, 0.55, "baseline", "60.00 against the delivered student's 55.00 %"),
        # It beats the distilled student, but not the delivered one.
        (TEACHER, 0.65, "baseline", None),
        (TEACHER | {"steps": 1000}, None, None, "it is the better one to deliver."),
        (TEACHER | {"mean_iou": 0.52}, None, None, None),
        (TEACHER | {"mean_iou": 0.40}, 0.50, "student", None),
        # The student has 1000 parameters and 2000 MACs.
        (TEACHER | {"macs": 1500, "parameters": 9000}, None, None, "costs no more when it runs"),
        (TEACHER | {"macs": 2001, "parameters": 900}, 0.50, "student", None),
        (TEACHER | {"macs": 0, "parameters": 1000}, None, None, "costs no more when it runs"),
        (TEACHER | {"macs": 0, "parameters": 1001}, None, None, None),
        (TEACHER | {"sees": "image + noised label"}, None, None, None),
        (TEACHER | {"sees": "image + noised label"}, 0.50, "student", None),
        (None, 0.50, "student", None),
    ],
)
def test_the_headline_names_a_teacher_that_is_better_and_costs_no_more(
    teacher: dict[str, Any] | None, baseline: float | None, delivers: str | None, words: str | None
) -> None:
    results = run(0.52, baseline)
    networks = results.networks | ({} if teacher is None else {"teacher": network_row(**teacher)})
    sentence = run_verdict(replace(results, networks=networks, delivers=delivers)).sentence
    assert sentence.count("The teacher has the higher mIoU on val") == (words is not None)
    if words is None:
        assert ("nothing to compare it with" in sentence) == (baseline is None)
    else:
        assert words in sentence
        assert "nothing to compare it with" not in sentence


def interval(mean: float, half: float | None) -> MeanInterval:
    return MeanInterval(mean, None if half is None else mean - half, None if half is None else mean + half)


@pytest.mark.parametrize(
    ("changes", "seeds", "curve", "constant", "word"),
    [
        ({"difference": interval(0.02, 0.01)}, 3, FLAT, 0.05, "better"),
        ({"difference": interval(-0.02, 0.01)}, 3, FLAT, 0.05, "worse"),
        ({"difference": interval(0.02, 0.03)}, 3, FLAT, 0.05, "no difference shown"),
        ({"difference": interval(0.02, None)}, 1, FLAT, 0.05, "ahead in this run"),
        ({"difference": interval(-0.02, None)}, 1, FLAT, 0.05, "behind in this run"),
        ({"difference": interval(0.02, 0.01)}, 3, RISING, 0.05, "still improving"),
        ({"difference": interval(0.02, 0.01)}, 3, FLAT, 0.50, "not learned yet"),
        # Ahead of the short student alone, behind the one of equal compute.
        (
            {"difference": interval(0.02, 0.01), "gain_at_equal_total": -0.03, "interval_t": (-0.04, -0.02)},
            3,
            FLAT,
            0.05,
            "worse",
        ),
        ({"gain_at_equal_total": 0.03, "interval_t": (0.02, 0.04)}, 6, FLAT, 0.05, "better"),
        ({"gain_at_equal_total": 0.03, "interval_t": (-0.02, 0.08)}, 6, FLAT, 0.05, "no difference shown"),
    ],
)
def test_of_a_method(
    changes: dict[str, object], seeds: int, curve: list[tuple[int, float]], constant: float, word: str
) -> None:
    row = method_row("lad", 0.5, mean_iou=dict.fromkeys(range(seeds), 0.5), **changes)
    runs = dict.fromkeys(range(seeds), run(0.5, None, curve=curve, constant=constant))
    alone = dict.fromkeys(range(seeds), run(None, 0.48, curve=curve, constant=constant))
    verdict = method_verdict(row, runs, alone)
    assert verdict is not None
    assert verdict.word == word
    equal = "gain_at_equal_total" in changes
    assert ("the plain student of equal total compute" if equal else "the student alone") in verdict.sentence
    comparison = comparison_results([replace(row, verdict=verdict)])
    assert verdict_lines(comparison) == [verdict.sentence]
    assert f"\n- {verdict.sentence}\n" in compare_markdown(comparison)


def test_one_rising_seed_of_three_does_not_decide() -> None:
    row = method_row("lad", 0.5, mean_iou=dict.fromkeys(range(3), 0.5), difference=interval(0.02, 0.01))
    curves = [RISING, FLAT, FLAT]
    runs = {seed: run(0.5, None, curve=curve) for seed, curve in enumerate(curves)}
    verdict = method_verdict(row, runs, dict.fromkeys(range(3), run(None, 0.48)))
    assert verdict is not None
    assert verdict.word == "better"
    assert "; 3 seeds)" in verdict.sentence


@pytest.mark.parametrize(
    ("changes", "alone", "word", "seeds"),
    [
        # The difference from none holds the seeds that both have.
        ({"difference": interval(0.02, 0.01)}, [0, 1], "better", "; 2 of 3 seeds)"),
        ({"difference": interval(0.02, None)}, [2], "ahead in this run", "; 1 of 3 seeds)"),
        ({"gain_at_equal_total": 0.03, "gain_seeds": 1}, [0, 1, 2], "ahead in this run", "; 1 of 3 seeds)"),
        ({"gain_at_equal_total": 0.03, "interval_t": (0.02, 0.04), "gain_seeds": 2}, [0], "better", "; 2 of 3 seeds)"),
    ],
)
def test_a_verdict_names_the_seeds_of_its_gain(
    changes: dict[str, object], alone: list[int], word: str, seeds: str
) -> None:
    row = method_row("lad", 0.5, mean_iou=dict.fromkeys(range(3), 0.5), **changes)
    verdict = method_verdict(row, dict.fromkeys(range(3), run(0.5, None)), dict.fromkeys(alone, run(None, 0.48)))
    assert verdict is not None
    assert verdict.word == word
    assert seeds in verdict.sentence


def test_none_has_no_verdict() -> None:
    assert method_verdict(method_row("none", 0.5), {}, {}) is None


def counted_mean_iou(prediction: np.ndarray, label: np.ndarray) -> float:
    """Intersection over union, counted from sets of pixels."""
    classes = set(label.tolist()) | set(prediction.tolist())
    found = [(prediction == c, label == c) for c in classes]
    return float(np.mean([(one & other).sum() / (one | other).sum() for one, other in found]))


@pytest.mark.parametrize("pixels", [[70, 20, 10, 0], [5, 5, 5, 5], [0, 0, 3, 0], [1, 98, 0, 1]])
def test_the_constant_prediction_scores_the_most_that_any_class_does(pixels: list[int]) -> None:
    label = np.repeat(np.arange(4), pixels)
    matrix = ConfusionMatrix(4)
    matrix.update(torch.full((len(label),), 3), torch.from_numpy(label))  # whatever was predicted
    best = max(counted_mean_iou(np.full_like(label, c), label) for c in range(4))
    assert matrix.constant_mean_iou() == pytest.approx(best)


def test_it_comes_back_from_json(tmp_path: Path) -> None:
    results = run(0.52, 0.50, (0.01, 0.03))
    results = replace(results, verdict=run_verdict(results))
    write_json(tmp_path / "results.json", results)
    again = read_json(RunResults, tmp_path / "results.json")
    assert again == results
    assert again.verdict == Verdict("ahead in this run", run_verdict(again).sentence)


# Curves of the demo, five evaluations each, mIoU in per cent; one class everywhere has 3.7. The plain student gains 4.6
# to 5.4 points when it is trained for 800 steps instead of 400, and as many again for 1422 (docs/results.md).
REAL_CURVES = [
    ("plain, 400 steps, seed 0", 400, [26.5, 39.1, 45.2, 46.1, 48.5], True),
    ("plain, 400 steps, seed 1", 400, [27.5, 38.9, 43.9, 47.1, 49.6], True),
    ("plain, 400 steps, seed 2", 400, [27.5, 37.6, 44.1, 46.3, 48.8], True),
    ("plain, 400 steps, seed 3", 400, [25.0, 34.5, 38.0, 47.1, 49.4], True),
    ("plain, 400 steps, seed 4", 400, [28.5, 34.5, 42.4, 45.8, 48.6], True),
    ("plain, 800 steps, seed 0", 800, [39.0, 47.4, 50.6, 52.7, 53.9], True),
    ("plain, 800 steps, seed 1", 800, [32.0, 46.3, 50.0, 50.9, 54.2], True),
    ("warm student, 400 steps, seed 0", 400, [46.7, 51.1, 52.9, 52.6, 55.4], True),
    ("warm student, 400 steps, seed 1", 400, [46.1, 52.1, 49.6, 53.9, 53.2], False),
    ("warm student, 400 steps, seed 2", 400, [50.1, 51.3, 51.4, 52.8, 53.7], False),
    ("warm student, 400 steps, seed 3", 400, [47.7, 49.6, 52.4, 53.2, 53.4], False),
    ("warm student, 400 steps, seed 4", 400, [50.4, 51.2, 50.7, 53.2, 53.5], False),
]


@pytest.mark.parametrize(("steps", "scores", "rises"), [pytest.param(*case[1:], id=case[0]) for case in REAL_CURVES])
def test_of_real_curves(steps: int, scores: list[float], rises: bool) -> None:
    curve = [(steps * number // 5, score / 100) for number, score in enumerate(scores, 1)]
    learner = Learner(max(scores) / 100, 0.037, steps, curve)
    assert learner.has_learned
    assert learner.is_still_improving == rises


@pytest.mark.parametrize(
    ("delivers", "warm", "words"),
    [
        ("student", True, "Delivered is the distilled student, the better one on val."),
        ("baseline", None, "Delivered is the student alone, the better one on val."),
        (None, None, None),
    ],
)
def test_the_headline_says_which_student_is_delivered(delivers: str | None, warm: bool | None, words: str) -> None:
    rows = {"baseline": network_row(0.5), "student": network_row(0.55 if warm else 0.45, steps=400)}
    results = run_results(rows, delivers=delivers, student_starts_warm=warm)
    sentence = run_verdict(results).sentence
    assert (words in sentence) if words else ("Delivered" not in sentence)
    assert ("went on from the student alone for 400 more steps" in sentence) == bool(warm)
    assert results.delivered == rows[delivers or "student"]


def test_of_two_equal_students_none_is_called_better() -> None:
    rows = {"baseline": network_row(0.5), "student": network_row(0.5)}
    sentence = run_verdict(run_results(rows, delivers="student", student_starts_warm=False)).sentence
    assert "Delivered is the distilled student, as good as the other on val." in sentence

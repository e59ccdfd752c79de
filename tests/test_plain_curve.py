"""Judging against the plain curve, by hand on tables of cases."""

import html
import math
from dataclasses import replace
from typing import Any

import pytest
import scipy.stats

from ladseg.comparison.judgement import judged
from ladseg.comparison.methods import default_teacher, make_method
from ladseg.comparison.plain_curve import PlainCurve, break_even_students, curves_by_seed, gains, mean_curve
from ladseg.comparison.summary import summarize
from ladseg.recipe import Recipe, Schedule, TeacherSettings
from ladseg.report.comparison_page import ComparisonRecord, comparison_page, comparison_summary
from ladseg.report.comparison_tables import compare_markdown, compare_tables, comparison_sheets, power_remark
from ladseg.report.verdict import method_verdict
from ladseg.results import MethodCost, NetworkCost, TeacherCost, Verdict
from tests.made_results import comparison_results, environment, method_row, network_row, run_results

CURVE = PlainCurve([1.0, 2.0, 4.0, 8.0], [0.40, 0.44, 0.45, 0.45])


@pytest.mark.parametrize(
    ("compute", "expected"),
    [
        (1.0, 0.40),
        (2.0, 0.44),
        (math.sqrt(2), 0.42),  # half way in the logarithm
        (2 * math.sqrt(2), 0.445),
        (6.0, 0.45),
        (8.0, 0.45),
        (8.004, 0.45),  # whole steps don't meet a compute exactly
        (0.9, None),
        (9.0, None),
    ],
)
def test_interpolates_in_the_logarithm_and_never_beyond(compute: float, expected: float | None) -> None:
    assert CURVE.at(compute) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("mean_iou", "total", "marginal", "students"),
    [
        (0.46, 4.0, 1.33, 1),  # better than plain training at its total compute
        # 1.33 + 2.67 / k: k = 2 costs 2.665 and plain reaches 0.444; k = 3 costs 2.22 and plain reaches 0.4415.
        (0.443, 4.0, 1.33, 3),
        (0.41, 4.0, 1.33, None),  # plain training at 1.33 reaches 0.4165
        # k solves 1.33 + 2.67 / k = 2 ** ((0.418 - 0.40) / 0.04).
        (0.418, 4.0, 1.33, math.floor(2.67 / (2**0.45 - 1.33)) + 1),
        (0.46, 20.0, 1.33, 3),  # one and two students lie beyond the curve
        (0.39, 1.0, 1.0, None),
    ],
)
def test_break_even_by_hand(mean_iou: float, total: float, marginal: float, students: int | None) -> None:
    assert break_even_students(mean_iou, total, marginal, CURVE) == students


@pytest.mark.parametrize(
    ("lengths", "computes", "seeds"),
    [
        ({}, [], []),
        ({1.0: [], 2.0: []}, [], []),
        ({1.0: [0], 2.0: [0], 8.0: [0]}, [1.0, 2.0, 8.0], [0]),
        # Seed 2 has begun: the other two keep their curve.
        ({1.0: [0, 1, 2], 2.0: [0, 1]}, [1.0, 2.0], [0, 1]),
        # One more length, which only seed 0 has, costs no seed.
        ({1.0: [0, 1], 2.0: [0, 1], 4.0: [0]}, [1.0, 2.0], [0, 1]),
        ({1.0: [0, 1, 2], 2.0: [0, 1], 3.0: [0]}, [1.0, 2.0], [0, 1]),
        # Each length has two of the three seeds, but 2 and 4 together would leave seed 1 alone.
        ({1.0: [0, 1, 2], 2.0: [0, 1], 4.0: [1, 2]}, [1.0, 2.0], [0, 1]),
        # A length in the middle, which fewer seeds have, does not displace the long one.
        ({1.0: [0, 1, 2, 3], 2.0: [0, 1], 4.0: [1, 2, 3]}, [1.0, 4.0], [1, 2, 3]),
    ],
)
def test_an_unfinished_length_costs_less_than_half_of_the_seeds(
    lengths: dict[float, list[int]], computes: list[float], seeds: list[int]
) -> None:
    curves = curves_by_seed({compute: dict.fromkeys(having, 0.4) for compute, having in lengths.items()})
    assert list(curves) == seeds
    assert all(curve.compute == computes for curve in curves.values())


def test_gains_are_paired_with_the_seeds_own_curve() -> None:
    curves = curves_by_seed({1.0: {0: 0.40, 1: 0.50, 2: 0.1}, 2.0: {0: 0.42, 1: 0.52}})
    assert set(curves) == {0, 1}
    assert gains({0: 0.43, 1: 0.51, 5: 0.9}, curves, 2.0) == pytest.approx([0.01, -0.01])
    assert gains({0: 0.43}, curves, 3.0) == []
    assert mean_curve(list(curves.values())).mean_iou == pytest.approx([0.45, 0.47])
    assert curves_by_seed({}) == {}


TEACHER = TeacherCost("label", "pspnet_r18", 1000, 2000)
PLAIN = [
    method_row("none", 0.40, mean_iou={0: 0.40, 1: 0.41, 2: 0.39}, macs=1000),
    method_row("none-2x", 0.44, mean_iou={0: 0.44, 1: 0.44, 2: 0.44}, macs=2000),
    method_row("none-4x", 0.45, mean_iou={0: 0.45, 1: 0.46, 2: 0.44}, macs=4000),
]


def test_a_method_is_judged_by_the_curve_of_its_seeds() -> None:
    lad = method_row("lad", 0.46, mean_iou={0: 0.46, 1: 0.48, 2: 0.44}, macs=4000, teacher=TEACHER)
    far = method_row("kd+r101", 0.47, mean_iou={0: 0.47, 1: 0.47, 2: 0.46}, macs=40_000, teacher=TEACHER)
    marginal = {"none": 1000, "none-2x": 2000, "none-4x": 4000, "lad": 1000, "kd+r101": 2000}
    rows = {row.name: row for row in judged([*PLAIN, lad, far], marginal)}
    found = rows["lad"]
    assert (found.compute_total, found.compute_marginal) == (4.0, 1.0)
    assert found.gain_at_equal_total == pytest.approx((0.01 + 0.02 + 0.00) / 3)
    assert found.gain_at_equal_marginal == pytest.approx((0.06 + 0.07 + 0.05) / 3)
    # 0.01, 0.02 and 0: four of the eight patterns of signs sum to 0.03 or -0.03.
    assert found.p_sign_flip == pytest.approx(4 / 8)
    assert found.marginal_p_sign_flip == pytest.approx(2 / 8)
    assert found.break_even_students == 1
    expected = scipy.stats.ttest_1samp([0.01, 0.02, 0.0], 0).confidence_interval(0.95)
    assert found.interval_t == pytest.approx((expected.low, expected.high))
    # Beyond what was trained nothing is claimed: at ten times the curve's end there is no gain, but at the margin.
    assert rows["kd+r101"].gain_at_equal_total is None
    assert rows["kd+r101"].gain_at_equal_marginal == pytest.approx((0.03 + 0.03 + 0.02) / 3)
    assert rows["kd+r101"].break_even_students == 19  # 2 + 38 / k is within the curve from k = 19 on
    assert rows["none-4x"].gain_at_equal_total is None
    assert rows["none-4x"].compute_total == 4.0


def test_a_gain_names_the_seeds_that_it_holds() -> None:
    plain = [
        method_row("none", 0.40, mean_iou={1: 0.40, 2: 0.41, 3: 0.39}, macs=1000),
        method_row("none-2x", 0.44, mean_iou={1: 0.44, 2: 0.45}, macs=2000),
        method_row("none-3x", 0.46, mean_iou={1: 0.46}, macs=3000),
    ]
    lad = method_row("lad", 0.46, mean_iou={1: 0.46, 2: 0.48, 3: 0.60}, macs=2000, teacher=TEACHER)
    marginal = {"none": 1000, "none-2x": 2000, "none-3x": 3000, "lad": 1000}
    found = judged([*plain, lad], marginal)[-1]
    # Seed 3 has no student of twice the steps, and would bring 21 points at the margin.
    assert found.gain_at_equal_total == pytest.approx((0.02 + 0.03) / 2)
    assert found.gain_at_equal_marginal == pytest.approx((0.06 + 0.07) / 2)
    assert found.gain_seeds == 2
    runs = {seed: run_results({"student": network_row(mean)}) for seed, mean in lad.mean_iou.items()}
    alone = {seed: run_results({"baseline": network_row(mean)}) for seed, mean in plain[0].mean_iou.items()}
    verdict = method_verdict(found, runs, alone)
    assert verdict is not None
    assert "; 2 of 3 seeds)" in verdict.sentence
    comparison = comparison_results([*judged(plain, marginal), found], seeds=[1, 2, 3])
    assert (power_remark(comparison) or "").startswith("2 seeds can't give")
    sheet = comparison_sheets(comparison)[1]
    assert dict(zip(sheet.columns, sheet.rows[0], strict=True))["seeds"] == "2 of 3"
    # The column is there only where it says something.
    whole = replace(found, mean_iou={1: 0.46, 2: 0.48})
    assert "seeds" not in comparison_sheets(comparison_results([*judged(plain, marginal), whole]))[1].columns


POINTS = {"gain_at_equal_total": 0.02, "gain_at_equal_marginal": 0.03, "teacher": TEACHER, "gain_seeds": 3}
SHOWN = {"interval_t": (0.01, 0.03), "marginal_interval_t": (0.02, 0.04)}
BEHIND = {"gain_at_equal_total": -0.02, "interval_t": (-0.03, -0.01)}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (SHOWN | {"break_even_students": 1}, "; its teacher pays off with the first student."),
        ({"break_even_students": 1, "interval_t": (-0.01, 0.05)}, "zero, and more seeds would narrow it."),
        ({"break_even_students": 1, "gain_seeds": 1}, "one seed has no interval; use 6 or more (--seeds 0,1,2,3,4,5)."),
        (SHOWN | BEHIND | {"break_even_students": 4}, "; its teacher pays off from 4 students on."),
        # Behind at its total compute, and open at the margin.
        (
            SHOWN | BEHIND | {"break_even_students": 4, "marginal_interval_t": (-0.01, 0.07)},
            "not shown yet whether its teacher pays off with more students: the 95 % interval contains zero",
        ),
        (
            SHOWN | BEHIND | {"gain_at_equal_marginal": -0.03, "marginal_interval_t": (-0.04, -0.02)},
            "; its teacher does not pay off here, for any number of students.",
        ),
        (SHOWN | {"break_even_students": 1, "verdict": Verdict("still improving", "")}, "so train longer."),
        ({"teacher": None, "interval_t": (0.01, 0.03)}, "equal total compute."),
        ({"teacher": None, "interval_t": (-0.01, 0.05)}, "but nothing is shown yet: the 95 % interval contains zero"),
    ],
)
def test_the_summary_is_no_surer_than_the_seeds(changes: dict[str, Any], words: str) -> None:
    method = method_row("lad", 0.5, mean_iou=dict.fromkeys(range(3), 0.5), **POINTS | changes)
    sentence = comparison_summary(comparison_results([method_row("none", 0.4), method]))[-1]
    assert words in sentence
    claims = ("its teacher pays off with the", "its teacher pays off from", "does not pay off")
    assert any(claim in sentence for claim in claims) == any(claim in words for claim in claims)


@pytest.mark.parametrize(
    ("changes", "students"),
    [
        ({"break_even_students": 3}, "3"),
        ({}, "none"),
        # Beyond the curve in total, but known at the margin.
        ({"gain_at_equal_total": None}, "none"),
        ({"gain_at_equal_total": None, "gain_at_equal_marginal": None}, "beyond"),
        ({"teacher": replace(TEACHER, existed=True)}, "-"),
        ({"teacher": None}, None),
    ],
)
def test_of_students_beyond_the_curve_nothing_is_said(changes: dict[str, Any], students: str | None) -> None:
    computes = {"compute_total": 2.0, "compute_marginal": 1.3, "marginal_interval_t": None}
    method = method_row("lad", 0.5, **POINTS | computes | changes)
    sheet = comparison_sheets(comparison_results([method]))[1]
    assert dict(zip(sheet.columns, sheet.rows[0], strict=True)).get("students") == students


def test_an_existing_teacher_is_not_said_to_pay_off() -> None:
    recipe = Recipe(
        schedule=Schedule(iterations=10),
        teacher=TeacherSettings(
            label_assisted=False, model="pspnet_r18", weights="first.safetensors", train=False, warm_start=False
        ),
    )
    methods = [make_method(recipe, word, default_teacher(recipe)) for word in ("none", "none-2x", "cwd", "lad")]
    net = NetworkCost(1000, 2000)
    costs = {
        "none": MethodCost({"baseline": 100}, net, None, "", None),
        "none-2x": MethodCost({"baseline": 100}, net, None, "", None),
        methods[2].name: MethodCost({"teacher": 50, "student": 130}, net, net, "", None),
        "lad": MethodCost({"teacher": 50, "student": 130}, net, net, "", None),
    }
    scores = {"none": 0.40, "none-2x": 0.40, methods[2].name: 0.43, "lad": 0.43}
    key = {True: "baseline", False: "student"}
    runs = {
        name: {seed: run_results({key[name.startswith("none")]: network_row(score)}) for seed in (0, 1, 2)}
        for name, score in scores.items()
    }
    results = summarize(recipe, methods, runs, costs, environment())
    _, _, taught, lad = results.methods
    # Ten steps of 130 each against ten of 100; LAD's own teacher adds ten steps of 50.
    assert (taught.compute_total, taught.compute_marginal) == (1.3, 1.3)
    assert (lad.compute_total, lad.compute_marginal) == (1.8, 1.3)
    assert (taught.teacher_existed, lad.teacher_existed) == (True, False)
    assert (taught.break_even_students, lad.break_even_students) == (None, 1)
    assert taught.gain_at_equal_total == pytest.approx(0.03)
    sheet = comparison_sheets(results)[1]
    assert [row[-1] for row in sheet.rows] == ["-", "1"]
    remark = f"The teacher of '{taught.name}' was there before: what it has cost is not counted."
    assert remark in str(compare_tables(results, 200)[-1].caption)
    assert remark in compare_markdown(results)
    page = comparison_page(ComparisonRecord(results, {}, ""))
    assert page.count(html.escape(remark).replace("&#x27;", "&#39;")) == 2  # below the plot and below the tables
    said = "+3.00 points from the plain student of equal compute, the existing teacher's cost not counted"
    (worth,) = (text for text in comparison_summary(results) if text.startswith(f"'{taught.name}' is"))
    assert said in worth
    assert "pays off" not in worth
    assert taught.verdict is not None
    assert said.replace("from", "against") in taught.verdict.sentence
    without = replace(results, methods=[results.methods[0], results.methods[1], lad])
    assert "there before" not in comparison_page(ComparisonRecord(without, {}, "")) + compare_markdown(without)


def test_p_values_are_adjusted_for_the_number_of_methods() -> None:
    six = range(6)
    plain = [method_row("none", 0.4, mean_iou=dict.fromkeys(six, 0.4), macs=1000)]
    good = {seed: 0.41 + 0.001 * seed for seed in six}
    methods = [method_row(name, 0.41, mean_iou=good, macs=1000, teacher=TEACHER) for name in ("a", "b", "c")]
    rows = judged([*plain, *methods], dict.fromkeys(("none", "a", "b", "c"), 1000))
    assert [row.p_sign_flip for row in rows[1:]] == [pytest.approx(2 / 64)] * 3
    assert [row.p_holm for row in rows[1:]] == [pytest.approx(6 / 64)] * 3


def test_the_tables_say_what_a_teacher_is_worth_and_what_the_seeds_cannot_show() -> None:
    lad = method_row("lad", 0.46, mean_iou={0: 0.46, 1: 0.48, 2: 0.44}, macs=4000, teacher=TEACHER)
    marginal = {"none": 1000, "none-2x": 2000, "none-4x": 4000, "lad": 1000}
    comparison = comparison_results(judged([*PLAIN, lad], marginal), seeds=[0, 1, 2])
    sheet = comparison_sheets(comparison)[1]
    assert [row[0] for row in sheet.rows] == ["lad"]
    assert sheet.rows[0][1] == "4.00"
    assert sheet.rows[0][2].startswith("+1.00 [")
    remark = power_remark(comparison)
    assert remark is not None
    assert "3 seeds can't give p < 0.05" in remark
    assert "use 6 or more" in remark
    sentences = comparison_summary(comparison)
    assert any("'lad' is +1.00 points from the plain student of equal total compute" in text for text in sentences)
    six = replace(lad, mean_iou=dict.fromkeys(range(6), 0.5), p_sign_flip=0.03)
    assert power_remark(comparison_results([six])) is None

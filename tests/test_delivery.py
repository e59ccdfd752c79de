"""The sentences that a run ends with say what its figures say."""

import pytest

from ladseg.report.run_tables import run_summary, teacher_remark
from ladseg.results import Difference, RunResults
from tests.made_results import network_row, run_results


def results(
    student: float,
    baseline: float | None = 0.5,
    image: float = 0.4,
    label: float = 0.3,
    interval: tuple[float, float] | None = None,
) -> RunResults:
    teacher = network_row(0.6, mean_iou_without_label=image, mean_iou_without_image=label)
    networks = {"teacher": teacher, "student": network_row(student)}
    if baseline is not None:
        networks["baseline"] = network_row(baseline)
    difference = interval and Difference(student - (baseline or 0), interval)
    return run_results(networks, difference=difference)


@pytest.mark.parametrize(
    ("student", "words"),
    [(0.52, "is better than"), (0.48, "is worse than"), (0.5, "is neither better nor worse than")],
)
def test_summary(student: float, words: str) -> None:
    sentence = run_summary(results(student))
    assert words in sentence
    assert f"{100 * student:.2f} against 50.00" in sentence
    assert f"{100 * (student - 0.5):+.2f} points; one seed" in sentence


def test_what_the_choice_of_images_explains_is_not_called_better() -> None:
    clear = run_summary(results(0.52, interval=(0.01, 0.03)))
    assert "is better than" in clear
    assert "(+2.00 points, 95 % interval +1.00 to +3.00 over the validation images; one seed" in clear
    assert "is not clearly better than" in run_summary(results(0.52, interval=(-0.01, 0.05)))
    assert "is not clearly worse than" in run_summary(results(0.48, interval=(-0.05, 0.01)))


def test_summary_without_a_control_claims_nothing() -> None:
    assert "nothing to compare it with" in run_summary(results(0.5, baseline=None))
    assert "nothing was distilled" in run_summary(run_results({"baseline": network_row(0.5)}))


def test_a_teacher_that_ignores_an_input_is_told_so() -> None:
    assert "does not use its label yet" in (teacher_remark(results(0.5, image=0.599)) or "")
    assert "ignores the image" in (teacher_remark(results(0.5, label=0.599)) or "")
    both = "60.00 % mIoU, from the image alone 40.00, from the label alone 30.00: it uses both"
    assert f"{both}, the label for 20.00 points and the image for 30.00" in (teacher_remark(results(0.5)) or "")
    assert teacher_remark(run_results({"student": network_row(0.5)})) is None

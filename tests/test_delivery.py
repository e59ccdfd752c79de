"""The sentences that a run ends with say what its figures say."""

import pytest

from ladseg.report.run_tables import start_remark, teacher_remark
from ladseg.results import RunResults
from tests.made_results import network_row, run_results


def results(
    student: float,
    baseline: float | None = 0.5,
    image: float = 0.4,
    label: float = 0.3,
) -> RunResults:
    teacher = network_row(0.6, mean_iou_without_label=image, mean_iou_without_image=label)
    networks = {"teacher": teacher, "student": network_row(student)}
    if baseline is not None:
        networks["baseline"] = network_row(baseline)
    return run_results(networks)


def test_a_teacher_that_ignores_an_input_is_told_so() -> None:
    assert "does not use its label yet" in (teacher_remark(results(0.5, image=0.599)) or "")
    assert "ignores the image" in (teacher_remark(results(0.5, label=0.599)) or "")
    both = "60.00 % mIoU, from the image alone 40.00, from the label alone 30.00: it uses both"
    assert f"{both}, the label for 20.00 points and the image for 30.00" in (teacher_remark(results(0.5)) or "")
    assert teacher_remark(run_results({"student": network_row(0.5)})) is None


@pytest.mark.parametrize(
    ("best", "steps", "named"),
    [
        ({"baseline": 0, "student": 10}, 10, "of the student alone is its start, step 0"),
        ({"baseline": 0, "student": 0}, 10, "of the student alone and the LAD student is its start, step 0"),
        ({"baseline": 2, "student": 10}, 10, None),
        ({"student": 0}, 0, None),
    ],
)
def test_a_student_that_no_step_made_better_is_named(best: dict[str, int], steps: int, named: str | None) -> None:
    rows = {key: network_row(0.5, best_step=step, steps=steps) for key, step in best.items()}
    remark = start_remark(run_results(rows))
    assert remark is None if named is None else named in (remark or "")

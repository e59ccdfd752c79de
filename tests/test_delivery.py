"""The sentences that a run ends with say what its figures say."""

from ladseg.report.run_tables import teacher_remark
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

"""The sentences that a run ends with say what its figures say."""

import pytest

from ladseg.report.run_tables import teacher_remark, verdict


def results(student: float, baseline: float | None = 0.5, image: float = 0.4, label: float = 0.3) -> dict:
    networks = {
        "teacher": {"mean_iou": 0.6, "mean_iou_without_label": image, "mean_iou_without_image": label},
        "student": {"mean_iou": student},
    }
    return {"networks": networks if baseline is None else {"baseline": {"mean_iou": baseline}, **networks}}


@pytest.mark.parametrize(
    ("student", "words"),
    [(0.52, "is better than"), (0.48, "is worse than"), (0.5, "is neither better nor worse than")],
)
def test_verdict(student: float, words: str) -> None:
    sentence = verdict(results(student))
    assert words in sentence
    assert f"{100 * student:.2f} against 50.00" in sentence
    assert f"{100 * (student - 0.5):+.2f} points; one seed" in sentence


def test_what_the_choice_of_images_explains_is_not_called_better() -> None:
    clear = results(0.52) | {"difference": {"interval": [0.01, 0.03]}}
    assert "is better than" in verdict(clear)
    assert "(+2.00 points, 95 % interval +1.00 to +3.00 over the validation images; one seed" in verdict(clear)
    assert "is not clearly better than" in verdict(clear | {"difference": {"interval": [-0.01, 0.05]}})
    assert "is not clearly worse than" in verdict(results(0.48) | {"difference": {"interval": [-0.05, 0.01]}})


def test_verdict_without_a_control_claims_nothing() -> None:
    assert "nothing to compare it with" in verdict(results(0.5, baseline=None))
    assert "nothing was distilled" in verdict({"networks": {"baseline": {"mean_iou": 0.5}}})


def test_a_teacher_that_ignores_an_input_is_told_so() -> None:
    assert "does not use its label yet" in (teacher_remark(results(0.5, image=0.599)) or "")
    assert "ignores the image" in (teacher_remark(results(0.5, label=0.599)) or "")
    both = "60.00 % mIoU, from the image alone 40.00, from the label alone 30.00: it uses both"
    assert f"{both}, the label for 20.00 points and the image for 30.00" in (teacher_remark(results(0.5)) or "")
    assert teacher_remark({"networks": {"student": {}}}) is None

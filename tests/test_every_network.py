"""Every named network goes the whole way: label-assisted teacher, distilled student, weights file, and back."""

from pathlib import Path

import pytest
import torch

from ladseg import LabelAssisted, StudentObjective, TeacherObjective, build_model, list_models
from ladseg.deploy.student_file import load_student, save_student
from ladseg.distillers import CWD
from ladseg.evaluation import by_argmax
from ladseg.evaluation.evaluate import evaluate
from ladseg.recipe import Schedule
from ladseg.training.optimizers import build_optimizer

CLASSES = 4
HEAVY = ("_r50", "_r101", "_w48", "_b14", "_b2")
NAMES = [pytest.param(name, marks=pytest.mark.slow) if name.endswith(HEAVY) else name for name in list_models()]


def batch(images: int = 2, size: tuple[int, int] = (48, 65)) -> dict[str, torch.Tensor]:
    label = torch.randint(0, CLASSES, (images, *size))
    label[:, :2] = 255
    return {"image": torch.randn(images, 3, *size), "label": label, "seed": torch.arange(images)}


@pytest.mark.parametrize("name", NAMES)
def test_teach_distil_deliver_reload(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = batch()
    teacher = LabelAssisted(build_model(name, CLASSES), CLASSES)
    student = build_model(name, CLASSES)
    schedule = Schedule(optimizer="adamw", lr=1e-3)
    for make in (lambda: TeacherObjective(teacher), lambda: StudentObjective(student, teacher, CWD())):
        objective = make()  # the student's freezes the teacher
        trained = {n: p.detach().clone() for n, p in objective.named_parameters() if p.requires_grad}
        optimizer = build_optimizer(objective, schedule)
        terms = objective.train()(data)
        terms["loss"].backward()
        optimizer.step()
        assert all(value.isfinite().all() for value in terms.values())
        moved = {n for n, p in objective.named_parameters() if n in trained and not torch.equal(p, trained[n])}
        assert len(moved) > 0.5 * len(trained)
        assert not any(n.startswith("teacher.") for n in moved) or isinstance(objective, TeacherObjective)
    save_student(tmp_path / "student.safetensors", student.eval(), {"class_names": list("abcd")})
    again, header = load_student(tmp_path / "student.safetensors")
    assert (header.model, header.num_classes, header.data.class_names) == (name, CLASSES, tuple("abcd"))
    with torch.no_grad():
        expected, logits = student(data["image"]).logits, again(data["image"]).logits
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert sum(p.numel() for p in again.parameters()) == student.deployed_parameters()
    batches = [{key: value[i : i + 1] for key, value in data.items()} | {"index": torch.tensor([i])} for i in range(2)]
    matrix = evaluate(by_argmax(lambda b: again(b["image"]).logits), batches, CLASSES).matrix
    assert 0 <= matrix.mean_iou() <= 1


@pytest.mark.parametrize(
    ("teacher", "student"), [("ocrnet_w18s", "dinov2_s14"), ("pspnet_r18", "stdc1"), ("stdc1", "segformer_b0")]
)
def test_teacher_and_student_may_differ_in_anything(teacher: str, student: str) -> None:
    torch.manual_seed(0)
    assisted = LabelAssisted(build_model(teacher, CLASSES), CLASSES)
    objective = StudentObjective(build_model(student, CLASSES), assisted, CWD())
    terms = objective(batch())
    terms["loss"].backward()
    assert terms["cwd"] > 0


@pytest.mark.parametrize("name", ["fcn@hrnet_w18_small", "pspnet@swin_tiny_patch4_window7_224"])
def test_backbones_that_need_whole_multiples_take_any_size(name: str) -> None:
    network = build_model(name, CLASSES).eval()
    with torch.no_grad():
        logits = network(torch.zeros(1, 3, 97, 130)).logits
    assert logits.shape[-2:] == (-(-97 // 32), -(-130 // 32))

"""How hard distillation pulls beside the label: measured on the logits, and a weight that depends on no class count."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from ladseg import Plain, SegmentationOutput, StudentObjective
from ladseg.distillers import CWD, KD, Distiller, Feature, build_distiller
from ladseg.errors import RecipeError
from ladseg.losses.cross_entropy import cross_entropy
from ladseg.objectives import SnapshotObjective
from ladseg.recipe import Distill
from ladseg.recipe_files import make_recipe
from ladseg.report.run_tables import pull_remark
from ladseg.training import fit, make_accelerator
from ladseg.training.logs import median_of
from tests.made_results import network_row, run_results
from tests.training import toy


def networks() -> tuple[nn.Module, nn.Module]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return toy.Network(dropout=0.0), toy.Network(dropout=0.0)


@pytest.mark.parametrize(("distiller", "weight"), [(CWD(), 3.0), (CWD(tau=1.0), 0.5), (KD(), 2.0)])
def test_it_is_the_ratio_of_the_two_gradients_by_hand(distiller: Distiller, weight: float) -> None:
    student, teacher = networks()
    objective = StudentObjective(student, teacher, distiller, weight=weight)
    batch = toy.batch_of(0)
    logits = student(batch["image"]).detach().requires_grad_()
    output = SegmentationOutput(logits)
    pull = weight * next(iter(distiller(output, objective.teacher_output(batch), batch["label"]).values()))
    norms = [torch.autograd.grad(loss, logits)[0].norm() for loss in (pull, cross_entropy(logits, batch["label"]))]
    objective.before_step(0, logged=True)
    objective(batch)["loss"].backward()
    assert float(objective.measured()["gradient_ratio"]) == pytest.approx(float(norms[0] / norms[1]), rel=1e-4)
    objective.before_step(1, logged=False)
    objective(batch)
    assert objective.measured() == {}


def test_measuring_changes_no_gradient() -> None:
    gradients = []
    for logged in (False, True):
        student, teacher = networks()
        objective = StudentObjective(student, teacher, CWD(), weight=3.0)
        objective.before_step(0, logged)
        objective(toy.batch_of(0))["loss"].backward()
        gradients.append([parameter.grad for parameter in student.parameters()])
    assert all(torch.equal(one, two) for one, two in zip(*gradients, strict=True))


class WithMap(nn.Module):
    """Its feature map is no function of its logits."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.classifier = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 3, 1)

    def forward(self, image: torch.Tensor) -> SegmentationOutput:
        features = self.stem(image)
        return SegmentationOutput(self.classifier(features), {"head": features})


def test_what_does_not_reach_the_logits_has_no_ratio() -> None:
    objective = StudentObjective(WithMap(), WithMap(), Feature(student_width=4, teacher_width=4))
    early = SnapshotObjective(networks()[0], CWD(), start=5)
    for one in (objective, early):
        one.before_step(0, logged=True)
        one(toy.batch_of(0))["loss"].backward()
        assert one.measured() == {}


def test_it_is_logged_where_the_terms_are(tmp_path: Path) -> None:
    schedule = replace(toy.SCHEDULE, iterations=8, eval_every=4, save_every=4)

    def batches(start: int) -> Iterator[dict[str, torch.Tensor]]:
        return (toy.batch_of(step) for step in range(start, schedule.iterations))

    for name, objective in (("plain", Plain(networks()[0])), ("kd", StudentObjective(*networks(), CWD(), weight=3.0))):
        network = objective.network if name == "plain" else objective.student
        folder = tmp_path / name
        fit(objective, network, batches, None, schedule, folder, make_accelerator("fp32", folder), seed=7, title="t")
    lines = [json.loads(line) for line in (tmp_path / "kd/metrics.jsonl").read_text().splitlines()]
    assert all(("gradient_ratio" in line) == ("loss" in line) for line in lines)
    assert "gradient_ratio" in (tmp_path / "kd/log.txt").read_text()
    values = sorted(line["gradient_ratio"] for line in lines if "loss" in line)
    assert len(values) == 8
    assert median_of(tmp_path / "kd/metrics.jsonl", "gradient_ratio") == pytest.approx((values[3] + values[4]) / 2)
    assert median_of(tmp_path / "plain/metrics.jsonl", "gradient_ratio") is None


def test_the_run_says_it_in_a_sentence() -> None:
    rows = {"baseline": network_row(0.5), "student": network_row(0.6, gradient_ratio=5.52)}
    remark = pull_remark(run_results(rows))
    assert remark is not None
    assert remark.startswith("Distillation pulled 5.5 times as hard as the label")
    assert pull_remark(run_results({"baseline": network_row(0.5)})) is None


@pytest.mark.parametrize(
    ("settings", "classes", "weight"),
    [
        ({"method": "cwd"}, 11, 3.0),
        ({"method": "cwd", "weight_for_classes": 19}, 19, 3.0),
        ({"method": "cwd", "weight_for_classes": 19}, 11, 3.0 * 11 / 19),
        ({"method": "cwd", "weight": 2.0, "weight_for_classes": 10}, 171, 34.2),
        ({"method": "cwd-full", "weight_for_classes": 19}, 38, 6.0),
        ({"method": "mgd", "weight_for_classes": 19}, 38, 6.0),
    ],
)
def test_a_weight_for_so_many_classes(settings: dict, classes: int, weight: float) -> None:
    output = SegmentationOutput(torch.zeros(1, classes, 4, 4), {"head": torch.zeros(1, 8, 4, 4)})
    output = replace(output, features={"head": torch.zeros(1, 8, 4, 4), "backbone": torch.zeros(1, 8, 4, 4)})
    distiller = build_distiller(Distill(**settings), output, output)
    assert distiller.terms["cwd"] == pytest.approx(weight)


def test_the_gradient_is_then_the_same_for_any_number_of_classes() -> None:
    """Classes that are split in two, each half with its class's scores: as many logits more, each as far off."""
    generator = torch.Generator().manual_seed(0)
    logits, target = (torch.randn(2, 5, 6, 7, generator=generator) for _ in range(2))
    norms = []
    for copies in (1, 4):
        student = logits.repeat(1, copies, 1, 1).requires_grad_()
        output, teacher = (SegmentationOutput(value) for value in (student, target.repeat(1, copies, 1, 1)))
        distiller = build_distiller(Distill(method="cwd", weight_for_classes=19), output, teacher)
        loss = distiller.terms["cwd"] * distiller(output, teacher, torch.zeros(0))["cwd"]
        norms.append(float(torch.autograd.grad(loss, student)[0][:, :5].norm()))
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)


def test_other_methods_do_not_read_it() -> None:
    for method in ("kd", "none", "cwd-features"):
        with pytest.raises(RecipeError, match=f"distill.weight_for_classes: {method} does not read it"):
            make_recipe({"distill": {"method": method, "weight_for_classes": 19}})
    assert make_recipe({"distill": [{"method": "kd"}, {"method": "cwd", "weight_for_classes": 19}]})
    # It belongs to its method, as the weight does.
    file = {"distill": {"method": "cwd", "weight_for_classes": 19}}
    assert make_recipe(file, ["--distill.method", "kd"]).distill == Distill(method="kd")

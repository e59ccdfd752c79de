"""Figure 4's contributions, against formulas, finite differences and the axioms."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ladseg.cli import main
from ladseg.data import write_demo_scenes
from ladseg.models import build_model
from ladseg.objectives import LabelAssisted
from ladseg.report.contributions import FigureResults
from ladseg.report.reproduced import TINY
from ladseg.reproduce.layer_cam import contribution, entrances, integrated_gradients
from ladseg.results import read_json

CLASSES, SIDE = 3, 6


def small_teacher(**noise: object) -> LabelAssisted:
    layers = [nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, CLASSES, 3, padding=1)]
    network = nn.Sequential(*layers).double()
    return LabelAssisted(network, CLASSES, **{"alpha": 0.0, "slice_std": 0.3, **noise}).eval()  # type: ignore[arg-type]


def sample() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, SIDE, SIDE, generator=generator, dtype=torch.float64)
    return image, torch.randint(CLASSES, (1, SIDE, SIDE), generator=generator)


def test_maps_are_layer_cam_of_the_two_parts_of_the_first_layer() -> None:
    """Gradients by finite differences, parts by the weights' slices, sums by loops."""
    teacher, (image, label) = small_teacher(class_weights="none"), sample()
    first, relu, last = teacher.network
    pixels = label == 1
    found = contribution(teacher, image, label, 1)
    noised = teacher.joined(image, label)[:, 3:]
    both = first(torch.cat([image, noised], 1)).detach()

    def score(activation: Tensor) -> float:
        return float(last(relu(activation))[:, 1][pixels].detach().mean())

    def part(x: Tensor, weight: Tensor) -> Tensor:
        return torch.nn.functional.conv2d(x, weight, padding=1).detach()

    parts = {"image": part(image, first.weight[:, :3]), "label": part(noised, first.weight[:, 3:])}
    assert torch.allclose(parts["image"] + parts["label"] + first.bias[:, None, None], both)
    expected = {name: torch.zeros(SIDE, SIDE, dtype=torch.float64) for name in parts}
    for y in range(SIDE):
        for x in range(SIDE):
            for k in range(4):
                up, down = both.clone(), both.clone()
                up[0, k, y, x] += 1e-6
                down[0, k, y, x] -= 1e-6
                gradient = (score(up) - score(down)) / 2e-6
                for name, values in parts.items():
                    expected[name][y, x] += max(gradient, 0) * values[0, k, y, x]
    for name, values in expected.items():
        torch.testing.assert_close(getattr(found, name), values.clamp(min=0), atol=1e-7, rtol=1e-6)
    total = found.image.sum() + found.label.sum()
    assert found.share_of_label == pytest.approx(float(found.label.sum() / total))


@pytest.mark.parametrize(("blind", "share"), [(slice(3, 4), 0.0), (slice(0, 3), 1.0)], ids=["to label", "to image"])
def test_a_teacher_that_is_blind_to_one_input_has_the_class_from_the_other(blind: slice, share: float) -> None:
    teacher, (image, label) = small_teacher(class_weights="none"), sample()
    with torch.no_grad():
        teacher.network[0].weight[:, blind] = 0
    found = contribution(teacher, image, label, 2)
    assert found.share_of_label == share
    assert found.integrated_share_of_label == share


@pytest.mark.parametrize("seen", ["image", "label"])
@pytest.mark.parametrize("class_id", range(CLASSES))
def test_the_map_of_the_only_input_is_that_of_the_grad_cam_library(seen: str, class_id: int) -> None:
    """It knows no parts, so the first layer sees one input alone and has no bias; its maps run from 0 to 1."""
    grad_cam = pytest.importorskip("pytorch_grad_cam")
    teacher, (image, label) = small_teacher(class_weights="none"), sample()
    first = teacher.network[0]
    with torch.no_grad():
        first.weight[:, slice(3, 4) if seen == "image" else slice(0, 3)] = 0
        first.bias.zero_()
    pixels = (label == class_id)[0]
    with grad_cam.LayerCAM(teacher.network, [first]) as library:
        expected = library(teacher.joined(image, label), [lambda scores: scores[class_id][pixels].mean()])[0]
    found = getattr(contribution(teacher, image, label, class_id), seen)
    scaled = (found - found.min()) / (found.max() - found.min())
    torch.testing.assert_close(scaled, torch.from_numpy(expected).to(scaled), atol=1e-5, rtol=1e-5)


def test_integrated_gradients_add_up_to_the_difference_of_the_scores() -> None:
    teacher, (image, label) = small_teacher(), sample()
    generator = torch.Generator().manual_seed(1)
    joined, pixels = teacher.joined(image, label, generator), label == 0

    def score(x: Tensor) -> float:
        return float(teacher.network(x)[:, 0][pixels].detach().mean())

    found = integrated_gradients(teacher.network, joined, 0, pixels, steps=4000)
    difference = score(joined) - score(torch.zeros_like(joined))
    assert float(found.sum()) == pytest.approx(difference, abs=1e-4)
    # A linear network's are its weights times its input, however many steps.
    line = nn.Conv2d(4, CLASSES, 1).double()
    linear = integrated_gradients(line, joined, 0, pixels, steps=1)
    expected = line.weight[0, :, 0, 0].detach()[:, None, None] * joined[0] * pixels / pixels.sum()
    torch.testing.assert_close(linear[0], expected)


@pytest.mark.parametrize("name", ["pspnet@test_resnet", "fcn@test_efficientnet", "stdc1_mmseg"])
def test_networks_enter_by_their_first_convolution(name: str) -> None:
    teacher = LabelAssisted(build_model(name, CLASSES), CLASSES).eval()
    (layer,) = entrances(teacher)
    assert isinstance(layer, nn.Conv2d)
    assert layer.in_channels == 4
    image, label = torch.randn(1, 3, 64, 64), torch.randint(CLASSES, (1, 64, 64))
    found = contribution(teacher, image, label, 1, torch.Generator().manual_seed(0))
    assert found.image.shape == found.label.shape
    assert 0 <= found.share_of_label <= 1


def test_a_label_stem_is_the_layer_that_it_is_added_to() -> None:
    teacher = LabelAssisted(build_model("pspnet@test_resnet", CLASSES), CLASSES, input_layer="stem").eval()
    image, label = torch.randn(1, 3, 64, 64), torch.randint(CLASSES, (1, 64, 64))
    (layer,) = entrances(teacher)
    assert isinstance(layer, nn.Conv2d)
    assert layer.in_channels == 3
    # Its weights start at zero.
    assert contribution(teacher, image, label, 1).share_of_label == 0
    nn.init.normal_(layer.label_stem.conv.weight)  # type: ignore[union-attr, arg-type]
    assert contribution(teacher, image, label, 1).share_of_label > 0


def test_a_class_that_is_not_there() -> None:
    teacher, (image, label) = small_teacher(), sample()
    with pytest.raises(ValueError, match="the label has no pixel of class 2"):
        contribution(teacher, image, label.clamp(max=1), 2)


@pytest.mark.slow
def test_figure_4_in_miniature(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_demo_scenes(tmp_path / "scenes", train=16, val=4, size=(48, 64))
    few = ["--schedule.iterations", "3", "--schedule.eval_every", "3", "--schedule.batch_size", "4"]
    words = ["reproduce", "figure-4", "--scale", "tiny", "--out", str(tmp_path), "--schedule.crop", "[48, 64]", *few]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "\nteacher  starts" in said  # and no stages of students, which are not trained here
    assert "stage" not in said
    figure = read_json(FigureResults, tmp_path / "figure-4.json")
    assert [one.method for one in figure.teachers] == ["lad", "lad@class_weights=none,alpha=0"]
    assert all(0 <= share <= 1 for one in figure.teachers for share in one.shares_of_label)
    assert TINY in figure.heading
    for suffix in ("md", "html"):
        assert TINY in (tmp_path / f"figure-4.{suffix}").read_text(encoding="utf-8")
    assert (tmp_path / "figure-4.png").stat().st_size > 10_000
    # Table 9 finds the two teachers, and the figure is drawn again without training.
    assert (tmp_path / "table-4-stdc2" / "seed-0" / "teacher-label" / "result.json").is_file()
    capsys.readouterr()
    assert main(words) == 0
    assert "starts" not in capsys.readouterr().out

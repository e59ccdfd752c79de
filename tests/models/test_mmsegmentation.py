"""mmsegmentation's networks: a file under its names against the same network written out, whole and at odd sizes."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ladseg import build_model
from ladseg.evaluation import probabilities
from ladseg.models.renames import renamed
from ladseg.resize import resize_logits
from tests.reference import mmsegmentation

ALL = [
    "fcn_r18",
    "fcn_r50",
    "pspnet_r50_mmseg",
    "pspnet_r101_mmseg",
    "deeplabv3_r50_mmseg",
    "ocrnet_w18s",
    "ocrnet_w18",
    "ocrnet_w48",
    "stdc1_mmseg",
    "stdc2_mmseg",
]
# Deeper ones are of the same parts; all are compared by the names and shapes of their weights.
RUN = ["fcn_r18", "pspnet_r50_mmseg", "deeplabv3_r50_mmseg", "ocrnet_w18s", "stdc1_mmseg", "stdc2_mmseg"]
CLASSES = 5
SIZE = (97, 161)


def settled(network: nn.Module, image: Tensor) -> nn.Module:
    """Batch norms as after training: statistics of the maps that they see, so that no map explodes or dies out."""
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.3)
            part.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.cat([image, image.flip(-1)]))
    return network.eval()


@pytest.mark.parametrize("name", ALL)
def test_every_weight_of_a_published_file_has_its_place(name: str) -> None:
    with torch.device("meta"):
        theirs, ours = mmsegmentation.build(name, CLASSES).state_dict(), build_model(name, CLASSES)
    translated = {key: value.shape for key, value in ours.own_names(renamed(theirs)).items()}
    assert translated == {key: value.shape for key, value in ours.state_dict().items()}


@pytest.mark.parametrize("name", RUN)
def test_the_network_is_mmsegmentations(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    image = torch.randn(1, 3, *SIZE)
    theirs = settled(mmsegmentation.build(name, CLASSES), image)
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "published.pth")
    ours = build_model(name, CLASSES, weights=str(tmp_path / "published.pth")).eval()
    ours.aux_in_eval = True
    with torch.no_grad():
        expected, output = theirs(image), ours(image)
        found = [resize_logits(output.logits, SIZE, output.align_corners)]
        found += [resize_logits(aux, SIZE, output.aux_align_corners) for aux in output.aux]
        if name.startswith("stdc"):
            boundary = ours.boundary_head(ours.backbone(image)[0])[1]
            found.append(resize_logits(boundary, SIZE, output.align_corners))
    assert len(found) == len(expected)
    for logits, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(logits, wanted, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(probabilities(ours, image), expected[0].softmax(1), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "second"),
    [
        ("fcn_r18", {"layer3.0": 1, "layer3.1": 1, "layer4.0": 1, "layer4.1": 1}),
        ("pspnet_r18", {"layer3.0": 2, "layer3.1": 2, "layer4.0": 4, "layer4.1": 4}),
    ],
)
def test_which_convolutions_of_basic_blocks_are_dilated(name: str, second: dict[str, int]) -> None:
    backbone = build_model(name, 3).backbone
    first = {"layer3.0": 1, "layer3.1": 2, "layer4.0": 2, "layer4.1": 4}
    for block, dilation in first.items():
        part = backbone.get_submodule(block)
        assert (part.conv1.dilation, part.conv1.padding) == ((dilation, dilation),) * 2
        assert (part.conv2.dilation, part.conv2.padding) == ((second[block], second[block]),) * 2


CONFIG = """model = dict(
    decode_head=dict(type='PSPHead', align_corners={}),
    auxiliary_head=dict(type='FCNHead', align_corners={}))"""


@pytest.mark.parametrize("align_corners", [True, False])
def test_a_files_configuration_tells_how_logits_are_upsampled(align_corners: bool, tmp_path: Path) -> None:
    state = mmsegmentation.build("fcn_r18", 3).state_dict()
    meta = {"config": CONFIG.format(align_corners, not align_corners)}
    torch.save({"meta": meta, "state_dict": state}, tmp_path / "w.pth")
    assert build_model("fcn_r18", 3, weights=str(tmp_path / "w.pth")).align_corners is align_corners
    given = build_model("fcn_r18", 3, weights=str(tmp_path / "w.pth"), args={"align_corners": not align_corners})
    assert given.align_corners is not align_corners


def test_a_file_that_does_not_tell_is_said_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.save(mmsegmentation.build("fcn_r18", 3).state_dict(), tmp_path / "silent.pth")
    assert build_model("fcn_r18", 3, weights=str(tmp_path / "silent.pth")).align_corners is True
    assert "silent.pth: does not record how its logits are upsampled; align_corners is true" in caplog.text

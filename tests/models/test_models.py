"""Every network: exact size, shape, trainability; heads and backbones against what others wrote."""

from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ladseg import SegmentationOutput, build_model, list_models
from ladseg.errors import ModelError
from ladseg.models.heads import PSPNetHead

PRETRAINED = Path(__file__).parents[3] / "shared/pretrained/tf_efficientnet_lite0.safetensors"

# CIRKD's networks, counted from its public definitions, with and without the auxiliary head; MACs at 1024x2048.
COUNTS = {
    ("deeplabv3_r18", 19): (13_607_974, 13_459_155),
    ("pspnet_r18", 19): (12_919_334, 12_770_515),
    ("deeplabv3_r101", 19): (61_118_950, 58_754_259),
    ("deeplabv3_r18", 11): (13_606_422, None),
    ("pspnet_r18", 11): (12_917_782, None),
    ("deeplabv3_r101", 11): (61_114_838, None),
}
GIGA_MACS = {
    "deeplabv3_r18": (517.495, 512.624),
    "pspnet_r18": (488.508, 483.636),
    "deeplabv3_r101": (2063.346, 1985.878),
}
SMALL = [
    "pspnet@tf_efficientnet_lite0",
    "fcn@mobilenetv3_small_050",
    "deeplabv3@test_resnet",
    "pspnet@ghostnetv3_050",
]


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(("name", "classes"), COUNTS)
def test_exact_parameter_counts(name: str, classes: int) -> None:
    with_aux, without = COUNTS[name, classes]
    with torch.device("meta"):
        assert parameters(build_model(name, classes)) == with_aux
        if without is not None:
            assert parameters(build_model(name, classes, aux=False)) == without


@pytest.mark.parametrize("name", ["pspnet_r18", "deeplabv3_r18"])
def test_a_fourth_channel_adds_576_parameters(name: str) -> None:
    assert parameters(build_model(name, 19, in_channels=4)) == COUNTS[name, 19][0] + 64 * 3 * 3


@pytest.mark.parametrize("name", GIGA_MACS)
@pytest.mark.parametrize("aux", [True, False])
def test_macs(name: str, aux: bool) -> None:
    with torch.device("meta"):
        # Two images, because batch norm of one pooled value has no variance; the aux head runs in training only.
        network = build_model(name, 19, aux=aux).train()
        image = torch.empty(2, 3, 1024, 2048)
        with FlopCounterMode(display=False) as counter:
            network(image)
    assert counter.get_total_flops() / 2 / 2 / 1e9 == pytest.approx(GIGA_MACS[name][0 if aux else 1], rel=1e-3)


@pytest.mark.parametrize("name", [*list_models(), *SMALL])
def test_every_network_trains_a_step_and_keeps_the_contract(name: str) -> None:
    torch.manual_seed(0)
    heavy = name.endswith("r101")
    network = build_model(name, 5)
    image = torch.randn(2, 3, 33, 41)
    output = network.train()(image)
    assert isinstance(output, SegmentationOutput)
    assert len(output.aux) == 1
    assert output.logits.shape[:2] == (2, 5)
    assert set(output.features) == {"backbone", "head"}
    if not heavy:
        (output.logits.mean() + output.aux[0].mean()).backward()
        used = [p for n, p in network.named_parameters() if p.grad is not None]
        assert len(used) == len(list(network.parameters())), "every parameter takes part"
        assert all(p.grad.isfinite().all() for p in used)
    network.eval()
    with torch.inference_mode():
        alone = network(image[:1])
    assert alone.aux == ()
    assert alone.logits.shape[-2:] == output.logits.shape[-2:]


@pytest.mark.parametrize("name", ["pspnet_r18", "deeplabv3_r18"])
def test_output_stride_is_8(name: str) -> None:
    with torch.inference_mode():
        assert build_model(name, 3).eval()(torch.zeros(1, 3, 64, 96)).logits.shape == (1, 3, 8, 12)


def test_asked_output_stride() -> None:
    with torch.inference_mode():
        network = build_model("pspnet@tf_efficientnet_lite0", 3, output_stride=16).eval()
        assert network(torch.zeros(1, 3, 64, 96)).logits.shape == (1, 3, 4, 6)


def test_the_backbone_is_timms_classifier_with_equal_weights() -> None:
    ours = build_model("pspnet_r18", 3).backbone.eval()
    theirs = timm.create_model("resnet18", stem_width=64, stem_type="deep", output_stride=8).eval()
    theirs.load_state_dict(ours.state_dict(), strict=False)
    image = torch.randn(1, 3, 65, 49)
    with torch.inference_mode():
        assert torch.equal(ours(image)[-1], theirs.forward_features(image))


def test_pyramid_pooling_is_the_average_of_each_bin() -> None:
    """Bins by the definition: rows floor(i h / b) to ceil((i + 1) h / b)."""
    torch.manual_seed(0)
    head = PSPNetHead(8, 4, 3).eval()
    pyramid = head.features[0]
    x = torch.randn(1, 8, 7, 10)
    expected = [x]
    for branch, bins in zip(pyramid.branches, (1, 2, 3, 6), strict=True):
        pooled = torch.zeros(1, 8, bins, bins)
        for i in range(bins):
            for j in range(bins):
                rows = slice(i * 7 // bins, -(-(i + 1) * 7 // bins))
                columns = slice(j * 10 // bins, -(-(j + 1) * 10 // bins))
                pooled[..., i, j] = x[..., rows, columns].mean((-2, -1))
        expected.append(F.interpolate(branch(pooled), size=(7, 10), mode="bilinear", align_corners=True))
    torch.testing.assert_close(pyramid(x), torch.cat(expected, 1))


def test_one_image_in_training_is_refused_in_one_line() -> None:
    with pytest.raises(ModelError, match="batch_size of 2 or more"):
        build_model("pspnet@test_resnet", 3).train()(torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "pspnet_r81"}, "did you mean 'pspnet_r18'"),
        ({"name": "psp@resnet18"}, "no head is called 'psp'"),
        ({"name": "pspnet@resnet1888"}, "timm has no backbone 'resnet1888'; nearest: resnet18"),
        ({"name": "pspnet@ghostnetv3_050", "output_stride": 8}, "can't have output_stride 8"),
        (
            {"name": "pspnet_r18", "weights": "nowhere.safetensors"},
            "nowhere.safetensors: no such weights file",
        ),
        ({"name": "pspnet_r18", "num_classes": 0}, "num_classes is 0"),
    ],
)
def test_faults_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        build_model(**{"num_classes": 3, **arguments})
    assert "\n" not in str(caught.value)


def test_local_weights_are_loaded_bit_for_bit_and_the_classifier_is_left_out(tmp_path: Path) -> None:
    source = timm.create_model("test_resnet", num_classes=7)
    torch.save(source.state_dict(), tmp_path / "w.pth")
    network = build_model("pspnet@test_resnet", 3, in_channels=4, weights=str(tmp_path / "w.pth"))
    state = network.backbone.state_dict()
    assert torch.equal(state["conv1.0.weight"][:, :3], source.state_dict()["conv1.0.weight"])
    assert all(torch.equal(v, source.state_dict()[k]) for k, v in state.items() if k != "conv1.0.weight")


def test_a_file_of_another_backbone_is_refused_with_what_matched(tmp_path: Path) -> None:
    torch.save(timm.create_model("test_efficientnet").state_dict(), tmp_path / "w.pth")
    with pytest.raises(
        ModelError, match=r"holds \d+ of the \d+ tensors of 'test_resnet' \(not 'conv1.0.weight', for one\)"
    ):
        build_model("pspnet@test_resnet", 3, weights=str(tmp_path / "w.pth"))
    (tmp_path / "junk.pth").write_bytes(b"junk")
    with pytest.raises(ModelError, match=r"junk\.pth: can't be read as weights"):
        build_model("pspnet@test_resnet", 3, weights=str(tmp_path / "junk.pth"))


@pytest.mark.skipif(not PRETRAINED.exists(), reason=f"real ImageNet weights are not at {PRETRAINED}")
def test_real_imagenet_weights() -> None:
    from safetensors.torch import load_file

    network = build_model("pspnet@tf_efficientnet_lite0", 11, weights=str(PRETRAINED), output_stride=16)
    state = load_file(PRETRAINED)
    assert all(torch.equal(value, state[key]) for key, value in network.backbone.state_dict().items())
    assert network.input_mean == (0.5, 0.5, 0.5)

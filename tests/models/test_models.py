"""Every network: exact size, shape, trainability; heads and backbones against what others wrote."""

import pytest
import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ladseg import SegmentationOutput, build_model, list_models
from ladseg.errors import ModelError
from ladseg.models.zoo import HEADS

# CIRKD's networks, counted from its public definitions, with and without the auxiliary head; MACs at 1024x2048.
COUNTS = {
    ("deeplabv3_r18", 19): (13_607_974, 13_459_155),
    ("pspnet_r18", 19): (12_919_334, 12_770_515),
    ("deeplabv3_r101", 19): (61_118_950, 58_754_259),
    # The classifier is 1x1 with bias on 128 (R101: 256) channels, so 8 classes fewer take 8 * 129 (8 * 257) off.
    ("deeplabv3_r18", 11): (13_606_422, 13_459_155 - 8 * 129),
    ("pspnet_r18", 11): (12_917_782, 12_770_515 - 8 * 129),
    ("deeplabv3_r101", 11): (61_114_838, 58_754_259 - 8 * 257),
}
GIGA_MACS = {
    "deeplabv3_r18": (517.495, 512.624),
    "pspnet_r18": (488.508, 483.636),
    "deeplabv3_r101": (2063.346, 1985.878),
}
# Backbones that can be dilated, one that can't, a transformer of one size and one with channels last.
SMALL = [
    "pspnet@tf_efficientnet_lite0",
    "fcn@mobilenetv3_small_050",
    "deeplabv3@resnet10t",
    "pspnet@lcnet_050",
    "pspnet@ghostnetv3_050",
    "fcn@test_vit",
    "fcn@mambaout_femto",
]


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(("name", "classes"), COUNTS)
@pytest.mark.parametrize("in_channels", [3, 4])
@pytest.mark.parametrize("aux", [True, False])
def test_exact_parameter_counts(name: str, classes: int, in_channels: int, aux: bool) -> None:
    with torch.device("meta"):
        network = build_model(name, classes, in_channels=in_channels, aux=aux)
    fourth = 64 * 3 * 3 if in_channels == 4 else 0
    assert parameters(network) == COUNTS[name, classes][0 if aux else 1] + fourth
    assert network.in_channels == in_channels


def test_the_backbone_alone_has_the_count_of_the_facts() -> None:
    with torch.device("meta"):
        assert parameters(build_model("pspnet_r18", 19).backbone) == 11_324_992


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


@pytest.mark.parametrize("size", [(33, 41), (47, 64)])
def test_a_size_that_the_stride_does_not_divide_is_rounded_up(size: tuple[int, int]) -> None:
    with torch.inference_mode():
        logits = build_model("fcn@resnet10t", 3).eval()(torch.zeros(1, 3, *size)).logits
    assert logits.shape[-2:] == tuple(-(-side // 8) for side in size)


@pytest.mark.parametrize(("backbone", "stride"), [("resnet10t", 8), ("lcnet_050", 8), ("ghostnetv3_050", 32)])
def test_the_default_stride_is_8_where_the_backbone_can_be_dilated(backbone: str, stride: int) -> None:
    with torch.inference_mode():
        network = build_model(f"fcn@{backbone}", 3).eval()
        assert network(torch.zeros(1, 3, 64, 96)).logits.shape[-2:] == (64 // stride, 96 // stride)


def test_a_backbones_own_stride_may_be_asked_for() -> None:
    assert build_model("fcn@ghostnetv3_050", 3, output_stride=32).output_stride == 32


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


def test_the_seed_decides_the_weights() -> None:
    def weights(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        return build_model("pspnet@test_resnet", 3, in_channels=4).state_dict()

    one, again, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert not torch.equal(one["head.classifier.weight"], other["head.classifier.weight"])


@pytest.mark.parametrize(("backbone", "heavy"), [("resnet18", False), ("resnet50", True)])
def test_the_head_is_narrow_on_a_light_backbone(backbone: str, heavy: bool) -> None:
    with torch.device("meta"):
        widths = {head: build_model(f"{head}@{backbone}", 3).head.classifier.in_channels for head in HEADS}
    assert widths == ({"fcn": 512, "pspnet": 512, "deeplabv3": 256} if heavy else dict.fromkeys(HEADS, 128))


def test_one_image_in_training_is_refused_in_one_line() -> None:
    with pytest.raises(ModelError, match="batch_size of 2 or more"):
        build_model("pspnet@test_resnet", 3).train()(torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "pspnet_r81"}, "did you mean 'pspnet_r18'"),
        ({"name": "psp@resnet18"}, "no head is called 'psp'"),
        ({"name": "pspnet@resnet1888"}, "timm has no backbone 'resnet1888'; nearest: resnet18"),
        ({"name": "pspnet@ghostnetv3_050", "output_stride": 8}, "can't have output_stride 8; what works is 32"),
        ({"name": "pspnet@resnet18", "output_stride": 0}, "output_stride 0; what works is 8 or 16 or 32"),
        ({"name": "pspnet_r18", "in_channels": 2}, "in_channels 2"),
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

"""Every network: exact size, shape, trainability; heads and backbones against what others wrote."""

import pytest
import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ladseg import SegmentationOutput, build_model, list_models
from ladseg.errors import ModelError
from ladseg.models.describe import describe_model
from ladseg.models.heads.pspnet import PyramidPooling
from ladseg.models.zoo import HEADS, MODELS

# With and without what only trains, 19 classes. CIRKD's, STDC's and OCRNet's counts are published or were taken from
# the public definitions; FCN, DINOv2 and SegFormer are worked out below.
COUNTS = {
    "pspnet_r18": (12_919_334, 12_770_515),
    "pspnet_r50": (49_080_038, 46_715_347),
    "pspnet_r101": (68_072_166, 65_707_475),
    "deeplabv3_r18": (13_607_974, 13_459_155),
    "deeplabv3_r50": (42_126_822, 39_762_131),
    "deeplabv3_r101": (61_118_950, 58_754_259),
    "stdc1": (8_572_896, 8_275_104),
    "stdc2": (12_603_360, 12_305_568),
    "stdc1_mmseg": (8_573_019, 8_275_123),
    "stdc2_mmseg": (12_603_483, 12_305_587),
    "pspnet_r101_mmseg": (67_967_622, 65_602_931),
    # Published at 150 classes; each class takes 513 and 257 parameters.
    "pspnet_r50_mmseg": (49_076_364 - 131 * 770, 49_076_364 - 131 * 770 - 2_364_691),
    "deeplabv3_r50_mmseg": (68_213_900 - 131 * 770, 68_213_900 - 131 * 770 - 2_364_691),
    "ocrnet_w18s": (6_378_496, 6_378_496),
    "ocrnet_w18": (12_080_036, 12_080_036),
    "ocrnet_w48": (70_371_446, 70_371_446),
}
# torchvision's backbones without their classifiers, and mmsegmentation's FCN heads: three 3x3 convolutions with batch
# norm, the third over input and result, and a 1x1 classifier; the auxiliary head is one 3x3 to a quarter and a 1x1.
for name, backbone, channels, width in (("fcn_r18", 11_176_512, 512, 128), ("fcn_r50", 23_508_032, 2048, 512)):
    head = 9 * width * (channels + width + channels + width) + 3 * 2 * width + 19 * (width + 1)
    aux_width = channels // 8
    aux = 9 * (channels // 2) * aux_width + 2 * aux_width + 19 * (aux_width + 1)
    COUNTS[name] = (backbone + head + aux, backbone + head)
# timm's vision transformer; batch norm and a classifier on the maps of four blocks; LoRA of rank 16 on the fused qkv (d
# to 3d) and the projection (d to d) of twelve blocks.
for name, backbone, width in (("dinov2_s14", 22_056_192, 384), ("dinov2_b14", 86_579_712, 768)):
    head = 2 * 4 * width + 19 * (4 * width + 1)
    COUNTS[name] = (backbone + head + 12 * 16 * (width + 3 * width + width + width), backbone + head)
# SegFormer's table 6: kernel, width, depth and reduction of each stage, and a linear layer from each to the decoder.
for name, widths, depths, decoder in (
    ("segformer_b0", (32, 64, 160, 256), (2, 2, 2, 2), 256),
    ("segformer_b2", (64, 128, 320, 512), (3, 4, 6, 3), 768),
):
    total = 4 * decoder * decoder + 2 * decoder + 19 * (decoder + 1)
    for kernel, before, c, depth, reduction in zip(
        (7, 3, 3, 3), (3, *widths[:-1]), widths, depths, (8, 4, 2, 1), strict=True
    ):
        attention = 4 * (c * c + c) + (reduction**2 * c * c + c + 2 * c if reduction > 1 else 0)
        block = attention + (c * 4 * c + 4 * c) + 10 * 4 * c + (4 * c * c + c) + 2 * 2 * c
        total += kernel**2 * before * c + c + 2 * c + depth * block + 2 * c + c * decoder + decoder
    COUNTS[name] = (total, total)
# Parameters a class: each classifier's inputs, and 1 where it has a bias; with and without what only trains.
A_CLASS = {
    "pspnet_r18": (129 + 65, 129),
    "pspnet_r50": (513 + 257, 513),
    "pspnet_r101": (513 + 257, 513),
    "deeplabv3_r18": (129 + 65, 129),
    "deeplabv3_r50": (257 + 257, 257),
    "deeplabv3_r101": (257 + 257, 257),
    "stdc1": (256 + 64 + 64, 256),
    "stdc2": (256 + 64 + 64, 256),
    "stdc1_mmseg": (257 + 65 + 65, 257),
    "stdc2_mmseg": (257 + 65 + 65, 257),
    "pspnet_r50_mmseg": (513 + 257, 513),
    "pspnet_r101_mmseg": (513 + 257, 513),
    "deeplabv3_r50_mmseg": (513 + 257, 513),
    "ocrnet_w18s": (513 + 271,) * 2,
    "ocrnet_w18": (513 + 271,) * 2,
    "ocrnet_w48": (513 + 721,) * 2,
    "fcn_r18": (129 + 65, 129),
    "fcn_r50": (513 + 257, 513),
    "dinov2_s14": (4 * 384 + 1,) * 2,
    "dinov2_b14": (4 * 768 + 1,) * 2,
    "segformer_b0": (257,) * 2,
    "segformer_b2": (769,) * 2,
}
# Weights of the fourth channel in the first layer: its outputs times its kernel.
FOURTH = {"pspnet_r50_mmseg": 32 * 9, "pspnet_r101_mmseg": 32 * 9, "deeplabv3_r50_mmseg": 32 * 9}
FOURTH |= {"pspnet": 64 * 9, "deeplabv3": 64 * 9, "fcn": 64 * 49, "stdc": 32 * 9, "ocrnet": 64 * 9}
FOURTH |= {"dinov2_s14": 384 * 196, "dinov2_b14": 768 * 196, "segformer_b0": 32 * 49, "segformer_b2": 64 * 49}
# At 1024x2048 in training, with and without the auxiliary head.
GIGA_MACS = {
    "deeplabv3_r18": (517.495, 512.624),
    "deeplabv3_r50": (1442.724, 1365.255),
    "deeplabv3_r101": (2063.346, 1985.878),
    "pspnet_r18": (488.508, 483.636),
    "pspnet_r50": (1550.309, 1472.840),
    "pspnet_r101": (2170.932, 2093.463),
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


HEAVY = {"pspnet_r101", "pspnet_r101_mmseg", "deeplabv3_r101", "ocrnet_w48", "dinov2_b14"}


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_every_named_network_has_a_count() -> None:
    assert set(COUNTS) == set(A_CLASS) == set(list_models())
    assert list(MODELS) == list_models()


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize(("classes", "in_channels"), [(19, 3), (11, 4)])
@pytest.mark.parametrize("training", [True, False])
def test_exact_parameter_counts(name: str, classes: int, in_channels: int, training: bool) -> None:
    with torch.device("meta"):
        network = build_model(name, classes, in_channels=in_channels, aux=training, merged=not training)
    fourth = next(value for start, value in FOURTH.items() if name.startswith(start)) if in_channels == 4 else 0
    which = 0 if training else 1
    assert parameters(network) == COUNTS[name][which] - (19 - classes) * A_CLASS[name][which] + fourth
    assert network.in_channels == in_channels


@pytest.mark.parametrize("name", COUNTS)
def test_what_only_trains_is_told_apart(name: str) -> None:
    with torch.device("meta"):
        assert build_model(name, 19).deployed_parameters() == COUNTS[name][1]


@pytest.mark.parametrize(
    ("name", "classes", "training", "predicting"),
    [
        ("fcn_r18", 19, 12_803_110, 12_654_291),
        ("fcn_r50", 19, 49_478_502, 47_113_811),
        ("pspnet_r50_mmseg", 150, 49_076_364, None),
        ("pspnet_r50_mmseg", 21, 48_977_034, None),
        ("pspnet_r50_mmseg", 171, 49_092_534, None),
        ("deeplabv3_r50_mmseg", 150, 68_213_900, None),
        ("deeplabv3_r50_mmseg", 21, 68_114_570, None),
        ("deeplabv3_r50_mmseg", 171, 68_230_070, None),
        ("deeplabv3_r18", 11, 13_606_422, None),
        ("pspnet_r18", 11, 12_917_782, None),
        ("deeplabv3_r101", 11, 61_114_838, None),
    ],
)
def test_counts_as_published(name: str, classes: int, training: int, predicting: int | None) -> None:
    with torch.device("meta"):
        network = build_model(name, classes)
    assert parameters(network) == training
    assert predicting is None or network.deployed_parameters() == predicting


# As published: None of a network's heads is told by its number of parameters.
ALIGNED = {"fcn_r18", "fcn_r50", "stdc1", "stdc2", "stdc1_mmseg", "stdc2_mmseg"}
ALIGNED |= {f"{head}_{backbone}" for head in ("pspnet", "deeplabv3") for backbone in ("r18", "r50", "r101")}


@pytest.mark.parametrize("name", list_models())
def test_how_logits_are_upsampled(name: str) -> None:
    with torch.device("meta"):
        network = build_model(name, 19)
        output = network.trial_output()
    assert network.align_corners is output.align_corners is (name in ALIGNED)
    mmsegs_stdc = name in ("stdc1_mmseg", "stdc2_mmseg")
    assert output.aux_align_corners is (name in ALIGNED and not mmsegs_stdc)
    pyramids = [module.align_corners for module in network.modules() if isinstance(module, PyramidPooling)]
    assert pyramids == [network.align_corners] * name.startswith("pspnet")


def dropouts(network: nn.Module) -> list[tuple[type, float]]:
    return [(type(m), m.p) for m in network.modules() if isinstance(m, nn.Dropout | nn.Dropout2d) and m.p]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("deeplabv3_r18", [(nn.Dropout, 0.5), (nn.Dropout, 0.1), (nn.Dropout, 0.1)]),
        ("pspnet_r18", [(nn.Dropout, 0.1)] * 2),
        ("fcn_r18", [(nn.Dropout2d, 0.1)] * 2),
        ("pspnet_r50_mmseg", [(nn.Dropout2d, 0.1)] * 2),
        ("deeplabv3_r50_mmseg", [(nn.Dropout2d, 0.1)] * 2),
        ("stdc1", []),
        ("stdc1_mmseg", [(nn.Dropout2d, 0.1)] * 4),
        ("ocrnet_w18s", []),
    ],
)
def test_dropout_is_where_it_is_published(name: str, expected: list[tuple[type, float]]) -> None:
    with torch.device("meta"):
        assert dropouts(build_model(name, 19)) == expected


def test_dropout_and_align_corners_are_arguments() -> None:
    with torch.device("meta"):
        network = build_model("deeplabv3_r18", 19, args={"dropout": 0.01})
        assert dropouts(network) == [(nn.Dropout, 0.01)] * 3
        assert network.origin["args"] == {"dropout": 0.01}
        other = build_model("pspnet_r18", 19, args={"align_corners": False})
        assert not other.align_corners
        assert not other.trial_output().align_corners


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("pspnet_r18", {"width": 2}, "'pspnet_r18' has no argument 'width'; named networks have dropout and align_"),
        ("pspnet_r18", {"dropout": 1.0}, "dropout is 1.0; expected a number from 0 to below 1"),
        ("pspnet_r18", {"dropout": True}, "dropout is True"),
        ("ocrnet_w18s", {"dropout": 0.1}, "'ocrnet_w18s' has no dropout"),
        ("pspnet_r18", {"align_corners": "no"}, "align_corners is 'no'; expected true or false"),
    ],
)
def test_other_arguments_are_refused(name: str, args: dict, message: str) -> None:
    with torch.device("meta"), pytest.raises(ModelError, match=message):
        build_model(name, 3, args=args)


@pytest.mark.parametrize(("name", "giga_macs"), [("stdc1", 16.86), ("stdc2", 23.46), ("stdc1_mmseg", 16.86)])
def test_macs_of_stdc_as_published(name: str, giga_macs: float) -> None:
    assert describe_model(name, 19, (512, 1024)).macs / 1e9 == pytest.approx(giga_macs, rel=1e-3)


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


def auxiliary_outputs(name: str) -> int:
    return {"stdc": 2, "dino": 0, "segf": 0}.get(name[:4], 1)


@pytest.mark.parametrize("name", [*list_models(), *SMALL])
def test_every_network_trains_a_step_and_keeps_the_contract(name: str) -> None:
    torch.manual_seed(0)
    network = build_model(name, 5)
    image = torch.randn(2, 3, 33, 41)
    output = network.train()(image)
    assert isinstance(output, SegmentationOutput)
    assert len(output.aux) == auxiliary_outputs(name)
    assert output.logits.shape[:2] == (2, 5)
    assert set(output.features) == {"backbone", "head"}
    assert (output.boundary is not None) == name.startswith("stdc")
    if name not in HEAVY:
        loss = sum(x.mean() for x in (output.logits, *output.aux, output.boundary) if x is not None)
        loss.backward()  # type: ignore[union-attr]
        wanted = [p for p in network.parameters() if p.requires_grad]
        used = [p for p in wanted if p.grad is not None]
        assert len(used) == len(wanted), "every parameter that is to train takes part"
        assert all(p.grad.isfinite().all() for p in used)  # type: ignore[union-attr]
    network.eval()
    with torch.inference_mode():
        alone = network(image[:1])
    assert alone.aux == ()
    assert alone.boundary is None
    assert alone.logits.shape[-2:] == output.logits.shape[-2:]
    # The map before the classifier is what distillers read as "head".
    assert alone.features["head"].shape[-2:] == alone.logits.shape[-2:]


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
        ({"name": "fcn@maxvit_tiny_tf_224"}, "'maxvit_tiny_tf_224' takes images of its own size only"),
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

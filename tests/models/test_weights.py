"""Pretrained backbones: loaded bit for bit, or refused in one line."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ladseg import build_model
from ladseg.deploy.student_file import load_student, save_student
from ladseg.errors import ModelError
from ladseg.models.renames import renamed
from ladseg.models.stdc import STDCBackbone

NAMES = {"class_names": list("abc")}
PRETRAINED = Path(__file__).parents[3] / "shared/pretrained/tf_efficientnet_lite0.safetensors"


def test_local_weights_are_loaded_bit_for_bit_and_the_classifier_is_left_out(tmp_path: Path) -> None:
    source = timm.create_model("test_resnet", num_classes=7)
    torch.save(source.state_dict(), tmp_path / "w.pth")
    network = build_model("pspnet@test_resnet", 3, in_channels=4, weights=str(tmp_path / "w.pth"))
    state = network.backbone.state_dict()
    assert torch.equal(state["conv1.0.weight"][:, :3], source.state_dict()["conv1.0.weight"])
    assert all(torch.equal(v, source.state_dict()[k]) for k, v in state.items() if k != "conv1.0.weight")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_both_formats_hold_the_same(tmp_path: Path, suffix: str) -> None:
    state = timm.create_model("test_resnet").state_dict()
    path = tmp_path / f"w.{suffix}"
    if suffix == "pth":
        torch.save({"state_dict": state, "epoch": 3}, path)
    else:
        save_file(state, path)
    loaded = build_model("fcn@test_resnet", 3, weights=str(path)).backbone.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in loaded.items())


def test_a_file_without_a_classifier_will_do(tmp_path: Path) -> None:
    state = timm.create_model("test_resnet").state_dict()
    save_file({key: value for key, value in state.items() if not key.startswith("fc.")}, tmp_path / "w.safetensors")
    build_model("fcn@test_resnet", 3, weights=str(tmp_path / "w.safetensors"))


def test_the_network_does_not_carry_the_file_along(tmp_path: Path) -> None:
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "w.pth")
    backbone = build_model("fcn@test_resnet", 3, weights=str(tmp_path / "w.pth")).backbone
    held = [name for name, value in vars(backbone).items() if isinstance(value, dict) and "state_dict" in value]
    assert held == []


def refusal(path: Path, backbone: str = "test_resnet") -> str:
    with pytest.raises(ModelError) as caught:
        build_model(f"fcn@{backbone}", 3, weights=str(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_of_another_backbone_is_refused_with_what_matched(tmp_path: Path) -> None:
    torch.save(timm.create_model("test_efficientnet").state_dict(), tmp_path / "w.pth")
    wanted = [key for key in timm.create_model("test_resnet", num_classes=0).state_dict() if "num_batches" not in key]
    message = refusal(tmp_path / "w.pth")
    assert f"of the {len(wanted)} tensors of 'test_resnet' match" in message
    assert "'conv1.0.weight' is missing" in message


def test_one_tensor_of_another_shape_is_named_with_both(tmp_path: Path) -> None:
    state = timm.create_model("test_resnet").state_dict()
    state["bn1.weight"] = torch.ones(99)
    torch.save(state, tmp_path / "w.pth")
    message = refusal(tmp_path / "w.pth")
    width = state["bn1.bias"].numel()
    assert f"0 are missing and 1 have another shape ('bn1.weight' is (99,), not ({width},))" in message


def test_the_widened_resnets_refuse_an_ordinary_resnets_file(tmp_path: Path) -> None:
    torch.save(timm.create_model("resnet18").state_dict(), tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"'conv1\.0\.weight' is missing"):
        build_model("pspnet_r18", 3, weights=str(tmp_path / "w.pth"))


@pytest.mark.parametrize(("name", "content"), [("junk.pth", b"junk"), ("junk.safetensors", b"junk")])
def test_an_unreadable_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert f"{name}: can't be read as weights" in refusal(tmp_path / name)


def test_a_pickled_network_is_not_executed(tmp_path: Path) -> None:
    torch.save(timm.create_model("test_resnet"), tmp_path / "network.pth")
    assert "network.pth: can't be read as weights" in refusal(tmp_path / "network.pth")
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    assert "list.pth: holds no state dict of tensors" in refusal(tmp_path / "list.pth")


def test_timms_own_weights_without_a_network_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*arguments: object, **options: object) -> None:
        raise OSError("can't reach the hub,\nnor the cache")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", unreachable)
    with pytest.raises(ModelError, match=r"timm can't give weights of 'test_resnet' \(can't reach the hub, nor"):
        build_model("fcn@test_resnet", 3, weights="timm")
    # A backbone that has none anywhere.
    with pytest.raises(ModelError, match=r"timm can't give weights of 'ghostnetv3_050' \(No pretrained weights"):
        build_model("fcn@ghostnetv3_050", 3, weights="timm")


@pytest.mark.skipif(not PRETRAINED.exists(), reason=f"real ImageNet weights are not at {PRETRAINED}")
def test_real_imagenet_weights() -> None:
    network = build_model("pspnet@tf_efficientnet_lite0", 11, weights=str(PRETRAINED), output_stride=16)
    state = load_file(PRETRAINED)
    assert all(torch.equal(value, state[key]) for key, value in network.backbone.state_dict().items())
    assert network.input_mean == (0.5, 0.5, 0.5)
    assert network.input_std == (0.5, 0.5, 0.5)


@pytest.mark.skipif(not PRETRAINED.exists(), reason=f"real ImageNet weights are not at {PRETRAINED}")
def test_a_fourth_channel_leaves_the_real_rgb_weights() -> None:
    stem = build_model("fcn@tf_efficientnet_lite0", 11, in_channels=4, weights=str(PRETRAINED)).backbone.conv_stem
    assert torch.equal(stem.weight[:, :3], load_file(PRETRAINED)["conv_stem.weight"])


def to_csail(key: str) -> str:
    """Deep-stem names of MIT CSAIL, from timm's."""
    for ours, theirs in (
        ("conv1.0.", "conv1."),
        ("conv1.1.", "bn1_."),
        ("conv1.3.", "conv2."),
        ("conv1.4.", "bn2."),
        ("conv1.6.", "conv3."),
        ("bn1.", "bn3."),
    ):
        if key.startswith(ours):
            return key.replace(ours, theirs, 1).replace("bn1_.", "bn1.")
    return key


def to_v1c(key: str) -> str:
    """mmsegmentation's ResNetV1c in a whole network's file, from timm's."""
    if key.startswith("conv1."):
        return "backbone.stem." + key[6:]
    return "backbone.stem.7." + key[4:] if key.startswith("bn1.") else "backbone." + key


@pytest.mark.parametrize("rename", [to_csail, to_v1c, lambda key: "module." + key, lambda key: "backbone." + key])
def test_deep_stem_resnets_in_the_names_of_others(tmp_path: Path, rename: Callable[[str], str]) -> None:
    state = timm.create_model("resnet18", stem_width=64, stem_type="deep", num_classes=0).state_dict()
    file = {rename(key): value for key, value in state.items()}
    assert len(file) == len(state)
    torch.save(file, tmp_path / "w.pth")
    loaded = build_model("pspnet_r18", 3, weights=str(tmp_path / "w.pth")).backbone.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in loaded.items())


def test_torchvisions_resnet_is_timms(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    theirs = torchvision.models.resnet18(weights=None)
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    loaded = build_model("fcn_r18", 3, weights=str(tmp_path / "w.pth")).backbone.state_dict()
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in loaded.items())
    assert "its classifier of 1000 classes is left out" in caplog.text


def test_the_stdc_authors_backbones(tmp_path: Path) -> None:
    """Their names by their code: convolutions with batch norm are conv and bn, the halving one is avd_layer."""
    backbone = STDCBackbone((2, 2, 2))

    def theirs(key: str) -> str:
        key = re.sub(r"\.point\.", ".conv_list.0.", key)
        key = re.sub(r"\.convs\.(\d)\.", lambda match: f".conv_list.{int(match[1]) + 1}.", key)
        key = re.sub(r"\.down\.", ".avd_layer.", key)
        return key if "avd_layer" in key else re.sub(r"\.1\.(?=\w+$)", ".bn.", re.sub(r"\.0\.(?=\w+$)", ".conv.", key))

    file = {theirs(key): value for key, value in backbone.state_dict().items()}
    assert {"features.0.conv.weight", "features.2.avd_layer.1.weight", "features.7.conv_list.3.bn.bias"} <= set(file)
    torch.save({"state_dict": {**file, "fc.weight": torch.ones(9, 9)}}, tmp_path / "w.tar")
    loaded = build_model("stdc1", 3, weights=str(tmp_path / "w.tar")).backbone.state_dict()
    assert all(torch.equal(value, backbone.state_dict()[key]) for key, value in loaded.items())
    with pytest.raises(ModelError, match=r"of the \d+ tensors of this STDC match"):
        build_model("stdc2", 3, weights=str(tmp_path / "w.tar"))


MMSEG = {
    "pspnet@resnet18": {
        "head.features.0.branches.3.0.weight": "decode_head.psp_modules.3.1.conv.weight",
        "head.features.1.1.bias": "decode_head.bottleneck.bn.bias",
        "head.classifier.bias": "decode_head.conv_seg.bias",
        "aux_head.features.0.weight": "auxiliary_head.convs.0.conv.weight",
        "aux_head.classifier.weight": "auxiliary_head.conv_seg.weight",
    },
    "fcn_r18": {
        "head.features.convs.1.0.weight": "decode_head.convs.1.conv.weight",
        "head.features.fuse.1.running_mean": "decode_head.conv_cat.bn.running_mean",
        "head.classifier.weight": "decode_head.conv_seg.weight",
    },
    "ocrnet_w18s": {
        "guess.features.0.weight": "decode_head.0.convs.0.conv.weight",
        "guess.classifier.bias": "decode_head.0.conv_seg.bias",
        "head.features.0.weight": "decode_head.1.bottleneck.conv.weight",
        "head.attention.query.1.0.weight": "decode_head.1.object_context_block.query_project.1.conv.weight",
        "head.attention.value.1.bias": "decode_head.1.object_context_block.value_project.bn.bias",
        "head.attention.out.0.weight": "decode_head.1.object_context_block.out_project.conv.weight",
        "head.mix.0.weight": "decode_head.1.object_context_block.bottleneck.conv.weight",
        "head.classifier.weight": "decode_head.1.conv_seg.weight",
    },
}


@pytest.mark.parametrize("name", MMSEG)
def test_mmsegmentations_heads_by_name(name: str) -> None:
    own = build_model(name, 3).state_dict()
    for ours, theirs in MMSEG[name].items():
        assert ours in own
        sign = {"decode_head.0.conv_seg.weight": own[ours]}
        assert ours in renamed(sign | {theirs: own[ours]})


def test_a_whole_network_of_ours_and_another_number_of_classes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = build_model("pspnet@test_resnet", 5)
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    same = build_model("pspnet@test_resnet", 5, weights=str(tmp_path / "w.safetensors"))
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in same.state_dict().items())
    other = build_model("pspnet@test_resnet", 7, weights=str(tmp_path / "w.safetensors")).state_dict()
    assert "its classifier is for 5 classes, not 7; it is left out" in caplog.text
    classifiers = {key for key, value in other.items() if value.shape != source.state_dict()[key].shape}
    assert classifiers == {f"{head}.classifier.{part}" for head in ("head", "aux_head") for part in ("weight", "bias")}
    assert all(torch.equal(v, source.state_dict()[k]) for k, v in other.items() if k not in classifiers)


@pytest.mark.parametrize(
    ("kind", "classes", "finished"),
    [
        ("whole", 5, True),
        ("delivered", 5, True),
        ("mine", 5, True),
        ("whole", 7, False),
        ("without a head", 5, False),
        ("backbone", 5, False),
        ("none", 5, False),
    ],
)
def test_a_network_is_finished_if_the_file_has_all_that_predicts(
    kind: str, classes: int, finished: bool, tmp_path: Path
) -> None:
    name = "torch.nn:Conv2d" if kind == "mine" else "pspnet@test_resnet"
    args = {"in_channels": 3, "out_channels": 5, "kernel_size": 1} if kind == "mine" else None
    source = build_model(name, 5, args=args)
    state = {key: value.clone() for key, value in source.core.state_dict().items()}
    file = tmp_path / "w.safetensors"
    if kind == "delivered":
        save_student(file, source, {"class_names": list("abcde")})
    elif kind == "without a head":
        save_file({key: value for key, value in state.items() if not key.startswith("head.")}, file)
    elif kind == "backbone":
        save_file({k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")}, file)
    else:
        save_file(state, file)
    network = build_model(name, classes, args=args, weights=None if kind == "none" else str(file))
    assert network.is_finished is finished


def test_what_a_run_delivers_starts_another(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = build_model("dinov2_s14", 3)
    save_student(tmp_path / "student.safetensors", source, {"class_names": list("abc")})
    again = build_model("dinov2_s14", 3, weights=str(tmp_path / "student.safetensors"))
    assert all(
        torch.equal(value, source.state_dict()[k]) for k, value in again.state_dict().items() if "lora_" not in k
    )
    plain = build_model("pspnet@test_resnet", 3)
    save_student(tmp_path / "plain.safetensors", plain, {"class_names": list("abc")})
    build_model("pspnet@test_resnet", 3, weights=str(tmp_path / "plain.safetensors"))
    assert "has nothing for aux_head; this part starts at random" in caplog.text


def test_a_backbone_below_another_head_will_do(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = timm.create_model("test_resnet", num_classes=0).state_dict()
    file = {f"backbone.{key}": value for key, value in state.items()} | {"decoder.weight": torch.ones(2)}
    torch.save(file, tmp_path / "w.pth")
    loaded = build_model("fcn@test_resnet", 3, weights=str(tmp_path / "w.pth")).backbone.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in loaded.items())
    assert "only its backbone is used; its head belongs to another network" in caplog.text


def test_segformers_encoder_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = build_model("segformer_b0", 3).core.state_dict()
    encoder = {key: value for key, value in source.items() if key.startswith("segformer.")}
    save_file(encoder, tmp_path / "w.safetensors")
    loaded = build_model("segformer_b0", 3, weights=str(tmp_path / "w.safetensors")).core.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in encoder.items())
    assert "has nothing for decode_head" in caplog.text


def test_segformer_as_published(tmp_path: Path) -> None:
    """transformers saves under the published names, whatever it calls the parts inside."""
    source = build_model("segformer_b0", 3)
    source.core.save_pretrained(tmp_path)  # type: ignore[operator]
    assert any(key.startswith("segformer.encoder.block.") for key in load_file(tmp_path / "model.safetensors"))
    loaded = build_model("segformer_b0", 3, weights=str(tmp_path / "model.safetensors")).state_dict()
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in loaded.items())


@pytest.mark.parametrize(
    ("name", "backbone"),
    [
        ("dinov2_s14", "vit_small_patch14_dinov2"),
        ("ocrnet_w18s", "hrnet_w18_small_v2"),
        ("fcn@convnext_atto", "convnext_atto"),
        ("fcn@mambaout_femto", "mambaout_femto"),
        ("fcn@mobilenetv3_small_050", "mobilenetv3_small_050"),
    ],
)
def test_every_kind_of_feature_extractor_gets_its_file(tmp_path: Path, name: str, backbone: str) -> None:
    """timm flattens or wraps the names of some; only what makes the maps need be in the file."""

    def plain(key: str) -> str:
        return key.removeprefix("backbone.").removeprefix("model.").replace(".base_layer", "").replace("_", ".")

    source = timm.create_model(backbone).state_dict()
    torch.save(
        {k: v for k, v in source.items() if not k.startswith(("incre_modules", "downsamp", "final", "head"))},
        tmp_path / "w.pth",
    )
    network = build_model(name, 3, weights=str(tmp_path / "w.pth"))
    by_name = {plain(key): value for key, value in source.items()}
    loaded = {plain(key): value for key, value in network.backbone.state_dict().items() if "lora_" not in key}
    assert len(loaded) > 50
    assert all(torch.equal(value, by_name[key]) for key, value in loaded.items())


def to_cirkd(key: str) -> str:
    """CIRKD's names by its code (models/segbase.py, deeplabv3.py, pspnet.py), from ours."""
    stem = {
        "conv1.0": "conv1",
        "conv1.1": "bn1",
        "conv1.3": "conv2",
        "conv1.4": "bn2",
        "conv1.6": "conv3",
        "bn1": "bn3",
    }
    for ours, theirs in stem.items():
        if key.startswith(f"backbone.{ours}."):
            return key.replace(f"backbone.{ours}.", f"pretrained.{theirs}.")
    names = {
        r"^backbone\.": "pretrained.",
        r"^head\.features\.0\.point\.": "head.aspp.b0.",
        r"^head\.features\.0\.image\.0\.": "head.aspp.b4.gap.1.",
        r"^head\.features\.0\.image\.1\.": "head.aspp.b4.gap.2.",
        r"^head\.features\.0\.project\.0\.": "head.aspp.project.",
        r"^head\.features\.1\.": "head.block.",
        r"^aux_head\.features\.": "auxlayer.block.",
        r"^aux_head\.classifier\.": "auxlayer.block.4.",
    }
    for i in range(3):
        names[rf"^head\.features\.0\.dilated\.{i}\."] = f"head.aspp.b{i + 1}.block."
    for i in range(4):
        names[rf"^head\.features\.0\.branches\.{i}\."] = f"head.psp.conv{i + 1}."
    for ours, theirs in names.items():
        key = re.sub(ours, theirs, key)
    return key


def cirkd_state(network: nn.Module, head: str) -> dict[str, Tensor]:
    classifier = "head.block.4." if head == "deeplabv3" else "head.classifier."
    return {to_cirkd(key).replace("head.classifier.", classifier): v for key, v in network.state_dict().items()}


@pytest.mark.parametrize("name", ["deeplabv3_r18", "pspnet_r18", "deeplabv3_r101"])
def test_cirkds_networks_load_and_see_bgr_less_its_mean(name: str, tmp_path: Path) -> None:
    """Fed BGR of 0..255 less the mean, the network of the file gives what ours gives for RGB of 0..1."""
    torch.manual_seed(0)
    theirs = build_model(name, 5).eval()
    file = cirkd_state(theirs, name.partition("_")[0])
    assert {"pretrained.conv1.weight", "pretrained.bn3.running_mean", "pretrained.layer4.1.conv2.weight",
            "head.block.0.weight", "auxlayer.block.4.bias"} <= set(file)  # fmt: skip
    torch.save(file, tmp_path / "cirkd.pth")
    ours = build_model(name, 5, weights=str(tmp_path / "cirkd.pth")).eval()
    assert ours.align_corners
    image = torch.rand(1, 3, 33, 41)
    mean = torch.tensor([104.00698793, 116.66876762, 122.67891434]).view(3, 1, 1)
    normal = (image - torch.tensor(ours.input_mean).view(3, 1, 1)) / torch.tensor(ours.input_std).view(3, 1, 1)
    with torch.no_grad():
        expected = theirs(255 * image.flip(1) - mean).logits
        torch.testing.assert_close(ours(normal).logits, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    loaded = ours.state_dict()
    assert all(torch.equal(v, loaded[k]) for k, v in theirs.state_dict().items() if k != "backbone.conv1.0.weight")


def test_what_cirkds_checkpoint_starts_is_delivered_with_its_input(tmp_path: Path) -> None:
    torch.save(cirkd_state(build_model("pspnet_r18", 3), "pspnet"), tmp_path / "cirkd.pth")
    started = build_model("pspnet_r18", 3, weights=str(tmp_path / "cirkd.pth"))
    save_student(tmp_path / "s.safetensors", started, NAMES)
    delivered, header = load_student(tmp_path / "s.safetensors")
    assert delivered.input_std == pytest.approx((1 / 255,) * 3)
    assert list(header.mean) == pytest.approx(list(delivered.input_mean))


@pytest.mark.parametrize("align_corners", [True, False])
def test_a_delivered_network_brings_its_way_of_upsampling(align_corners: bool, tmp_path: Path) -> None:
    source = build_model("pspnet@test_resnet", 3).upsample_with(align_corners)
    save_student(tmp_path / "s.safetensors", source, NAMES)
    assert build_model("pspnet@test_resnet", 3, weights=str(tmp_path / "s.safetensors")).align_corners is align_corners
    delivered, _ = load_student(tmp_path / "s.safetensors")
    assert delivered.head.features[0].align_corners is align_corners


def test_files_of_networks_that_have_changed_since_are_refused(tmp_path: Path) -> None:
    save_student(tmp_path / "s.safetensors", build_model("fcn_r18", 3), NAMES)
    with safe_open(tmp_path / "s.safetensors", "pt") as file:
        header = json.loads(file.metadata()["ladseg"])
    del header["align_corners"]
    metadata = {"format": "ladseg-student-1", "ladseg": json.dumps(header)}
    save_file(load_file(tmp_path / "s.safetensors"), tmp_path / "old.safetensors", metadata)
    with pytest.raises(ModelError, match="delivered by an older ladseg, whose 'fcn_r18' was not quite the published"):
        load_student(tmp_path / "old.safetensors")


def test_a_network_of_other_code_keeps_its_names(tmp_path: Path) -> None:
    """torchvision's own DeepLabV3 has the names that ours is given in exchange."""
    name, args = "torchvision.models.segmentation:deeplabv3_mobilenet_v3_large", {"weights_backbone": None}
    source = torchvision.models.segmentation.deeplabv3_mobilenet_v3_large(num_classes=3, **args)
    torch.save(source.state_dict(), tmp_path / "w.pth")
    loaded = build_model(name, 3, args=args, weights=str(tmp_path / "w.pth")).core.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in source.state_dict().items())

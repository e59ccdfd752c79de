"""Pretrained backbones: loaded bit for bit, or refused in one line."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from ladseg import build_model
from ladseg.errors import ModelError

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

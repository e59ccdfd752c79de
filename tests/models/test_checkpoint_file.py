"""Checkpoints of other tools: the tensors are found, whatever wraps them, or the refusal says what there is."""

import argparse
import pathlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from ladseg import build_model
from ladseg.errors import ModelError
from ladseg.models.checkpoint_file import read_state

State = dict[str, Tensor]


class Net(nn.Module):
    """A user's network; its attributes have the names that others wrap with."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.head = nn.Conv2d(4, num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.model(image))


class Wrapped(nn.Module):
    """A user's network below one attribute."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.net = Net(num_classes)

    def forward(self, image: Tensor) -> Tensor:
        return self.net(image)


def before(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


def optimizer() -> dict[str, Any]:
    weight = nn.Parameter(torch.ones(3))
    adam = torch.optim.AdamW([weight])
    weight.sum().backward()
    adam.step()
    return adam.state_dict()


WRAPS: dict[str, Callable[[State], Any]] = {
    "alone": lambda s: s,
    "ordered": lambda s: OrderedDict(s),
    "state_dict": lambda s: {"state_dict": s, "epoch": 3},
    "model": lambda s: {"model": s, "optimizer": optimizer(), "epoch": 3},
    "model_state_dict": lambda s: {"epoch": 1, "model_state_dict": s, "optimizer_state_dict": optimizer(), "loss": 0.5},
    "model and its average": lambda s: {"model_ema": {k: v + 1 for k, v in s.items()}, "model": s},
    "one within another": lambda s: {"checkpoint": 1, "model": {"state_dict": s, "name": "net"}},
    "a key of its own": lambda s: {"generator_weights": s, "step": 5},
    "numbers beside": lambda s: {**s, "epoch": 3, "best": 0.7},
    "DataParallel": lambda s: {"state_dict": before("module.", s)},
    "compiled DataParallel": lambda s: before("_orig_mod.module.", s),
    "Lightning": lambda s: {
        "epoch": 3,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": before("net.", s) | {"criterion.weight": torch.ones(3)},
        "optimizer_states": [optimizer()],
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5), "best_model_path": "a.ckpt"}},
        "hyper_parameters": {"lr": 0.1},
    },
    "Lightning's model": lambda s: {"state_dict": before("model.", s), "hyper_parameters": {}},
    "numpy scalars": lambda s: {"state_dict": s, "miou": np.float64(0.7), "epoch": np.int64(3), "best": np.bool_(True)},
    "numpy array": lambda s: {"model": s, "iou": np.arange(3, dtype=np.float32), "names": np.array(["a", "b"])},
    "settings": lambda s: {"model": s, "args": argparse.Namespace(lr=np.float32(0.1), out=pathlib.PosixPath("runs"))},
}


@pytest.mark.parametrize("network", ["Net", "Wrapped"])
@pytest.mark.parametrize("wrap", WRAPS)
def test_a_networks_tensors_are_found(wrap: str, network: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = globals()[network]()
    torch.save(WRAPS[wrap](source.state_dict()), tmp_path / "w.pth")
    torch.manual_seed(1)
    loaded = build_model(f"{__name__}:{network}", 3, weights=str(tmp_path / "w.pth")).core.state_dict()
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in loaded.items())


@pytest.mark.parametrize("wrap", WRAPS)
def test_a_backbones_tensors_are_found(wrap: str, tmp_path: Path) -> None:
    state = timm.create_model("test_resnet").state_dict()
    torch.save(WRAPS[wrap](state), tmp_path / "w.pth")
    loaded = build_model("fcn@test_resnet", 3, weights=str(tmp_path / "w.pth")).backbone.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in loaded.items())


class Settings:
    """A class that a file may name but that is not to be run."""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"G": {"a.weight": torch.ones(1)}, "D": {"b.weight": torch.ones(2)}},
            "'G': a mapping of 1, 'D': a mapping",
        ),
        ({"epoch": 3, "loss": 0.5}, "it holds 'epoch': int, 'loss': float"),
        ({"optimizer": optimizer()}, "it holds 'optimizer': a mapping of 2"),
        ({}, "it holds nothing"),
        ([torch.ones(1)], "holds no state dict of tensors but list"),
        (torch.ones(2), r"holds no state dict of tensors but a tensor \(2,\)"),
        (
            {"state_dict": {"a.weight": torch.ones(1)}, "settings": Settings()},
            r"run code: .*Settings\); save",
        ),
        (Net(), r"objects that would run code: .*Net"),
    ],
)
def test_what_holds_no_tensors_says_what_it_holds(content: Any, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=message) as caught:
        read_state(tmp_path / "w.pth")
    text = str(caught.value)
    assert text.startswith(f"{tmp_path / 'w.pth'}: ")
    assert "\x1b" not in text
    assert "x1b" not in text
    assert "\n" not in text


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04junk", b"\x80\x02}q\x00."])
def test_what_is_no_checkpoint_is_one_line(content: bytes, tmp_path: Path) -> None:
    for suffix in ("pth", "safetensors", "ckpt"):
        (tmp_path / f"w.{suffix}").write_bytes(content)
        with pytest.raises(ModelError, match=rf"w\.{suffix}: ") as caught:
            read_state(tmp_path / f"w.{suffix}")
        assert "x1b" not in str(caught.value)

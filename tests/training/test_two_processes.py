"""Two processes with half a batch each follow one process with the whole."""

import os
import socket
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from timm.layers import SyncBatchNormAct
from torch import nn

from ladseg import adapt
from ladseg.objectives import Plain
from ladseg.training import make_accelerator, one_process_first, wait_patiently
from ladseg.training.resume import synchronised_batch_norm
from ladseg.training.unused import parameters_without_gradient
from tests.training import toy


def start_two(function: object, *args: object) -> None:
    """Run a function in two processes with the environment that torchrun gives them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        toy.start(function, *args, environment={**shared, "RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": "1"})
        for rank in "01"
    ]
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]


def test_training_follows_one_process(tmp_path: Path) -> None:
    """Without batch norm and dropout, which each process has of its own part of the batch."""
    one = toy.start(toy.run, tmp_path / "one", toy.SCHEDULE, 0.0, 0.0, False)
    one.join(60)
    start_two(toy.run, tmp_path / "two", toy.SCHEDULE, 0.0, 0.0, False)
    expected = load_file(tmp_path / "one/toy/weights.safetensors")
    weights = load_file(tmp_path / "two/toy/weights.safetensors")
    start = toy.build(0.0, norm=False).network.state_dict()
    for name, value in expected.items():
        torch.testing.assert_close(weights[name], value, rtol=1e-4, atol=1e-5)
        assert not torch.equal(start[name], value), name


def test_parameters_without_gradient_are_named_and_left_as_they_are(tmp_path: Path) -> None:
    one = toy.start(toy.run, tmp_path / "one", toy.SCHEDULE, 0.0, 0.0, False, True)
    one.join(60)
    start_two(toy.run, tmp_path / "two", toy.SCHEDULE, 0.0, 0.0, False, True)
    expected = load_file(tmp_path / "one/toy/weights.safetensors")
    weights = load_file(tmp_path / "two/toy/weights.safetensors")
    for name, value in expected.items():
        torch.testing.assert_close(weights[name], value, rtol=1e-4, atol=1e-5)
    log = (tmp_path / "two/toy/log.txt").read_text()
    assert "4 parameters get no gradient and stay as they are: network.spare.0.weight" in log
    assert "get no gradient" not in (tmp_path / "one/toy/log.txt").read_text()


def test_parameters_without_gradient_are_found_and_the_objective_stays() -> None:
    objective = toy.build()
    objective.network.spare = nn.Linear(2, 2)
    state = {name: value.clone() for name, value in objective.state_dict().items()}
    found = parameters_without_gradient(objective, toy.batch_of(0), torch.device("cpu"))
    assert found == ["network.spare.weight", "network.spare.bias"]
    assert all(torch.equal(value, state[name]) for name, value in objective.state_dict().items())
    assert all(parameter.grad is None for parameter in objective.parameters())
    # Published: its decoder reads stages 0 to 3 of 5, so ResNet-18's layer3 and layer4 (15 tensors each) get nothing.
    smp = pytest.importorskip("segmentation_models_pytorch")
    pspnet = adapt(smp.PSPNet("resnet18", encoder_weights=None, classes=3))
    found = parameters_without_gradient(Plain(pspnet), toy.batch_of(0) | LARGE, torch.device("cpu"))
    assert {name.split(".")[3] for name in found} == {"layer3", "layer4"}
    assert len(found) == 30


LARGE = {"image": torch.randn(2, 3, 64, 64), "label": torch.zeros(2, 64, 64, dtype=torch.int64)}


def buffers_after_training(folder: Path) -> None:
    """Train with batch norm; every process then writes the buffers that it would measure with."""
    toy.run(folder, toy.SCHEDULE, evaluated=lambda network: save_file(dict(network.named_buffers()), folder / rank()))


def rank() -> str:
    return os.environ["RANK"]


def test_processes_measure_with_the_same_batch_statistics(tmp_path: Path) -> None:
    start_two(buffers_after_training, tmp_path)
    one, two = (load_file(tmp_path / name) for name in "01")
    assert {name.split(".")[-1] for name in one} == {"running_mean", "running_var", "num_batches_tracked"}
    delivered = load_file(tmp_path / "toy/weights.safetensors")
    for name, value in one.items():
        assert torch.equal(value, two[name])
        assert name in delivered


def test_batch_norm_is_given_back_as_it_came() -> None:
    """On GPUs torch's and timm's synchronised ones stand in during training; parameters and buffers are shared."""
    objective = toy.build()
    before = {name: (type(part), id(part)) for name, part in objective.named_modules()}
    state = {name: value.data_ptr() for name, value in objective.state_dict().items()}
    with synchronised_batch_norm(objective):
        assert isinstance(objective.network.norm, nn.SyncBatchNorm)
        assert isinstance(objective.network.norm_act, SyncBatchNormAct)
        assert isinstance(objective.teacher.norm, nn.BatchNorm2d), "a frozen teacher has nothing to synchronise"
        assert {name: value.data_ptr() for name, value in objective.state_dict().items()} == state
    assert {name: (type(part), id(part)) for name, part in objective.named_modules()} == before


def wait_for_a_slow_one(order: Path) -> None:
    """Let the main process work for longer than the backend waits."""
    accelerator = make_accelerator("fp32", order)
    brief = dist.new_group(timeout=timedelta(seconds=0.5))
    with one_process_first(accelerator):
        if accelerator.is_main_process:
            time.sleep(2)
        with order.open("a") as file:
            file.write(f"{accelerator.process_index}")
    if accelerator.is_main_process:
        time.sleep(2)
    wait_patiently(accelerator)
    # A wait of the other kind would have given up: that is what the patient ones are for.
    if not accelerator.is_main_process:
        with pytest.raises(RuntimeError, match=r"[Tt]imed out|timeout|Connection closed"):
            dist.barrier(brief)
    accelerator.end_training()


def test_the_others_wait_for_as_long_as_one_works(tmp_path: Path) -> None:
    start_two(wait_for_a_slow_one, tmp_path / "order")
    assert (tmp_path / "order").read_text() == "01"

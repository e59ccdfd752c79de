"""Two processes with half a batch each follow one process with the whole."""

import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from timm.layers import BatchNormAct2d
from torch import nn

from ladseg import adapt
from ladseg.objectives import Plain
from ladseg.training import convert_sync_batch_norm
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
    one = toy.start(toy.run, tmp_path / "one", toy.SCHEDULE, 0.0)
    one.join(60)
    start_two(toy.run, tmp_path / "two", toy.SCHEDULE, 0.0)
    expected = load_file(tmp_path / "one/toy/weights.safetensors")
    weights = load_file(tmp_path / "two/toy/weights.safetensors")
    start = toy.build(0.0).network.state_dict()
    for name, value in expected.items():
        torch.testing.assert_close(weights[name], value, rtol=1e-4, atol=1e-5)
        assert not torch.equal(start[name], value), name


def test_parameters_without_gradient_are_named_and_left_as_they_are(tmp_path: Path) -> None:
    one = toy.start(toy.run, tmp_path / "one", toy.SCHEDULE, 0.0, 0.0, True)
    one.join(60)
    start_two(toy.run, tmp_path / "two", toy.SCHEDULE, 0.0, 0.0, True)
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


def joint_batch_norm(folder: Path) -> None:
    """One process's half of the comparison below; the halves differ in size, and the mean is far from 0."""
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    generator = torch.Generator().manual_seed(0)
    joint = 100 + torch.randn(8, 4, 3, 5, generator=generator)
    weights = torch.randn(8, 4, 3, 5, generator=generator)
    part = slice(0, 3) if rank == 0 else slice(3, 8)
    for momentum in (0.1, None):
        for make in (nn.BatchNorm2d, BatchNormAct2d):
            reference, subject = make(4, momentum=momentum), make(4, momentum=momentum)
            for norm in (reference, subject):
                nn.init.normal_(norm.weight, generator=torch.Generator().manual_seed(1))
                nn.init.normal_(norm.bias, generator=torch.Generator().manual_seed(2))
            keys = list(subject.state_dict())
            subject = convert_sync_batch_norm(nn.Sequential(subject), "cpu")[0]
            assert list(subject.state_dict()) == keys
            for _ in range(2):
                whole = joint.clone().requires_grad_()
                mine = joint[part].clone().requires_grad_()
                expected, output = reference(whole), subject(mine)
                torch.testing.assert_close(output, expected[part], rtol=1e-4, atol=1e-4)
                (expected * weights).sum().backward()
                (output * weights[part]).sum().backward()
                torch.testing.assert_close(mine.grad, whole.grad[part], rtol=1e-4, atol=1e-4)
            for name in ("weight", "bias"):
                total = getattr(subject, name).grad.clone()
                dist.all_reduce(total)
                torch.testing.assert_close(total, getattr(reference, name).grad, rtol=1e-4, atol=1e-3)
            for name, value in reference.named_buffers():
                torch.testing.assert_close(subject.get_buffer(name), value, rtol=1e-4, atol=1e-5)
            reference.eval()
            subject.eval()
            torch.testing.assert_close(subject(joint), reference(joint))
    dist.destroy_process_group()


def test_batch_norm_equals_one_process(tmp_path: Path) -> None:
    start_two(joint_batch_norm, tmp_path)


def test_batch_norm_of_one_process_is_the_plain_one() -> None:
    norm = nn.BatchNorm2d(3)
    x = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    converted = convert_sync_batch_norm(nn.Sequential(norm), "cpu")
    assert torch.equal(converted(x), nn.BatchNorm2d(3)(x))

"""Training steps and predictions on a device that is not there: torch follows where tensors lie, not what they hold.

    python -m tests.pretended_gpu

runs every case and prints a JSON object of what went wrong in each; null is nothing. What mixes tensors of host and
device goes wrong, and so does what has the host wait for the device. It is a process of its own, as the device changes
torch for good.
"""

import json
from collections.abc import Callable

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import backend_registration

from ladseg.bench.setting import DEFAULT_NETWORKS, Setting
from ladseg.comparison.costs import trainings_of
from ladseg.comparison.methods import RIVALS, classic_teacher, make_method
from ladseg.evaluation import Inference, class_ids
from ladseg.measure.step_costs import sample_batch
from ladseg.models import build_model
from ladseg.objectives import student, teacher
from ladseg.runs.trainings import Training
from ladseg.training import to_device

Case = Callable[[torch.device], object]
# torch gives this name to a kind of device that is written in Python.
KIND = "pretended"
CLASSES, SIZE, IMAGES = 19, (64, 96), 2
SMALL, CLASSIC = "pspnet@test_resnet", "fcn@test_resnet"
TRAININGS = ("plain", "teacher", "student")
PREDICTIONS = {
    "whole": Inference(),
    "windows": Inference(window=(48, 48)),
    "scales": Inference(scales=(0.5, 1.0, 2.0), flip=True),
}


def pretend() -> torch.device:
    """The device, known to torch and to its autocast."""
    backend_registration._setup_privateuseone_for_python_backend(KIND)
    getattr(torch, KIND).get_amp_supported_dtype = lambda: [torch.bfloat16]
    torch.set_autocast_dtype(KIND, torch.bfloat16)
    # It has no generators: noise comes from the global one.
    for module in (student, teacher):
        module.noise_generators = lambda batch, path: [None] * len(batch["label"])  # type: ignore[attr-defined]
    return torch.device(KIND, 0)


def move(module: nn.Module, device: torch.device) -> None:
    """What ``module.to`` moves; it can't be used between a real device and a pretended one."""
    for part in module.modules():
        for held in (part._parameters, part._buffers):
            for name, value in held.items():
                if value is not None:
                    moved = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=device)
                    held[name] = nn.Parameter(moved, value.requires_grad) if isinstance(value, nn.Parameter) else moved


def step(training: Training, device: torch.device) -> None:
    """Loss and gradients of a batch, all on the device."""
    objective, batch = training.objective.train(), sample_batch(IMAGES, SIZE, CLASSES)
    with FakeTensorMode():
        move(objective, device)
        # The seeds stay on the host.
        pixels = {name: torch.empty(value.shape, dtype=value.dtype) for name, value in batch.items() if value.ndim > 1}
        terms = objective(to_device(pixels, device))
        terms["loss"].backward()
    trained = {name: weight.grad for name, weight in objective.named_parameters() if weight.requires_grad}
    places = {name: value.device for name, value in (terms | trained).items() if value is not None}
    elsewhere = [name for name, place in places.items() if place != device]
    assert not elsewhere, f"not on the device: {elsewhere}"
    assert any(value is not None for value in trained.values()), "nothing has a gradient"


def of_network(name: str, training: str) -> Case:
    def run(device: torch.device) -> None:
        setting = Setting(torch.device("cpu"), (name,), SIZE, IMAGES, CLASSES)
        step(setting.trainings(name)[training], device)

    return run


def of_method(word: str, key: str = "student") -> Case:
    def run(device: torch.device) -> None:
        base = Setting(torch.device("cpu"), (SMALL,), SIZE, IMAGES, CLASSES).recipe(SMALL)
        recipe = make_method(base, word, classic_teacher(base, CLASSIC)).recipe
        step(next(training for training in trainings_of(recipe, CLASSES) if training.key == key), device)

    return run


def of_prediction(how: Inference) -> Case:
    def run(device: torch.device) -> None:
        network = build_model(SMALL, CLASSES).eval()
        with FakeTensorMode():
            move(network, device)
            image = torch.empty(1, 3, *SIZE, device=device)
            ids = class_ids(lambda part: network(part).logits, image, how)
        assert ids.device == device
        assert ids.shape == (1, *SIZE)

    return run


def mixed(device: torch.device) -> None:
    with FakeTensorMode():
        torch.ones(2, device=device) + torch.ones(2)


def waited_for(device: torch.device) -> None:
    with FakeTensorMode():
        torch.ones(2, device=device).sum().item()


# The cases themselves are tried too: these must go wrong.
WRONG: dict[str, Case] = {"wrong/mixed": mixed, "wrong/waited for": waited_for}
CASES: dict[str, Case] = {
    **{f"{name}/{key}": of_network(name, key) for name in (SMALL, *DEFAULT_NETWORKS) for key in TRAININGS},
    **{f"method/{word}": of_method(word) for word in RIVALS},
    "method/maskd first": of_method("maskd", key="first-stage"),
    **{f"prediction/{name}": of_prediction(how) for name, how in PREDICTIONS.items()},
    **WRONG,
}


def fault(case: Case, device: torch.device) -> str | None:
    try:
        case(device)
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return None


if __name__ == "__main__":
    there = pretend()
    print(json.dumps({name: fault(case, there) for name, case in CASES.items()}, indent=2))

"""Measure the images per second of prediction and of the network's forward pass alone."""

import statistics
from typing import Any

import torch
from torch import Tensor

from ladseg.bench.setting import Setting
from ladseg.evaluation import by_argmax, class_ids
from ladseg.evaluation.evaluate import evaluate
from ladseg.measure.peak_memory import added_by
from ladseg.measure.step_costs import sample_batch
from ladseg.measure.timing import in_turns, ratio
from ladseg.models import build_model
from ladseg.resize import resize_logits

CLASSES = (19, 150, 171)


def bench_inference(setting: Setting) -> list[dict[str, Any]]:
    """Measure the first network's prediction of one image, from normalised image to class ids.

    Returns:
        Rows of ``classes``; images per second of the ``forward`` pass alone, of ``predict``, which returns a class for
        every pixel, and of ``eval``, which also updates the confusion matrix; ``ratio`` and ``eval_ratio`` of their
        times to the forward pass's; ``upsampled``, the ratio if all logits are upsampled at once; and the bytes that
        both ways need in addition to the logits, ``memory`` and ``upsampled_memory``.
    """
    image = torch.randn(1, 3, *setting.size, device=setting.device).contiguous(memory_format=torch.channels_last)
    return [_row(setting, image, classes) for classes in CLASSES]


@torch.inference_mode()
def _row(setting: Setting, image: Tensor, classes: int) -> dict[str, Any]:
    network = build_model(setting.networks[0], classes, aux=False, merged=True).eval()
    network.to(setting.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward() -> Tensor:
        logits: Tensor = network(image).logits
        return logits

    logits = forward()
    label = sample_batch(1, setting.size, classes)["label"].to(setting.device)
    labelled = [{"image": image, "label": label, "index": torch.tensor([0])}]
    runs = {
        "forward": forward,
        "predict": lambda: class_ids(lambda _: forward(), image),
        "eval": lambda: evaluate(by_argmax(lambda _: forward()), labelled, classes, setting.device),
        "upsampled": lambda: _upsampled(forward(), setting.size),
    }
    seconds = in_turns(runs, setting.device, patience=15.0)
    return {
        "classes": classes,
        "forward": 1 / statistics.median(seconds["forward"]),
        "predict": 1 / statistics.median(seconds["predict"]),
        "eval": 1 / statistics.median(seconds["eval"]),
        "ratio": ratio(seconds["predict"], seconds["forward"]),
        "eval_ratio": ratio(seconds["eval"], seconds["forward"]),
        "upsampled": ratio(seconds["upsampled"], seconds["forward"]),
        "memory": added_by(lambda: class_ids(lambda _: logits, image), setting.device),
        "upsampled_memory": added_by(lambda: _upsampled(logits, setting.size), setting.device),
    }


def _upsampled(logits: Tensor, size: tuple[int, int]) -> Tensor:
    return resize_logits(logits, size).argmax(1).to(torch.uint8)

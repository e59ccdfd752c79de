"""Compare an exported file with the network in torch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ladseg.errors import ModelError, first_words
from ladseg.models import Segmenter
from ladseg.resize import resize_logits

# Allowed difference relative to the logits' range. Rounding gives about 1e-6, a wrong operation more than 1e-2.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Measured:
    """The differences between a file and the network in torch, on one batch of random images.

    Attributes:
        shape: Batch, channels, height and width.
        difference: The largest difference of the logits, as a share of their range. For class ids, the largest share
            by which the logit in torch of the class that the file chose is below the best one.
        pixels: Share of pixels whose class differs.
    """

    shape: tuple[int, int, int, int]
    difference: float
    pixels: float

    def __str__(self) -> str:
        return (
            f"{' x '.join(map(str, self.shape))}: largest difference {self.difference:.1e} of the logits' range, "
            f"class differs at {self.pixels:.4%} of pixels"
        )


def open_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    """Open an ONNX file as a function from image to output, which onnxruntime runs on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda image: torch.from_numpy(session.run(None, {"image": image.numpy()})[0])


def open_openvino(path: Path) -> Callable[[Tensor], Tensor]:
    """Open an OpenVINO graph as a function from image to output, run on the CPU."""
    import openvino

    core = openvino.Core()
    return run_openvino(core, core.read_model(path))


def run_openvino(core: Any, model: Any, threads: int | None = None) -> Callable[[Tensor], Tensor]:
    """Compile an OpenVINO model for the CPU in float32; ``threads`` None leaves the choice to it."""
    # By default it computes in bfloat16 where the processor supports it.
    options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
    if threads is not None:
        options["INFERENCE_NUM_THREADS"] = threads
    compiled = core.compile_model(model, "CPU", options)
    return lambda image: torch.from_numpy(compiled({"image": image.numpy()})[0])


def open_program(path: Path) -> Callable[[Tensor], Tensor]:
    """Open a ``torch.export`` file as a function from image to output."""
    program: Callable[[Tensor], Tensor] = torch.export.load(path).module()
    return program


@torch.no_grad()
def compare(
    opened: Callable[[Tensor], Tensor],
    network: Segmenter,
    normalize: bool,
    argmax: bool,
    shapes: list[tuple[int, int, int]],
) -> list[Measured]:
    """Run both on random images of each shape.

    Args:
        opened: The file.
        network: The network, in eval mode.
        normalize: Whether the file takes RGB in 0..1.
        argmax: Whether it returns class ids.
        shapes: Batch, height and width of each comparison.

    Raises:
        ModelError: The file fails, or the two differ by more than :data:`TOLERANCE`.
    """
    generator = torch.Generator().manual_seed(0)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (network.input_mean, network.input_std))
    measured = []
    for batch, height, width in shapes:
        rgb = torch.rand(batch, len(mean), height, width, generator=generator)
        normalized = (rgb - mean) / std
        output = network(normalized)
        expected = resize_logits(output.logits, (height, width), output.align_corners)
        try:
            given = opened(rgb if normalize else normalized)
        except Exception as error:  # the runtimes have their own exceptions
            raise ModelError(
                f"the exported file of '{network.name}' fails on {batch} x {len(mean)} x {height} x {width} and was "
                f"not kept: {first_words(error)}"
            ) from error
        result = _measure((batch, len(mean), height, width), given, expected, argmax)
        # This form of the comparison counts NaN as a disagreement.
        if not result.difference <= TOLERANCE:
            raise ModelError(
                f"the exported file disagrees with '{network.name}' in torch and was not kept: {result}, "
                f"allowed are {TOLERANCE:.0e}"
            )
        measured.append(result)
    return measured


def _measure(shape: tuple[int, int, int, int], given: Tensor, expected: Tensor, argmax: bool) -> Measured:
    wanted = (expected.shape[0], *expected.shape[2:]) if argmax else expected.shape
    if given.shape != wanted:
        raise ModelError(f"the exported file gives {tuple(given.shape)} where torch gives {tuple(wanted)}")
    best, classes = expected.max(dim=1)
    chosen = given.long() if argmax else given.argmax(dim=1)
    differences = best - expected.gather(1, chosen.unsqueeze(1)).squeeze(1) if argmax else (given - expected).abs()
    # The minimum avoids a division by zero if all logits are equal.
    scale = (expected.max() - expected.min()).clamp(min=torch.finfo(expected.dtype).tiny)
    return Measured(shape, float(differences.max() / scale), float((chosen != classes).float().mean()))

"""Compare an exported file with the network in torch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ladseg.errors import ModelError, first_words
from ladseg.models import Segmenter
from ladseg.resize import resize_logits

# Of the logits' range. Sums in another order differ by about 1e-6 of it, a wrong operation by more than 1e-2.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Measured:
    """The differences between a file and the network in torch, on one batch of random images.

    Attributes:
        shape: Batch, height and width.
        difference: The largest of the logits', as a share of their range. For class ids: the largest share by which
            another class's logit in torch is below that of the best, where the file chose that other class.
        pixels: Share of pixels whose class differs.
    """

    shape: tuple[int, int, int]
    difference: float
    pixels: float

    def __str__(self) -> str:
        batch, height, width = self.shape
        return (
            f"{batch} x 3 x {height} x {width}: largest difference {self.difference:.1e} of the logits' range, "
            f"class differs at {self.pixels:.4%} of pixels"
        )


def open_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    """Open an ONNX file as a function from image to output, run by onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda image: torch.from_numpy(session.run(None, {"image": image.numpy()})[0])


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
        network: In eval mode.
        normalize: Whether the file takes RGB in 0..1.
        argmax: Whether it gives class ids.
        shapes: Batch, height and width of each.

    Raises:
        ModelError: The file fails, or they differ by more than :data:`TOLERANCE`.
    """
    generator = torch.Generator().manual_seed(0)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (network.input_mean, network.input_std))
    measured = []
    for batch, height, width in shapes:
        rgb = torch.rand(batch, 3, height, width, generator=generator)
        normalized = (rgb - mean) / std
        output = network(normalized)
        expected = resize_logits(output.logits, (height, width), output.align_corners)
        try:
            given = opened(rgb if normalize else normalized)
        except Exception as error:  # of onnxruntime, which has its own kinds
            raise ModelError(
                f"the exported file of '{network.name}' fails on {batch} x 3 x {height} x {width} and was not kept: "
                f"{first_words(error)}"
            ) from error
        result = _measure((batch, height, width), given, expected, argmax)
        # Written so that NaN counts as a disagreement.
        if not result.difference <= TOLERANCE:
            raise ModelError(
                f"the exported file disagrees with '{network.name}' in torch and was not kept: {result}, "
                f"allowed are {TOLERANCE:.0e}"
            )
        measured.append(result)
    return measured


def _measure(shape: tuple[int, int, int], given: Tensor, expected: Tensor, argmax: bool) -> Measured:
    wanted = (expected.shape[0], *expected.shape[2:]) if argmax else expected.shape
    if given.shape != wanted:
        raise ModelError(f"the exported file gives {tuple(given.shape)} where torch gives {tuple(wanted)}")
    best, classes = expected.max(dim=1)
    chosen = given.long() if argmax else given.argmax(dim=1)
    differences = best - expected.gather(1, chosen.unsqueeze(1)).squeeze(1) if argmax else (given - expected).abs()
    # A network of one class has a range of its own, too, unless its logits are all equal.
    scale = (expected.max() - expected.min()).clamp(min=torch.finfo(expected.dtype).tiny)
    return Measured(shape, float(differences.max() / scale), float((chosen != classes).float().mean()))

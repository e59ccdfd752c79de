"""Trace a network into one graph of operations that is valid for a range of image sizes."""

import inspect
import math
import operator
import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram

from ladseg.deploy.pooling import AverageBins
from ladseg.deploy.same_padding import plain_sizes
from ladseg.errors import ModelError, first_words
from ladseg.models import Segmenter
from ladseg.models.segmenter import shown

LabelType = Literal["int64", "int32"]
LARGEST = 16384
MAX_BATCH = 1024
# Conditions on sizes that torch can't prove become assertions in the graph, which _hold checks. Older torch has no such
# option and refuses, so that some networks are then exported for multiples of 32 only.
ASSERT = "prefer_deferred_runtime_asserts_over_guards"
OPTIONS: dict[str, Any] = {ASSERT: True} if ASSERT in inspect.signature(torch.export.export).parameters else {}


@dataclass(frozen=True)
class Sizes:
    """The heights and widths that a file takes: multiples of ``multiple`` from ``smallest`` on."""

    multiple: int
    smallest: int

    def __str__(self) -> str:
        kind = f"multiples of {self.multiple}" if self.multiple > 1 else "any"
        return f"{kind} from {self.smallest} to {LARGEST}"

    def side(self, more: int) -> int:
        """Return the first allowed side of at least ``smallest + more``."""
        return -(-(self.smallest + more) // self.multiple) * self.multiple

    def dim(self, name: str) -> Any:
        """Return the range as a dimension of ``torch.export``."""
        first, last = self.smallest // self.multiple, LARGEST // self.multiple
        if self.multiple == 1:
            return Dim(name, min=first, max=last)
        return self.multiple * Dim(f"_{name}", min=first, max=last)

    def take(self, height: int, width: int) -> bool:
        """Return whether an image of this size is legal."""
        return all(self.smallest <= side <= LARGEST and side % self.multiple == 0 for side in (height, width))

    def shapes(self) -> list[tuple[int, int, int]]:
        """Return batch, height and width of images to compare on: the smallest sides, and odd ones if allowed."""
        side = self.side
        return [(1, side(0), side(32)), (2, side(33), side(67)), (1, side(71), side(1))]


@dataclass(frozen=True)
class FixedSize:
    """The one height and width that a file takes, one image at a time."""

    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.height}x{self.width} only"

    def take(self, height: int, width: int) -> bool:
        """Return whether an image of this size is legal."""
        return (height, width) == (self.height, self.width)

    def shapes(self) -> list[tuple[int, int, int]]:
        """Return batch, height and width of the images to compare on."""
        return [(1, self.height, self.width)]


def read_sizes(text: str) -> Sizes | FixedSize | None:
    """Parse the text of :class:`Sizes` or :class:`FixedSize` from a file's metadata; None for other text."""
    if match := re.fullmatch(r"(\d+)x(\d+) only", text):
        return FixedSize(int(match[1]), int(match[2]))
    if match := re.fullmatch(rf"(?:any|multiples of (\d+)) from (\d+) to {LARGEST}", text):
        return Sizes(int(match[1] or 1), int(match[2]))
    return None


# The ranges to try in order. A small image may shrink to maps of one position, which torch treats as a special case; a
# network that pads conditionally is a single program only for multiples of the size to which it pads.
ATTEMPTS = (Sizes(1, 64), Sizes(1, 256), Sizes(32, 64), Sizes(32, 256))


class Deployed(nn.Module):
    """A network with optional normalisation before it, and upsampling and optional argmax after it.

    Args:
        network: The network, in eval mode.
        normalize: Whether images are RGB in 0..1; otherwise they are normalised already.
        argmax: Whether to return class ids; otherwise logits.
        label_type: Type of the class ids.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: Segmenter, normalize: bool, argmax: bool, label_type: LabelType = "int64") -> None:
        super().__init__()
        self.network = network
        self.normalize = normalize
        self.argmax = argmax
        self.label_type = getattr(torch, label_type)
        self.register_buffer("mean", torch.tensor(network.input_mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(network.input_std).view(-1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Map an image ``(N, 3, H, W)`` to logits ``(N, C, H, W)`` or class ids ``(N, H, W)``."""
        x = (image - self.mean) / self.std if self.normalize else image
        # resize_logits branches on whether the size is reached already, which would fix the file to one case.
        align_corners = self.network.align_corners
        logits = F.interpolate(self._logits(x), size=image.shape[-2:], mode="bilinear", align_corners=align_corners)
        return logits.argmax(dim=1).to(self.label_type) if self.argmax else logits

    def _logits(self, image: Tensor) -> Tensor:
        """Compute the logits of ``network(image)``, padding and cropping unconditionally to avoid traced branches."""
        divisor = self.network.size_divisor
        if divisor == 1:
            return self.network(image).logits
        size = image.shape[-2:]
        padded = [(side + divisor - 1) // divisor * divisor for side in size]
        logits = self.network.segment(F.pad(image, (0, padded[1] - size[1], 0, padded[0] - size[0]))).logits
        for dim, side, whole in zip((2, 3), size, padded, strict=True):
            # A slice is a view, for whose memory layout torch would assert one case.
            kept = torch.arange(shown(side, logits.shape[dim], whole), device=image.device)
            logits = logits.index_select(dim, kept)
        return logits


def trace_fixed(deployed: Deployed, for_onnx: bool, size: FixedSize) -> ExportedProgram:
    """Trace the network for one image of one size.

    Raises:
        ModelError: It can't be traced, or does not take this size.
    """
    image = torch.zeros(1, len(deployed.mean), size.height, size.width)
    try:
        with torch.no_grad(), plain_sizes(deployed), AverageBins() if for_onnx else nullcontext():
            return torch.export.export(deployed, (image,), strict=False)
    except Exception as error:  # torch and users' networks raise many kinds of exceptions
        raise ModelError(
            f"'{deployed.network.name}' can't be exported for {size.height}x{size.width}: {first_words(error)}"
        ) from error


def trace(deployed: Deployed, for_onnx: bool) -> tuple[ExportedProgram, Sizes]:
    """Trace the network for the first range of sizes in ``ATTEMPTS`` that works.

    Raises:
        ModelError: No range works.
    """
    failures: list[Exception] = []
    for sizes in ATTEMPTS:
        try:
            with torch.no_grad(), plain_sizes(deployed), AverageBins() if for_onnx else nullcontext():
                program = torch.export.export(
                    deployed,
                    # Two unequal sides that are, if allowed, no multiples of a stride, to avoid special cases of sizes.
                    (torch.zeros(2, len(deployed.mean), sizes.side(45), sizes.side(93)),),
                    dynamic_shapes={
                        "image": {0: Dim("batch", min=1, max=MAX_BATCH), 2: sizes.dim("height"), 3: sizes.dim("width")}
                    },
                    strict=False,
                    **OPTIONS,
                )
            _hold(program, sizes, len(deployed.mean))
            _without_ceil(program)
            return program, sizes
        except Exception as error:  # torch and users' networks raise many kinds of exceptions
            failures.append(error)
    raise ModelError(
        f"'{deployed.network.name}' can't be exported for images of any size, nor for multiples of 32: "
        f"{first_words(failures[0])}"
    ) from failures[0]


def _hold(program: ExportedProgram, sizes: Sizes, channels: int) -> None:
    """Check that the graph's assumptions about sizes hold over the whole range, because ONNX drops them.

    Raises:
        RuntimeError: An assumption does not hold.
    """
    assumptions = _assumptions(program)
    if assumptions is None:
        return
    end = LARGEST - sizes.smallest + 1
    sides = [sizes.side(more) for more in (*range(0, 512 * sizes.multiple, sizes.multiple), *range(0, end, 97))]
    for step, height in enumerate(sides):
        for width in (height, sides[7 * step % len(sides)]):
            if max(height, width) <= LARGEST:
                assumptions(torch.empty(1 + step % 3, channels, height, width, device="meta"))


def _assumptions(program: ExportedProgram) -> Callable[[Tensor], object] | None:
    """Extract the part of the graph that holds assertions about the image's sizes; None if there is none."""
    nodes = list(program.graph.nodes)
    wanted = {node for node in nodes if node.target is torch.ops.aten._assert_scalar.default}
    if not wanted:
        return None
    for node in reversed(nodes):
        if node in wanted:
            wanted.update(node.all_input_nodes)
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in nodes:
        if node in wanted:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(())
    return fx.GraphModule({}, graph)


def _without_ceil(program: ExportedProgram) -> None:
    """Replace ``math.ceil(a / b)``, which torch traces but can't save, by ``(a + b - 1) // b``, in place."""
    graph = program.graph
    for node in list(graph.nodes):
        quotient = node.args[0] if node.target is math.ceil else None
        if not isinstance(quotient, fx.Node) or quotient.target is not operator.truediv:
            continue
        a, b = quotient.args
        if not (isinstance(a, fx.Node) and isinstance(b, int)):
            continue
        with graph.inserting_before(node):
            raised = graph.call_function(operator.add, (a, b - 1))
            whole = graph.call_function(operator.floordiv, (raised, b))
        raised.meta["val"], whole.meta["val"] = a.meta["val"] + b - 1, node.meta["val"]
        node.replace_all_uses_with(whole)
        graph.erase_node(node)
    program.graph_module.recompile()

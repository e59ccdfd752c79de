"""Write the sizes in an ONNX graph so that shape inference by formula follows, such as onnxruntime's own.

Torch simplifies the size of a map to a formula of the image's, for example ``(H - 1) // 32 + 1``. Inference goes
through the strides one by one, and gives up where two maps meet whose sizes it can't show to be equal.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

# Operations that are told their result's size, and which input tells it.
SIZED = {"Resize": 3, "Reshape": 1}
# Pooling that may end beyond the edge, where its output's size is rounded up.
POOLS = ("AveragePool", "MaxPool")


def inferable_sizes(model: Any) -> None:
    """Take a map's new size from another map instead of a formula, and pad pooling instead of rounding up, in place.

    Args:
        model: An ``onnxscript.ir.Model``.
    """
    from onnxscript.optimizer import remove_unused_nodes

    first: dict[tuple[str, ...], Any] = {}
    for node in list(model.graph):
        if node.op_type in SIZED:
            _take_size(node, first)
        elif node.op_type in POOLS:
            _pad_instead_of_ceil(node)
        for value in (*node.inputs, *node.outputs):
            if value is not None and (size := _size(value)):
                first.setdefault(size, value)
    remove_unused_nodes(model)


def name_sides(model: Any) -> None:
    """Rename the image's open sides, in all shapes of the graph, to batch, height and width, in place."""
    from onnxscript import ir

    (image,) = model.graph.inputs
    names = dict(zip(_texts(image.shape), ("batch", "", "height", "width"), strict=True))
    for value in (image, *(output for node in model.graph for output in node.outputs)):
        if value.shape is not None:
            value.shape = ir.Shape([side if isinstance(side, int) else _renamed(side, names) for side in value.shape])


def _renamed(side: Any, names: Mapping[str, str]) -> str | None:
    return side.value and re.sub(r"[a-z]\w*", lambda word: names.get(word[0], word[0]), side.value)


def _texts(sides: Iterable[Any]) -> tuple[str, ...]:
    """Return sides as text; nothing if one is unknown."""
    texts = tuple(str(side) if isinstance(side, int) else side.value for side in sides)
    return () if None in texts else texts


def _size(value: Any) -> tuple[str, ...]:
    """Return height and width of a map, as text, if they are known and depend on the image's; else nothing."""
    if value.shape is None or len(value.shape) != 4 or all(isinstance(side, int) for side in value.shape[2:]):
        return ()
    return _texts(value.shape[2:])


def _take_size(node: Any, first: Mapping[tuple[str, ...], Any]) -> None:
    """Let a node that keeps batch and channels take height and width from the first map that has them, if any has."""
    from onnxscript import ir

    (given, *_), (result,), index = node.inputs, node.outputs, SIZED[node.op_type]
    like = first.get(_size(result))
    if like is None or index >= len(node.inputs) or given.shape is None:
        return
    kept = _texts(given.shape[:2])
    if not kept or kept != _texts(result.shape[:2]):
        return

    def sides(value: Any, start: int, end: int) -> Any:
        shape = ir.node("Shape", [value], {"start": start, "end": end})
        node.prepend(shape)
        return shape.outputs[0]

    size = ir.node("Concat", [sides(given, 0, 2), sides(like, 2, 4)], {"axis": 0})
    node.prepend(size)
    node.replace_input_with(index, size.outputs[0])


def _pad_instead_of_ceil(node: Any) -> None:
    """Give ``ceil((H - k) / s) + 1`` positions as ``floor((H + s - 1 - k) / s) + 1``; padding does not count."""
    from onnxscript import ir

    given = {name: attribute.value for name, attribute in node.attributes.items()}
    kernel = given["kernel_shape"]
    strides = given.get("strides", [1] * len(kernel))
    gaps = any(stride > side for stride, side in zip(strides, kernel, strict=True))
    # With padding, or with gaps between windows, torch drops a last window that begins beyond the map.
    if not given.get("ceil_mode") or any(given.get("pads", ())) or gaps:
        return
    node.attributes["ceil_mode"] = ir.AttrInt64("ceil_mode", 0)
    node.attributes["pads"] = ir.AttrInt64s("pads", [0] * len(kernel) + [stride - 1 for stride in strides])
    if node.op_type == "AveragePool":
        node.attributes["count_include_pad"] = ir.AttrInt64("count_include_pad", 0)

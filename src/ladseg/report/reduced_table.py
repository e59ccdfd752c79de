"""The change in accuracy, size and speed by an export in int8 or float16, as tables."""

from collections.abc import Mapping

from ladseg.report.sheet import Sheet

# mIoU in 0..1, bytes, and seconds per image.
Figures = tuple[float, int, float]


def reduced_sheet(kind: str, before: Figures, after: Figures) -> Sheet:
    """Return a table of mIoU, size and time in float32 and in the smaller format.

    Args:
        kind: ``int8`` or ``fp16``.
        before: Figures of the float32 file.
        after: Figures of the smaller file.
    """
    rows = [
        ["mIoU %", f"{100 * before[0]:.2f}", f"{100 * after[0]:.2f}", f"{100 * (after[0] - before[0]):+.2f} points"],
        ["size MB", f"{before[1] / 1e6:.2f}", f"{after[1] / 1e6:.2f}", f"{after[1] / before[1]:.2f} times"],
        ["ms per image", f"{1e3 * before[2]:.1f}", f"{1e3 * after[2]:.1f}", f"{after[2] / before[2]:.2f} times"],
    ]
    return Sheet("Validation images, onnxruntime on one thread of this machine", ["", "float32", kind, "change"], rows)


def left_out_sheet(left_out: Mapping[str, float], layers: int) -> Sheet:
    """Return a table of the layers that stay in floating point.

    Args:
        left_out: How much quantising each layer alone changes the output, by the layer's name.
        layers: Number of layers with weights.
    """
    rows = [[layer, f"{change:.2g}"] for layer, change in left_out.items()]
    title = f"{len(left_out)} of {layers} layers stay in floating point"
    return Sheet(title, ["layer", "change of the output if quantised alone"], rows)

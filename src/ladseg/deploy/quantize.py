"""Make an exported ONNX file smaller and faster, by static quantisation to int8 or by conversion to float16.

onnxruntime changes the files; this module decides which layers to leave out.
"""

import inspect
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ladseg.errors import ModelError, first_words

# Operations to quantise. Normalisation, upsampling and argmax, before and after the network, stay in floating point,
# because rounded logits move the boundaries between classes. Relu and Clip are merged into the layer before them.
OPERATIONS = ("Conv", "Gemm", "MatMul", "Add", "Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool", "Concat")
# Operations with weights, which are the layers that a search may leave out.
LAYERS = ("Conv", "Gemm", "MatMul")
# Number of images on which each layer's sensitivity is measured.
PROBED = 4

# A function that iterates anew over images (1, 3, H, W) float32 in the form that the file takes.
Images = Callable[[], Iterator[np.ndarray]]


class Int8Quantizer:
    """Quantises one ONNX file, per channel, in the QDQ form, except any layers that are left out.

    Args:
        source: A file of :func:`ladseg.deploy.export.export_student`.
        folder: Where to write intermediate files.
        images: Training images, from which the ranges of activations are taken.

    Attributes:
        layers: Names of the layers that can be quantised (of their weights), in the graph's order.

    Raises:
        ModelError: onnxruntime can't prepare the file.
    """

    def __init__(self, source: Path, folder: Path, images: Images) -> None:
        import onnx
        from onnxruntime.quantization.shape_inference import quant_pre_process

        self._images, self._folder = images, folder
        self._prepared = folder / "prepared.onnx"
        try:
            # Convolutions don't need symbolic shapes, and sympy may fail on the rounding in a user's network.
            with _quiet():
                quant_pre_process(str(source), str(self._prepared), skip_symbolic_shape=True)
        except Exception as error:  # onnxruntime has its own exceptions
            raise ModelError(f"{source}: onnxruntime can't prepare it for int8 ({first_words(error)})") from error
        self._metadata = {entry.key: entry.value for entry in onnx.load(source).metadata_props}
        graph = onnx.load(self._prepared).graph
        constants = {constant.name for constant in graph.initializer}
        self._nodes = {
            node.input[1]: node.name
            for node in graph.node
            if node.op_type in LAYERS and constants.intersection(node.input[1:2])
        }
        self.layers = list(self._nodes)

    def write(self, path: Path, left_out: list[str]) -> None:
        """Write the quantised file, whose metadata names the layers that stay in floating point.

        Args:
            path: The file.
            left_out: Names of the layers that stay in floating point.
        """
        self._quantize(path, {"nodes_to_exclude": [self._nodes[layer] for layer in left_out]})
        set_metadata(path, self._metadata | {"precision": json.dumps("int8"), "float_layers": json.dumps(left_out)})

    def sensitivities(self) -> dict[str, float]:
        """Return how much quantising each layer alone changes the output, the most sensitive layer first.

        The change is the squared difference of the logits relative to their square or, for a file that returns class
        ids, the share of pixels whose class changes; both are means over a few images.
        """
        images = list(islice(self._images(), PROBED))
        wanted = _outputs(self._prepared, images)
        alone = self._folder / "alone.onnx"
        found = {}
        for layer in self.layers:
            self._quantize(alone, {"nodes_to_quantize": [self._nodes[layer]]})
            given = _outputs(alone, images)
            found[layer] = float(np.mean([_change(*pair) for pair in zip(wanted, given, strict=True)]))
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def _quantize(self, path: Path, nodes: dict[str, Any]) -> None:
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

        # Products of two activations, as in attention and in pooling by size-dependent matrices, are not quantised.
        options: dict[str, Any] = {"extra_options": {"MatMulConstBOnly": True}}
        # Older versions of onnxruntime have no cache and measure the ranges each time.
        if "calibration_cache_path" in inspect.signature(quantize_static).parameters:
            options["calibration_cache_path"] = self._folder / "ranges.json"
        with _quiet():
            quantize_static(
                str(self._prepared),
                str(path),
                _reader(self._images),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(OPERATIONS),
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                **nodes,
                **options,
            )


def search(
    layers: list[str], is_good: Callable[[list[str]], bool], say: Callable[[str], None] = lambda line: None
) -> list[str]:
    """Find how many of the most sensitive layers must stay in floating point, where quantising all is not good enough.

    Their number is doubled until the file is good enough, then bisected down to the least that is.

    Args:
        layers: The layers, the most sensitive first.
        is_good: Returns whether the file with these layers left out is good enough.
        say: Receives a line about each attempt.

    Returns:
        The layers to leave out: those of the last attempt that was good.

    Raises:
        ModelError: No file with a quantised layer is good enough.
    """

    def attempt(count: int) -> bool:
        say(f"{count} of {len(layers)} layers in floating point")
        return is_good(layers[:count])

    failed, count, most = 0, 1, len(layers) - 1
    while not (count <= most and attempt(count)):
        if count >= most:
            raise ModelError(
                f"no choice of layers loses so little, not even {most} of {len(layers)} in floating point; "
                "allow more with --max-loss, or use --fp16"
            )
        failed, count = count, min(2 * count, most)
    while count - failed > 1:
        middle = (failed + count) // 2
        failed, count = (failed, middle) if attempt(middle) else (middle, count)
    return layers[:count]


def write_fp16(source: Path, path: Path) -> None:
    """Write an exported file with weights and arithmetic in float16; its input and logits stay float32.

    Raises:
        ModelError: onnxruntime can't convert the file.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load(source)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    try:
        with _quiet():
            onnx.save(convert_float_to_float16(model, keep_io_types=True), path)
    except Exception as error:  # onnxruntime has its own exceptions
        raise ModelError(f"{source}: onnxruntime can't convert it to fp16 ({first_words(error)})") from error
    set_metadata(path, metadata | {"precision": json.dumps("fp16")})


def set_metadata(path: Path, entries: dict[str, str]) -> None:
    """Replace the metadata of an ONNX file."""
    import onnx

    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, entries)
    onnx.save(model, path)


def _outputs(path: Path, images: list[np.ndarray]) -> list[np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return [np.asarray(session.run(None, {"image": image})[0]) for image in images]


def _change(wanted: np.ndarray, given: np.ndarray) -> float:
    if np.issubdtype(wanted.dtype, np.integer):
        return float((wanted != given).mean())
    return float(((given - wanted) ** 2).sum() / max(float((wanted**2).sum()), np.finfo(np.float32).tiny))


def _reader(images: Images) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        """Passes the images to onnxruntime one by one."""

        def __init__(self) -> None:
            self.images = images()

        def get_next(self) -> Any:
            image = next(self.images, None)
            return None if image is None else {"image": image}

    return Reader()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence onnxruntime's warning about every node that stays unchanged."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)

"""Open an exported file of ONNX, OpenVINO or ``torch.export``, and predict with it by its metadata."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ladseg.deploy.export_check import run_openvino
from ladseg.deploy.export_graph import FixedSize, Sizes, read_sizes
from ladseg.deploy.student_header import Numbers, StudentHeader, make_header
from ladseg.errors import ModelError, UserError, first_words
from ladseg.evaluation import WHOLE, Inference, class_ids
from ladseg.outputs import SegmentationOutput

SUFFIX = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}
# The metadata as JSON are an extra file in a .pt2, and an entry of the run-time information in OpenVINO's graph.
METADATA_FILE = "ladseg.json"
METADATA_KEY = "ladseg"
# Entries of the metadata that are plain text; all others are JSON.
TEXT = ("ladseg", "model", "normalization", "output", "sizes")


@dataclass(frozen=True)
class ExportedFile:
    """An exported network, ready to predict on the CPU.

    Attributes:
        path: The file.
        header: Its metadata about the network and the training data.
        normalizes: Whether it takes RGB in 0..1 and normalises it inside.
        gives_ids: Whether it returns class ids; otherwise logits at the image's size.
        sizes: The heights and widths that it takes.
        run: Maps an image ``(N, C, H, W)`` float32 to its output.
    """

    path: Path
    header: StudentHeader
    normalizes: bool
    gives_ids: bool
    sizes: Sizes | FixedSize
    run: Callable[[Tensor], Tensor]

    @property
    def bytes(self) -> int:
        """Return the file's size, with that of the weights beside it."""
        files = [self.path, self.path.with_suffix(".bin")] if self.path.suffix == SUFFIX["openvino"] else [self.path]
        return sum(file.stat().st_size for file in files)

    @property
    def mean(self) -> Numbers:
        """The mean to subtract from RGB in 0..1 before the file gets the image."""
        return (0.0,) * self.header.channels if self.normalizes else self.header.mean

    @property
    def std(self) -> Numbers:
        """The standard deviation to divide by, after subtracting the mean, before the file gets the image."""
        return (1.0,) * self.header.channels if self.normalizes else self.header.std

    def class_ids(self, image: Tensor, how: Inference = WHOLE) -> Tensor:
        """Predict the class of every pixel.

        Args:
            image: ``(N, C, H, W)`` float32, normalised with ``mean`` and ``std``.
            how: How to predict; a file that returns class ids has nothing to average and takes ``WHOLE`` only.

        Returns:
            ``(N, H, W)`` uint8, or int64 for more than 256 classes.

        Raises:
            ModelError: The file does not take images of this size, or returns no logits to average.
        """
        if not self.gives_ids:
            return class_ids(self._logits, image, how)
        if how != WHOLE:
            raise ModelError(
                f"{self.path}: returns class ids, so windows, scales and mirrored images can't be averaged; "
                "export it without --argmax"
            )
        return self._run(image).to(torch.uint8)

    def _logits(self, image: Tensor) -> SegmentationOutput:
        return SegmentationOutput(self._run(image), align_corners=self.header.align_corners)

    def _run(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        # ONNX drops a graph's assumptions about sizes and would silently give wrong classes, so check them first.
        if not self.sizes.take(height, width):
            raise ModelError(
                f"{self.path}: takes heights and widths: {self.sizes}; the image is {height}x{width}; "
                "give --window HxW of such a size, or export for this size with --size"
            )
        try:
            return self.run(image.contiguous())
        except Exception as error:  # onnxruntime has its own exceptions
            raise ModelError(f"{self.path}: fails on an image of {height}x{width} ({first_words(error)})") from error


def is_exported(path: str | Path) -> bool:
    """Return whether a path names an exported file, by its suffix."""
    return Path(path).suffix in SUFFIX.values()


def open_exported(path: str | Path, threads: int | None = None) -> ExportedFile:
    """Open a file that :func:`ladseg.deploy.export.export_student` wrote.

    Args:
        path: A ``.onnx``, ``.xml`` or ``.pt2`` file.
        threads: Number of threads of onnxruntime or OpenVINO; None leaves it to them. A ``.pt2`` uses torch's threads.

    Raises:
        ModelError: The file is missing or damaged, or lacks ladseg's metadata.
        UserError: The runtime is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    if path.suffix == SUFFIX["torch"]:
        run, facts = _open_program(path)
    else:
        run, facts = (_open_onnx if path.suffix == SUFFIX["onnx"] else _open_openvino)(path, threads)
    missing = [key for key in ("model", "normalization", "output", "sizes") if not isinstance(facts.get(key), str)]
    sizes = None if missing else read_sizes(facts["sizes"])
    if sizes is None:
        raise ModelError(f"{path}: has no metadata of ladseg ({missing[0] if missing else 'sizes'}); export it again")
    # Older files do not record the data section.
    facts.setdefault("data", {key: facts.get(key) for key in ("class_names", "colors")})
    header = make_header(path, facts)
    return ExportedFile(
        path, header, facts["normalization"].startswith("inside"), facts["output"] == "label", sizes, run
    )


def _open_onnx(path: Path, threads: int | None) -> tuple[Callable[[Tensor], Tensor], dict[str, Any]]:
    try:
        import onnxruntime
    except ImportError:
        raise UserError("ONNX files need onnxruntime: pip install 'ladseg[onnx]'") from None
    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        stored = session.get_modelmeta().custom_metadata_map
        facts = {key: value if key in TEXT else json.loads(value) for key, value in stored.items()}
    except Exception as error:  # onnxruntime has its own exceptions
        raise ModelError(f"{path}: can't be opened as ladseg's ONNX ({first_words(error)}); export it again") from None
    return lambda image: torch.from_numpy(session.run(None, {"image": image.numpy()})[0]), facts


def _open_openvino(path: Path, threads: int | None) -> tuple[Callable[[Tensor], Tensor], dict[str, Any]]:
    try:
        import openvino
    except ImportError:
        raise UserError("OpenVINO's files need openvino: pip install 'ladseg[openvino]'") from None
    core = openvino.Core()
    try:
        model = core.read_model(path)
        facts = json.loads(model.get_rt_info([METADATA_KEY]).astype(str))
        return run_openvino(core, model, threads), facts
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            f"{path}: can't be opened as ladseg's OpenVINO graph ({first_words(error)}); export it again, and keep its "
            ".bin file beside it"
        ) from None


def _open_program(path: Path) -> tuple[Callable[[Tensor], Tensor], dict[str, Any]]:
    extra = {METADATA_FILE: ""}
    try:
        program: Callable[[Tensor], Tensor] = torch.export.load(path, extra_files=extra).module()
        return program, json.loads(extra[METADATA_FILE])
    except Exception as error:  # torch raises many kinds of exceptions
        raise ModelError(
            f"{path}: can't be opened as ladseg's program ({first_words(error)}); export it again"
        ) from None

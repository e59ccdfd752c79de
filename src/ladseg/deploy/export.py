"""Export the student to other runtimes, as ONNX, OpenVINO or a torch.export program for any batch and image size."""

import io
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

import ladseg
from ladseg.deploy.export_check import Measured, compare, open_onnx, open_openvino, open_program
from ladseg.deploy.export_graph import Deployed, FixedSize, LabelType, Sizes, trace, trace_fixed
from ladseg.deploy.exported_file import METADATA_FILE, METADATA_KEY, SUFFIX
from ladseg.deploy.onnx_sizes import inferable_sizes, name_sides
from ladseg.deploy.student_file import delivered_file, load_student
from ladseg.deploy.student_header import StudentHeader
from ladseg.errors import ModelError, UserError, first_words
from ladseg.files import remove_abandoned, write_atomically
from ladseg.models import Segmenter

OLDEST_OPSET = 18
# The packages that each format needs; the extra that installs them is named like the format.
PACKAGES: dict[str, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
    "torch": (),
}


@dataclass(frozen=True)
class Exported:
    """The result of :func:`export_student`.

    Attributes:
        path: The file.
        sizes: The heights and widths that it takes.
        measured: Its differences from the network in torch, one for each image size.
    """

    path: Path
    sizes: Sizes | FixedSize
    measured: list[Measured]


def export_student(
    weights: str | Path,
    to: str,
    out: str | Path | None = None,
    normalize: bool = False,
    argmax: bool = False,
    model: str | None = None,
    opset: int | None = None,
    label_type: LabelType = "int64",
    size: tuple[int, int] | None = None,
) -> Exported:
    """Write a delivered network for another runtime, and verify that it agrees with torch.

    The file is opened again and compared at three image sizes before it gets its name.

    Args:
        weights: A file that :func:`ladseg.deploy.save_student` wrote, or the folder of a run that holds one.
        to: ``onnx``, ``openvino`` or ``torch``.
        out: The file; None for one beside the weights. OpenVINO's graph, ``.xml``, has a ``.bin`` of weights beside it.
        normalize: Whether the file takes RGB in 0..1 and normalises it inside.
        argmax: Whether it returns class ids ``(N, H, W)``; otherwise logits ``(N, C, H, W)`` at the image's size.
        model: As for :func:`ladseg.deploy.load_student`.
        opset: Version of ONNX's operators, for older runtimes; None leaves the choice to torch.
        label_type: Type of the class ids.
        size: Height and width of a file that takes one image of one size only, as some runtimes require; None for any
            batch and size.

    Raises:
        ModelError: The weights are missing, the network can't be exported, or the file disagrees with torch.
        UserError: The packages that the format needs are not installed, options contradict each other, or the file
            can't be written.
    """
    _refuse_options(to, argmax, opset, label_type, out)
    _require(to)
    weights = delivered_file(weights)
    network, header = load_student(weights, model)
    deployed = Deployed(network, normalize, argmax, label_type).eval()
    sizes: Sizes | FixedSize
    if size is None:
        program, sizes = trace(deployed, for_onnx=to != "torch")
    else:
        sizes = FixedSize(*size)
        program = trace_fixed(deployed, to != "torch", sizes)
    facts = _facts(network, header, deployed, sizes)
    path = Path(out) if out else weights.with_suffix(SUFFIX[to])
    measured: list[Measured] = []

    def check(opened: Callable[[Tensor], Tensor]) -> None:
        measured.extend(compare(opened, network, normalize, argmax, sizes.shapes()))

    def write(temporary: Path) -> None:
        if to == "onnx":
            _write_onnx(temporary, program, facts, opset)
            check(open_onnx(temporary))
        elif to == "torch":
            _write_program(temporary, program, facts)
            check(open_program(temporary))
        else:
            with tempfile.TemporaryDirectory(prefix="ladseg-") as folder:
                graph = _write_openvino(Path(folder), program, facts)
                check(open_openvino(graph))
                path.unlink(missing_ok=True)  # An older graph must not be read with these weights.
                write_atomically(
                    path.with_suffix(".bin"), lambda weights: shutil.copyfile(graph.with_suffix(".bin"), weights)
                )
                shutil.copyfile(graph, temporary)

    write_atomically(path, write)
    remove_abandoned(path.parent)
    return Exported(path, sizes, measured)


def _refuse_options(to: str, argmax: bool, opset: int | None, label_type: str, out: str | Path | None) -> None:
    """Refuse options that have no meaning together.

    Raises:
        UserError: An option has no meaning with the others.
    """
    if opset is not None and to != "onnx":
        raise UserError(f"opset {opset} is an option of ONNX; --to {to} has none")
    if opset is not None and opset < OLDEST_OPSET:
        raise UserError(f"opset is {opset}; torch writes {OLDEST_OPSET} or newer")
    if label_type != "int64" and not argmax:
        raise UserError(f"label type {label_type} is an option for class ids; add --argmax")
    if to == "openvino" and out is not None and Path(out).suffix != SUFFIX[to]:
        raise UserError(f"{out}: OpenVINO's graph must be in a file that ends in {SUFFIX[to]}")


def _require(to: str) -> None:
    """Raise UserError if a package that the format needs is not installed."""
    for package in PACKAGES[to]:
        try:
            import_module(package)
        except ImportError as error:
            raise UserError(f"--to {to} needs {error.name}: pip install 'ladseg[{to}]'") from error


def _facts(network: Segmenter, header: StudentHeader, deployed: Deployed, sizes: Sizes | FixedSize) -> dict[str, Any]:
    """Collect the metadata of the file."""
    colors = "RGB" if header.channels == 3 else f"{header.channels} channels"
    return {
        "ladseg": ladseg.__version__,
        "model": network.name,
        "num_classes": network.num_classes,
        "class_names": header.data.class_names,
        "colors": header.data.colors,
        "mean": list(network.input_mean),
        "std": list(network.input_std),
        "align_corners": network.align_corners,
        "normalization": f"inside: image is {colors} in 0..1"
        if deployed.normalize
        else f"outside: image is ({colors} in 0..1 - mean) / std",
        "output": "label" if deployed.argmax else "logits",
        "sizes": str(sizes),
        "data": asdict(header.data),
    }


def _write_onnx(path: Path, program: ExportedProgram, facts: dict[str, Any], opset: int | None) -> None:
    output = facts["output"]
    try:
        exported: Any = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            input_names=["image"],
            output_names=[output],
            opset_version=opset,
        )
    except Exception as error:  # operations unknown to ONNX raise many kinds of exceptions
        raise ModelError(
            f"'{facts['model']}' can't be written as ONNX ({first_words(error)}); "
            f"--to torch takes heights and widths: {facts['sizes']}"
        ) from error
    inferable_sizes(exported.model)
    name_sides(exported.model)
    for node in exported.model.graph:
        node.metadata_props.clear()  # Names of classes, and stack traces with paths of this machine.
    written = exported.model.opset_imports.get("")
    if opset not in (None, written):
        raise ModelError(f"'{facts['model']}' can't have opset {opset}: torch writes {written}; leave it out")
    for key, value in facts.items():
        exported.model.metadata_props[key] = value if isinstance(value, str) else json.dumps(value)
    exported.save(path)


def _write_program(path: Path, program: ExportedProgram, facts: dict[str, Any]) -> None:
    # Write to memory first, because torch's own file writer aborts the process when the disk is full.
    content = io.BytesIO()
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # It holds paths of this machine.
    try:
        torch.export.save(program, content, extra_files={METADATA_FILE: json.dumps(facts)})
    except Exception as error:  # torch can trace some graphs that it can't save
        raise ModelError(f"'{facts['model']}' can't be saved by torch.export ({first_words(error)})") from error
    path.write_bytes(content.getvalue())


def _write_openvino(folder: Path, program: ExportedProgram, facts: dict[str, Any]) -> Path:
    """Write a graph and its weights into a folder; return the graph's path."""
    import openvino

    by_way, graph = folder / "network.onnx", folder / "network.xml"
    _write_onnx(by_way, program, facts, None)
    try:
        model = openvino.Core().read_model(by_way)
        model.set_rt_info(json.dumps(facts), [METADATA_KEY])
        openvino.save_model(model, graph, compress_to_fp16=False)
    except RuntimeError as error:  # OpenVINO does not know every operation
        raise ModelError(f"'{facts['model']}' can't be written for OpenVINO ({first_words(error)})") from error
    return graph

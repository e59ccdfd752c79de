"""The commands that take a delivered network: eval, predict, submit and export."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ladseg.cli.parser import Commands, number, path, scales, share, size
from ladseg.cli.terminal import print_line, print_note, print_sheets, print_tables
from ladseg.errors import RecipeError

if TYPE_CHECKING:
    from ladseg.evaluation import Inference

# The formats of an export, and what opens them.
RUNTIMES = {"onnx": "onnxruntime", "openvino": "OpenVINO", "torch": "torch"}


def add_commands(command: Commands) -> None:
    """Add eval, predict, submit and export."""
    evaluate = command(
        "eval",
        _eval,
        "evaluate a weights file, or an exported .onnx, .xml or .pt2 file, on a data set",
        takes_recipe_keys=True,
        epilog="--data.KEY VALUE sets any key of a recipe's data section, such as --data.ignore_index 11; "
        "the other keys are those of the network's training data.",
    )
    _add_weights_on_data(evaluate)
    evaluate.add_argument("--split", default="val", help="train, val or another that the data set has (default: val)")
    evaluate.add_argument("--confusion", action="store_true", help="print the confusion matrix")
    evaluate.add_argument("--json", type=path, metavar="FILE", help="write all figures as JSON; - prints only that")
    evaluate.add_argument(
        "--boundary",
        type=share,
        default=0.02,
        metavar="SHARE",
        help="width of boundary IoU's boundaries as a share of the image's diagonal; Cityscapes: 0.005 (default: 0.02)",
    )
    _add_inference(evaluate)

    predict = command(
        "predict", _predict, "predict images, folders, patterns or a video; exit code 1 if any was left out"
    )
    _add_weights(predict)
    predict.add_argument("inputs", nargs="+", metavar="INPUT", help="an image, a folder, a quoted pattern or a video")
    predict.add_argument("--out", type=path, metavar="DIR", required=True, help="where masks and overlays go")
    predict.add_argument("--probabilities", action="store_true", help="write images' class probabilities too, as .npz")
    _add_inference(predict)

    submit = command(
        "submit",
        _submit,
        "predict a data set's test images in the format that its server takes",
        takes_recipe_keys=True,
        epilog="--data.KEY VALUE sets any key of a recipe's data section; "
        "the other keys are those of the network's training data.",
    )
    _add_weights_on_data(submit)
    submit.add_argument("--out", type=path, metavar="DIR", required=True, help="where the PNG files go")
    submit.add_argument("--split", default="test", help="the split to predict (default: test)")

    export = command(
        "export",
        _export,
        "write a delivered network for other runtimes, after comparing the result with torch",
        takes_recipe_keys=True,
        epilog="--int8 and --fp16 measure the loss of accuracy, so they need the data set: the run's, --data DIR or "
        "--data.KEY VALUE for any key of a recipe's data section; the other keys are those of the training data.",
    )
    _add_weights_on_data(export)
    formats = "ONNX, OpenVINO's .xml and .bin, or a program of torch.export"
    export.add_argument("--to", choices=tuple(RUNTIMES), required=True, help=formats)
    export.add_argument("--out", type=path, metavar="FILE", help="(default: beside the weights)")
    export.add_argument("--normalize", action="store_true", help="take RGB in 0..1 instead of normalised images")
    export.add_argument("--argmax", action="store_true", help="return class ids (N, H, W), not logits (N, C, H, W)")
    export.add_argument(
        "--opset", type=number(int, least=18), metavar="N", help="version of ONNX's operators (default: torch's choice)"
    )
    export.add_argument(
        "--size", type=size, metavar="HxW", help="take one image of this size only, as some runtimes require"
    )
    bits = export.add_mutually_exclusive_group()
    bits.add_argument(
        "--int8", action="store_true", help="ONNX in 8-bit integers, ranges taken from the training images"
    )
    bits.add_argument("--fp16", action="store_true", help="ONNX in 16-bit floats; input and logits stay 32-bit")
    export.add_argument(
        "--max-loss",
        type=number(float, 0.0, 100.0),
        metavar="POINTS",
        help="the most points of mIoU that --int8 or --fp16 may lose (default: 1.0)",
    )
    export.add_argument("--label-type", choices=("int64", "int32"), default="int64", help="type of class ids")


def _add_weights_on_data(command: argparse.ArgumentParser) -> None:
    """Add the arguments of a command that runs a delivered network on a data set; ``_data_keys`` reads them."""
    _add_weights(command)
    command.add_argument(
        "--data",
        type=path,
        metavar="DIR",
        help="the data set's folder (short for --data.root DIR; default: that of the run)",
    )


def _add_weights(command: argparse.ArgumentParser) -> None:
    """Add the arguments that name a delivered network."""
    command.add_argument("weights", type=path, metavar="WEIGHTS", help="a run's folder, or its student.safetensors")
    command.add_argument(
        "--model",
        metavar="MODULE:CLASS",
        help="the network, if it is your own code: a file's code runs only if you name it here",
    )


def _add_inference(command: argparse.ArgumentParser) -> None:
    """Add the arguments about how to predict images; ``_inference`` reads them."""
    command.add_argument(
        "--window", type=size, metavar="HxW", help="predict windows of this size and average them (default: whole)"
    )
    command.add_argument("--stride", type=size, metavar="HxW", help="step between windows (default: two thirds)")
    command.add_argument(
        "--scales", type=scales, default=(1.0,), metavar="A,B", help="sizes to average, such as 0.75,1,1.25"
    )
    command.add_argument("--flip", action="store_true", help="average with the mirrored image")
    command.add_argument(
        "--average", choices=("softmax", "logits"), default="softmax", help="what is averaged (default: softmax)"
    )
    command.add_argument(
        "--rescale", type=size, metavar="LONGxSHORT", help="fit images into a box first, such as 2048x512"
    )


def _inference(known: argparse.Namespace) -> "Inference":
    from ladseg.evaluation import Inference

    try:
        return Inference(known.window, known.stride, known.scales, known.flip, known.average, known.rescale)
    except ValueError as error:
        raise RecipeError(str(error)) from None


def _eval(known: argparse.Namespace, keys: list[str]) -> None:
    import json

    from ladseg.commands.evaluate import evaluate_file
    from ladseg.files import write_text
    from ladseg.report.run_tables import confusion_table, iou_remarks, iou_table
    from ladseg.results import to_json

    keys, how = _data_keys(known, keys), _inference(known)
    measured = evaluate_file(known.weights, keys, known.split, known.model, how, known.boundary)
    text = json.dumps(to_json(measured), indent=2)
    if known.json == "-":
        print(text)
        return
    print_line(f"{measured.weights} on {measured.images} images of {known.split}")
    print_tables([iou_table(measured), *([confusion_table(measured)] if known.confusion else [])])
    for line in iou_remarks(measured, known.boundary):
        print_line(line)
    if known.json:
        write_text(known.json, f"{text}\n")
        print_note(f"written: {known.json}")


def _predict(known: argparse.Namespace, keys: list[str]) -> int:
    from ladseg.commands.predict import predict

    how, out = _inference(known), Path(known.out)
    predicted, left_out = predict(
        known.weights,
        known.inputs,
        out,
        how,
        known.probabilities,
        known.model,
        say=print_note,
    )
    where = f"; masks and overlays in {out}" if predicted else ""
    print_line(f"{predicted} predicted, {left_out} left out{where}")
    return int(left_out > 0)


def _submit(known: argparse.Namespace, keys: list[str]) -> None:
    from ladseg.commands.submit import submit

    count = submit(known.weights, _data_keys(known, keys), Path(known.out), known.split, known.model)
    print_line(f"{count} predictions in {known.out}")


def _export(known: argparse.Namespace, keys: list[str]) -> None:
    from ladseg.deploy.export import export_student

    options = {
        "normalize": known.normalize,
        "argmax": known.argmax,
        "model": known.model,
        "opset": known.opset,
        "label_type": known.label_type,
        "size": known.size,
    }
    keys = _data_keys(known, keys)
    if known.int8 or known.fp16:
        _export_reduced(known, keys, options)
        return
    if keys or known.max_loss is not None:
        raise RecipeError("--data and --max-loss are options of --int8 and --fp16; other exports read no data")
    exported = export_student(known.weights, known.to, known.out, **options)
    print_line(f"opened in {RUNTIMES[known.to]} and compared with the network in torch:")
    print(*exported.measured, sep="\n")
    print_line(f"written: {exported.path}; it takes heights and widths: {exported.sizes}")


def _export_reduced(known: argparse.Namespace, keys: list[str], options: dict[str, Any]) -> None:
    from ladseg.commands.reduce import export_reduced
    from ladseg.report.reduced_table import left_out_sheet, reduced_sheet

    kind: Literal["int8", "fp16"] = "int8" if known.int8 else "fp16"
    if known.to != "onnx":
        raise RecipeError(f"--{kind} writes ONNX; --to {known.to} has 32-bit floats only")
    max_loss = 1.0 if known.max_loss is None else known.max_loss
    reduced = export_reduced(known.weights, kind, keys, known.out, max_loss, say=print_note, **options)
    before, after = ((f.mean_iou, f.bytes, f.seconds) for f in (reduced.before, reduced.after))
    sheets = [reduced_sheet(kind, before, after)]
    if reduced.left_out:
        sheets.append(left_out_sheet(reduced.left_out, reduced.layers))
    print_sheets(sheets)
    print_line(f"written: {reduced.path}")


def _data_keys(known: argparse.Namespace, keys: list[str]) -> list[str]:
    return (["--data.root", known.data] if known.data else []) + keys

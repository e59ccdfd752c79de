"""The ``ladseg`` command: one thin function a command: parse, call, print."""

import argparse
import logging
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ladseg.errors import ModelError, RecipeError, UserError

if TYPE_CHECKING:
    from ladseg.evaluation import Inference

DESCRIPTION = """\
Make a light semantic-segmentation network more accurate at no cost when it runs,
by label-assisted distillation.

  ladseg demo                          see it work on built-in scenes, in minutes
  ladseg recipes camvid > mine.yaml    a recipe to edit for your own data
  ladseg check path/to/data            what is in a data set, and what is amiss with it
  ladseg train mine.yaml               teacher, student, control, table, picture
  ladseg compare mine.yaml             methods side by side, over seeds
  ladseg eval runs/NAME/student.safetensors --data DATASET
  ladseg report runs/NAME              the report of a run, written again
  ladseg predict runs/NAME/student.safetensors IMAGES --out DIR
  ladseg export runs/NAME/student.safetensors --to onnx
  ladseg models                        networks to choose from, and what they cost
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it did its work, 2 with one line on standard error if the user must act.

    ``check`` gives its own: 1 for warnings, 2 for errors in the data.
    """
    parser, commands = _parser()
    known, rest = parser.parse_known_args(arguments)
    if rest and not known.takes_recipe_keys:
        commands[known.command].error(f"unrecognized arguments: {' '.join(rest)}")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        return known.run(known, rest) or 0
    except UserError as error:
        print(f"ladseg: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nladseg: stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130


def _parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    from ladseg.recipe import recipe_parser

    parser = argparse.ArgumentParser(
        "ladseg",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands: dict[str, argparse.ArgumentParser] = {}

    def command(name: str, run: object, summary: str, keys: bool = False, epilog: str = "") -> argparse.ArgumentParser:
        sub = subparsers.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        sub.set_defaults(run=run, takes_recipe_keys=keys)
        commands[name] = sub
        return sub

    options = recipe_parser(prog="ladseg", add_help=False, usage=argparse.SUPPRESS).format_help()
    keys_help = "Every key of a recipe can be set here too:\n" + options

    demo = command(
        "demo",
        _demo,
        "train on built-in scenes: about five minutes on two cores",
        keys=True,
        epilog=keys_help,
    )
    demo.add_argument("--out", default="runs/demo", metavar="DIR", help="the run's folder (default: runs/demo)")

    train = command(
        "train",
        _train,
        "train teacher, student and control from a recipe; again to resume",
        keys=True,
        epilog=keys_help,
    )
    train.add_argument("recipe", metavar="RECIPE", help="a YAML file, or a name that 'ladseg recipes' lists")

    compare = command(
        "compare",
        _compare,
        "train several methods with several seeds and set them side by side; again to resume",
        keys=True,
        epilog="A method is none, none-long (none for all that LAD computes), lad, lad-warm (LAD from the trained\n"
        "plain student), cwd-full or a distiller of docs/methods.md. A distiller may name its teacher: kd+label,\n"
        "kd+self (the student's network without a label), kd+MODEL.\n"
        "Every key of a recipe can be set here too, such as --schedule.iterations 1000.",
    )
    compare.add_argument("recipe", metavar="RECIPE", help="a YAML file, or a name that 'ladseg recipes' lists")
    compare.add_argument(
        "--methods", metavar="A,B,C", default="none,none-long,lad", help="(default: none,none-long,lad)"
    )
    compare.add_argument("--seeds", metavar="0,1,2", default="0,1,2", type=_seeds, help="(default: 0,1,2)")
    compare.add_argument("--teacher", metavar="MODEL", help="the teacher of distillers that name none (default: self)")
    compare.add_argument("--teacher-weights", metavar="FILE", help="pretrained weights that it starts from")
    compare.add_argument(
        "--cell",
        metavar="METHOD:SEED",
        action="append",
        type=_cell,
        help="train only this one, as another process or machine trains others into the same folder; may be repeated",
    )
    compare.add_argument("--out", metavar="DIR", help="the comparison's folder (default: runs/NAME-compare)")

    report = command("report", _report, "write the report of a finished run or comparison again")
    report.add_argument("run_folder", metavar="RUN", help="its folder")

    paper = command("paper", _paper, "print the figures of the paper's tables, beside those of your comparisons")
    paper.add_argument("comparisons", nargs="*", metavar="DIR", help="folders of 'ladseg compare'")

    evaluate = command(
        "eval",
        _eval,
        "measure a weights file on a data set",
        keys=True,
        epilog="--data.KEY VALUE sets any key of a recipe's data section, such as --data.ignore_index 11;\n"
        "what is not given is as in the data set that the network was trained on.",
    )
    _add_weights_on_data(evaluate)
    evaluate.add_argument("--split", default="val", help="train or val (default: val)")
    evaluate.add_argument("--confusion", action="store_true", help="print which classes are taken for which")
    evaluate.add_argument("--json", metavar="FILE", help="write all figures for machines; - for standard output alone")
    _add_inference(evaluate)

    predict = command(
        "predict", _predict, "predict images, folders, patterns or a video; exit code 1 if any was left out"
    )
    _add_weights(predict)
    predict.add_argument("inputs", nargs="+", metavar="INPUT", help="an image, a folder, a quoted pattern or a video")
    predict.add_argument("--out", metavar="DIR", required=True, help="where masks and overlays go")
    predict.add_argument("--probabilities", action="store_true", help="write those of all classes too, as .npz")
    _add_inference(predict)

    submit = command(
        "submit",
        _submit,
        "predict a data set's test images in the format that its server takes",
        keys=True,
        epilog="--data.KEY VALUE sets any key of a recipe's data section;\n"
        "what is not given is as in the data set that the network was trained on.",
    )
    _add_weights_on_data(submit)
    submit.add_argument("--out", metavar="DIR", required=True, help="where the PNG files go")
    submit.add_argument("--split", default="test", help="the split to predict (default: test)")

    export = command("export", _export, "write a delivered network for other runtimes, compared with torch first")
    _add_weights(export)
    export.add_argument("--to", choices=("onnx", "torch"), required=True, help="ONNX, or a program of torch.export")
    export.add_argument("--out", metavar="FILE", help="the file (default: beside the weights, as .onnx or .pt2)")
    export.add_argument("--normalize", action="store_true", help="take RGB in 0..1; else normalised images")
    export.add_argument("--argmax", action="store_true", help="give class ids (N, H, W); else logits (N, C, H, W)")

    check = command(
        "check",
        _check,
        "read a whole data set and tell what is amiss; exit code 1 for warnings, 2 for errors",
        keys=True,
        epilog="--data.KEY VALUE sets any key of a recipe's data section, such as --data.layout voc.",
    )
    check.add_argument("recipe_or_folder", metavar="RECIPE_OR_FOLDER", help="a recipe, or the data set's folder")
    check.add_argument("--fix-hints", action="store_true", help="tell with each finding what to do")
    check.add_argument("--splits", default="train,val", help="the splits to read (default: train,val)")
    check.add_argument("--json", metavar="FILE", help="write the report for machines; - for standard output alone")
    check.add_argument("--html", metavar="FILE", help="write the report as a page with pictures")

    data = command("data", _data, "list the layouts of data sets, or show one: tree, ids, source")
    data.add_argument("name", nargs="?", metavar="NAME", help="the layout to show")

    recipes = command("recipes", _recipes, "list the ready recipes, or print one to copy and edit")
    recipes.add_argument("name", nargs="?", metavar="NAME", help="the recipe to print")

    models = command("models", _models, "list the networks with their parameters and cost")
    models.add_argument(
        "names", nargs="*", metavar="NAME", help="only these; HEAD@BACKBONE and package.module:Class too (default: all)"
    )
    models.add_argument("--classes", type=int, default=19, metavar="C", help="number of classes (default: 19)")
    models.add_argument("--size", type=_size, default=(512, 1024), metavar="HxW", help="image size (default: 512x1024)")
    models.add_argument("--time", action="store_true", help="measure prediction and training step on this machine")
    models.add_argument("--markdown", action="store_true", help="print Markdown instead of a table for the terminal")
    return parser, commands


def _add_weights_on_data(command: argparse.ArgumentParser) -> None:
    """The words of a command that runs a delivered network on a data set; ``_data_words`` reads them."""
    _add_weights(command)
    command.add_argument("--data", metavar="DIR", help="the data set's folder (short for --data.root DIR)")


def _add_weights(command: argparse.ArgumentParser) -> None:
    """The words that name a delivered network."""
    command.add_argument("weights", metavar="WEIGHTS", help="the student.safetensors of a run")
    command.add_argument(
        "--model",
        metavar="MODULE:CLASS",
        help="the network, if it is your own code: a file's code runs only if you name it here",
    )


def _add_inference(command: argparse.ArgumentParser) -> None:
    """The words that say how images are predicted; ``_inference`` reads them."""
    command.add_argument(
        "--window", type=_size, metavar="HxW", help="predict windows of this size, averaged (default: whole)"
    )
    command.add_argument(
        "--stride", type=_size, metavar="HxW", help="from window to window (default: two thirds of it)"
    )
    command.add_argument(
        "--scales", type=_scales, default=(1.0,), metavar="A,B", help="sizes to average, such as 0.75,1,1.25"
    )
    command.add_argument("--flip", action="store_true", help="average with the mirrored image")


def _inference(known: argparse.Namespace) -> "Inference":
    from ladseg.evaluation import Inference

    try:
        return Inference(known.window, known.stride, known.scales, known.flip)
    except ValueError as error:
        raise RecipeError(str(error)) from None


def _data_words(known: argparse.Namespace, rest: list[str]) -> list[str]:
    return (["--data.root", known.data] if known.data else []) + rest


def _demo(known: argparse.Namespace, rest: list[str]) -> None:
    from ladseg.data import write_demo_scenes
    from ladseg.recipe import load_recipe

    root = Path(known.out) / "data"
    overrides = [
        "--out",
        known.out,
        "--data.root",
        str(root),
        "--data.classes",
        str(root / "classes.txt"),
        *rest,
    ]
    recipe = load_recipe("demo", overrides)
    print(f"writing the demo scenes to {root}")
    write_demo_scenes(root)
    _run(recipe)


def _train(known: argparse.Namespace, rest: list[str]) -> None:
    from ladseg.recipe import load_recipe

    _run(load_recipe(known.recipe, rest))


def _run(recipe: object) -> None:
    from rich.console import Console

    from ladseg.delivery import results_table, teacher_remark, verdict
    from ladseg.recipe import Recipe
    from ladseg.studies import is_main_process, train, write_report

    assert isinstance(recipe, Recipe)
    results = train(recipe)
    if is_main_process():
        console = Console()
        console.print(results_table(results))
        print(*filter(None, (verdict(results), teacher_remark(results))), sep="\n")
        print(f"weights: {recipe.folder / 'student.safetensors'}")
        print(f"picture: {recipe.folder / 'picture.png'}")
        print(f"report:  {write_report(recipe.folder)}")


def _compare(known: argparse.Namespace, rest: list[str]) -> None:
    from dataclasses import replace

    from ladseg.data import write_demo_scenes
    from ladseg.delivery import compare_latex, compare_markdown, compare_tables, save_compare_plot
    from ladseg.files import write_text
    from ladseg.recipe import load_recipe
    from ladseg.studies import compare, is_main_process, write_report, write_results

    recipe = load_recipe(known.recipe, rest)
    if known.recipe == "demo":
        write_demo_scenes(recipe.data.root)
    folder = Path(known.out or f"runs/{recipe.name}-compare")
    results = compare(
        replace(recipe, out=str(folder)),
        known.methods.split(","),
        known.seeds,
        known.teacher,
        known.teacher_weights,
        known.cell,
    )
    if is_main_process():
        write_results(folder, results)
        write_text(folder / "results.md", compare_markdown(results))
        write_text(folder / "results.tex", compare_latex(results))
        save_compare_plot(folder / "results.png", results)
        _print_tables(compare_tables(results))
        print(f"written: {folder}/results.json, .md, .tex and .png")
        print(f"report:  {write_report(folder)}")


def _report(known: argparse.Namespace, rest: list[str]) -> None:
    from ladseg.studies import write_report

    print(f"report: {write_report(Path(known.run_folder))}")


def _paper(known: argparse.Namespace, rest: list[str]) -> None:
    from ladseg.delivery import paper_tables
    from ladseg.studies import read_comparison

    _print_tables(paper_tables([read_comparison(Path(folder)) for folder in known.comparisons]))


def _print_tables(tables: Iterable[object]) -> None:
    from rich.console import Console

    console = Console()
    for table in tables:
        console.print(table)
        console.print()


def _seeds(word: str) -> list[int]:
    seeds = word.split(",")
    if not all(seed.isdigit() for seed in seeds):
        raise argparse.ArgumentTypeError(f"'{word}' is no list of seeds, such as 0,1,2")
    return [int(seed) for seed in seeds]


def _cell(word: str) -> tuple[str, int]:
    method, _, seed = word.rpartition(":")
    if not method or not seed.isdigit():
        raise argparse.ArgumentTypeError(f"'{word}' is not METHOD:SEED, such as lad:0")
    return method, int(seed)


def _scales(word: str) -> tuple[float, ...]:
    try:
        return tuple(float(scale) for scale in word.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{word}' is no list of factors, such as 0.75,1,1.25") from None


def _eval(known: argparse.Namespace, rest: list[str]) -> None:
    import json

    from ladseg.delivery import confusion_table, iou_table
    from ladseg.files import write_text
    from ladseg.studies import evaluate_file

    words, how = _data_words(known, rest), _inference(known)
    measured = evaluate_file(known.weights, words, known.split, known.model, how)
    text = json.dumps(measured, indent=2)
    if known.json == "-":
        print(text)
        return
    _print_tables([iou_table(measured), *([confusion_table(measured)] if known.confusion else [])])
    if known.json:
        write_text(known.json, f"{text}\n")
        print(f"written: {known.json}", file=sys.stderr)


def _predict(known: argparse.Namespace, rest: list[str]) -> int:
    from ladseg.studies import predict

    how, out = _inference(known), Path(known.out)
    predicted, left_out = predict(
        known.weights,
        known.inputs,
        out,
        how,
        known.probabilities,
        known.model,
        say=lambda line: print(line, file=sys.stderr),
    )
    print(f"{predicted} predicted, {left_out} left out; masks and overlays in {out}")
    return int(left_out > 0)


def _submit(known: argparse.Namespace, rest: list[str]) -> None:
    from ladseg.studies import submit

    count = submit(known.weights, _data_words(known, rest), Path(known.out), known.split, known.model)
    print(f"{count} predictions in {known.out}")


def _export(known: argparse.Namespace, rest: list[str]) -> None:
    from ladseg.delivery import export_student

    exported = export_student(known.weights, known.to, known.out, known.normalize, known.argmax, known.model)
    print(f"opened in {'onnxruntime' if known.to == 'onnx' else 'torch'} and compared with the network in torch:")
    print(*exported.measured, sep="\n")
    print(f"written: {exported.path}; it takes heights and widths: {exported.sizes}")


def _check(known: argparse.Namespace, rest: list[str]) -> int:
    from rich.console import Console

    from ladseg.delivery import print_check
    from ladseg.files import write_text
    from ladseg.studies import as_json, check, data_yaml, page

    data, report = check(known.recipe_or_folder, rest, known.splits.split(","))
    if known.json == "-":
        print(as_json(report))
    else:
        # Names are the user's: brackets in them are no markup.
        print_check(report, Console(markup=False, highlight=False), known.fix_hints)
        if known.fix_hints and Path(known.recipe_or_folder).is_dir():
            print(f"For a recipe:\n{data_yaml(data)}", end="")
    for path, text in ((known.json, as_json), (known.html, lambda report: page(data, report))):
        if path and path != "-":
            write_text(path, text(report))
            print(f"written: {path}", file=sys.stderr)
    return report.level


def _data(known: argparse.Namespace, rest: list[str]) -> None:
    from ladseg.data import LAYOUTS, get_layout
    from ladseg.delivery import layout_page, layouts_list

    print(layout_page(get_layout(known.name)) if known.name else layouts_list(LAYOUTS.values()))


def _recipes(known: argparse.Namespace, rest: list[str]) -> None:
    from ladseg.recipe import recipe_names, recipe_text

    if known.name:
        print(recipe_text(known.name), end="")
        return
    for name in recipe_names():
        summary = recipe_text(name).splitlines()[0].removeprefix("# ")
        print(f"{name:16} {summary}")


def _size(word: str) -> tuple[int, int]:
    height, _, width = word.lower().partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"'{word}' is not HEIGHTxWIDTH, such as 512x1024")
    return int(height), int(width)


def _models(known: argparse.Namespace, rest: list[str]) -> None:
    from rich.console import Console
    from rich.progress import track

    from ladseg.delivery import models_markdown, models_table
    from ladseg.models import list_models
    from ladseg.models.describe import describe_model
    from ladseg.studies import time_model

    facts = []
    for name in known.names or list_models():
        try:
            facts.append(describe_model(name, known.classes, known.size))
        except ModelError as error:
            if known.names:
                raise
            print(f"left out: {error}", file=sys.stderr)  # an extra that is not installed
    timed = track(facts, "timing", console=Console(stderr=True)) if known.time else ()
    times = {row.name: time_model(row.name, known.classes, known.size) for row in timed}
    title = f"Networks for {known.classes} classes; multiply-accumulates of an image of {known.size[0]}x{known.size[1]}"
    if known.markdown:
        print(models_markdown(facts, times, title), end="")
    else:
        Console().print(models_table(facts, times, title))


if __name__ == "__main__":
    sys.exit(main())

"""The ``ladseg`` command: one thin function a command: parse, call, print."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from ladseg.errors import ModelError, UserError

DESCRIPTION = """\
Make a light semantic-segmentation network more accurate at no cost when it runs,
by label-assisted distillation.

  ladseg demo                          see it work on built-in scenes, in minutes
  ladseg recipes camvid > mine.yaml    a recipe to edit for your own data
  ladseg train mine.yaml               teacher, student, control, table, picture
  ladseg eval runs/NAME/student.safetensors --data DATASET
  ladseg models                        networks to choose from, and what they cost
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it did its work, 2 with one line on standard error if the user must act."""
    parser, commands = _parser()
    known, rest = parser.parse_known_args(arguments)
    if rest and not known.takes_recipe_keys:
        commands[known.command].error(f"unrecognized arguments: {' '.join(rest)}")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        known.run(known, rest)
    except UserError as error:
        print(f"ladseg: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nladseg: stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


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

    evaluate = command(
        "eval",
        _eval,
        "measure a weights file on a data set",
        keys=True,
        epilog="--data.KEY VALUE sets any key of a recipe's data section, such as --data.ignore_index 11;\n"
        "what is not given is as in the data set that the network was trained on.",
    )
    evaluate.add_argument("weights", metavar="WEIGHTS", help="the student.safetensors of a run")
    evaluate.add_argument("--data", metavar="DIR", help="the data set's folder (short for --data.root DIR)")
    evaluate.add_argument("--split", default="val", help="train or val (default: val)")

    evaluate.add_argument(
        "--model",
        metavar="MODULE:CLASS",
        help="the network, if it is your own code: a file's code runs only if you name it here",
    )

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
    from ladseg.studies import is_main_process, train

    assert isinstance(recipe, Recipe)
    results = train(recipe)
    if is_main_process():
        console = Console()
        console.print(results_table(results))
        print(*filter(None, (verdict(results), teacher_remark(results))), sep="\n")
        print(f"weights: {recipe.folder / 'student.safetensors'}")
        print(f"picture: {recipe.folder / 'picture.png'}")


def _eval(known: argparse.Namespace, rest: list[str]) -> None:
    from rich.console import Console

    from ladseg.delivery import iou_table
    from ladseg.studies import evaluate_file

    overrides = (["--data.root", known.data] if known.data else []) + rest
    Console().print(iou_table(evaluate_file(known.weights, overrides, known.split, known.model)))


def _recipes(known: argparse.Namespace, rest: list[str]) -> None:
    from ladseg.recipe import recipe_names, recipe_text

    if known.name:
        print(recipe_text(known.name), end="")
        return
    for name in recipe_names():
        summary = recipe_text(name).splitlines()[0].removeprefix("# ")
        print(f"{name:12} {summary}")


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

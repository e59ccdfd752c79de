"""The commands that need no trained network: init, check, data, recipes, models and bench."""

import argparse
from pathlib import Path

from ladseg.cli.parser import Commands, mapping, number, path, size, sizes
from ladseg.cli.terminal import print_note, print_paragraph, print_sheets, print_tables, terminal_width
from ladseg.errors import ModelError, RecipeError
from ladseg.models.names import list_models


def add_commands(command: Commands) -> None:
    """Add init, check, data, recipes, models and bench."""
    init = command("init", _init, "inspect your images and masks, and print a recipe to train on them")
    init.add_argument("folder", type=path, metavar="DATA", help="the folder of images and masks")
    init.add_argument("--out", type=path, metavar="FILE", help="write the recipe to this new file, such as mine.yaml")

    check = command(
        "check",
        _check,
        "read a whole data set and report its faults; exit code 1 for warnings, 2 for errors",
        takes_recipe_keys=True,
        epilog="--data.KEY VALUE sets any key of a recipe's data section, such as --data.layout voc.",
    )
    check.add_argument("recipe_or_folder", type=path, metavar="RECIPE_OR_FOLDER", help="a recipe, or a data set")
    check.add_argument("--fix-hints", action="store_true", help="print with each finding what to do")
    check.add_argument(
        "--stats", action="store_true", help="print mean and std of the training images' channels, for a recipe"
    )
    check.add_argument("--splits", default="train,val", help="the splits to read (default: train,val)")
    check.add_argument("--json", type=path, metavar="FILE", help="write the report as JSON; - prints only that")
    check.add_argument("--html", type=path, metavar="FILE", help="write the report as a page with pictures")

    data = command("data", _data, "list the layouts of data sets, or show one: tree, ids, source")
    data.add_argument("name", nargs="?", metavar="NAME", help="the layout to show")

    recipes = command("recipes", _recipes, "list the ready recipes, or print one to copy and edit")
    recipes.add_argument("name", nargs="?", metavar="NAME", help="the recipe to print")

    classes = number(int, least=2, most=65536)
    models = command(
        "models",
        _models,
        "list the networks with their parameters and cost",
        epilog=f"The names: {', '.join(list_models())}.",
    )
    models.add_argument(
        "names", nargs="*", metavar="NAME", help="only these; HEAD@BACKBONE and package.module:Class too (default: all)"
    )
    models.add_argument("--classes", type=classes, default=19, metavar="C", help="number of classes (default: 19)")
    models.add_argument("--size", type=size, default=(512, 1024), metavar="HxW", help="image size (default: 512x1024)")
    models.add_argument(
        "--args", type=mapping, metavar="YAML", help="arguments of the networks named, such as '{dropout: 0.1}'"
    )
    models.add_argument("--time", action="store_true", help="measure prediction and training step on this machine")
    models.add_argument("--markdown", action="store_true", help="print Markdown instead of a table for the terminal")

    bench = command(
        "bench",
        _bench,
        "measure the cost of training and prediction on this machine, relative to the networks' own arithmetic",
    )
    bench.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="networks (default: five light ones); or exported files, student.safetensors and folders of runs: the "
        "time of one image on the CPU, compared with torch",
    )
    bench.add_argument(
        "--size",
        type=sizes,
        metavar="HxW",
        help="image size (default: 240x320, on a GPU 512x1024); for files several, such as 256x512,512x1024",
    )
    bench.add_argument(
        "--threads", type=number(int, 1), metavar="N", help="for files: threads (default: the runtime's)"
    )
    bench.add_argument("--model", metavar="MODULE:CLASS", help="for files: their network, if it is your code")
    bench.add_argument("--batch", type=int, metavar="N", help="images of a training step (default: 2)")
    bench.add_argument("--classes", type=classes, metavar="C", help="number of classes (default: 19)")
    bench.add_argument("--parts", metavar="A,B", help="only these of steps, loop, pieces, inference, memory, scaling")
    form = bench.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one object for machines on standard output")
    form.add_argument("--markdown", action="store_true", help="print Markdown instead of tables for the terminal")


def _init(known: argparse.Namespace, keys: list[str]) -> None:
    from ladseg.commands.init import propose_recipe
    from ladseg.files import write_text

    if known.out and Path(known.out).exists():
        raise RecipeError(f"{known.out}: already exists; remove it or give another --out")
    seen, text = propose_recipe(known.folder)
    for line in seen:
        print_note(line)
    if not known.out:
        print(text, end="")
        return
    write_text(known.out, text)
    print_note(f"written: {known.out}; next: ladseg check {known.out}, ladseg train {known.out}")


def _check(known: argparse.Namespace, keys: list[str]) -> int:
    from rich.console import Console

    from ladseg.commands.check import as_json, check, data_yaml, page, stats_yaml
    from ladseg.data.memory import keep_freed_memory
    from ladseg.files import write_text
    from ladseg.report.check_table import print_check

    keep_freed_memory()
    data, report = check(known.recipe_or_folder, keys, known.splits.split(","))
    if known.json == "-":
        print(as_json(report))
    else:
        # Brackets in users' names are not markup.
        print_check(report, Console(markup=False, highlight=False), known.fix_hints)
        if known.fix_hints and Path(known.recipe_or_folder).is_dir():
            print(f"For a recipe:\n{data_yaml(data)}", end="")
        if known.stats:
            print(f"For a recipe, over all pixels of the training images:\n{stats_yaml(data)}", end="")
    for file, text in ((known.json, as_json), (known.html, lambda report: page(data, report))):
        if file and file != "-":
            write_text(file, text(report))
            print_note(f"written: {file}")
    return report.level


def _data(known: argparse.Namespace, keys: list[str]) -> None:
    from ladseg.data import LAYOUTS, get_layout
    from ladseg.report.layout_text import layout_page, layouts_table

    if known.name:
        print(layout_page(get_layout(known.name), terminal_width()))
    else:
        print_tables([layouts_table(LAYOUTS.values())])


def _recipes(known: argparse.Namespace, keys: list[str]) -> None:
    from ladseg.recipe_files import recipe_names, recipe_text

    if known.name:
        print(recipe_text(known.name), end="")
        return
    for name in recipe_names():
        summary = recipe_text(name).splitlines()[0].removeprefix("# ")
        print_paragraph(f"{name:38} {summary}", indent=39)


def _models(known: argparse.Namespace, keys: list[str]) -> int:
    from rich.console import Console
    from rich.progress import track

    from ladseg.measure.model_times import time_model
    from ladseg.models.describe import describe_model
    from ladseg.report.model_table import models_markdown, models_table

    if known.args and not known.names:
        raise RecipeError("--args are of the networks that you name: ladseg models NAME --args '{...}'")
    facts = []
    names = known.names or list_models()
    for name in names:
        try:
            facts.append(describe_model(name, known.classes, known.size, known.args))
        except ModelError as error:  # without names perhaps one whose extra is not installed
            print_note(f"left out: {error}")
    timed = track(facts, "timing", console=Console(stderr=True)) if known.time else ()
    times = {row.name: time_model(row.name, known.classes, known.size, args=known.args) for row in timed}
    title = f"Networks for {known.classes} classes; multiply-accumulates of an image of {known.size[0]}x{known.size[1]}"
    if known.markdown:
        print(models_markdown(facts, times, title), end="")
    elif facts:
        Console(markup=False).print(models_table(facts, times, title))
    return 2 if known.names and len(facts) < len(names) else 0


def _bench(known: argparse.Namespace, keys: list[str]) -> None:
    import json

    import torch

    from ladseg.bench.bench import PARTS, bench
    from ladseg.bench.delivered import is_delivered
    from ladseg.bench.setting import DEFAULT_NETWORKS, Setting
    from ladseg.models import build_model
    from ladseg.report.bench_tables import bench_sheets

    if any(is_delivered(name) for name in known.names):
        _bench_delivered(known)
        return
    if known.threads or known.model or (known.size and len(known.size) > 1):
        raise RecipeError(
            "--threads, --model and several sizes are options for files, such as ladseg bench student.onnx; networks "
            "are named without an option: ladseg bench pspnet_r18"
        )
    parts = known.parts.split(",") if known.parts else list(PARTS)
    if unknown := set(parts) - set(PARTS):
        raise RecipeError(f"--parts: no part is called '{min(unknown)}'; there are {', '.join(PARTS)}")
    batch, classes = 2 if known.batch is None else known.batch, known.classes or 19
    if batch < 2:
        raise RecipeError(f"--batch is {batch}; batch norm needs 2 images at least")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    shape = known.size[0] if known.size else ((512, 1024) if device.type == "cuda" else (240, 320))
    setting = Setting(device, tuple(known.names) or DEFAULT_NETWORKS, shape, batch, classes)
    for name in setting.networks:
        build_model(name, classes)  # reports a wrong name before anything is measured
    results = bench(setting, parts, log=print_note)
    if known.json:
        print(json.dumps(results, indent=2))
        return
    sheets = bench_sheets(results)
    if known.markdown:
        print("\n".join(sheet.markdown() for sheet in sheets), end="")
    else:
        print_sheets(sheets)


def _bench_delivered(known: argparse.Namespace) -> None:
    import json

    from ladseg.bench.delivered import bench_delivered, is_delivered
    from ladseg.report.latency_table import latency_sheet

    if others := [name for name in known.names if not is_delivered(name)]:
        raise RecipeError(f"'{others[0]}' is not a file of a delivered network; name files, or networks, not both")
    if known.parts or known.batch or known.classes:
        raise RecipeError(
            "--parts, --batch and --classes are options for networks; for files only the time of an image is measured"
        )
    results = bench_delivered(known.names, known.size, known.threads, known.model)
    if known.json:
        print(json.dumps(results, indent=2))
        return
    sheet = latency_sheet(results)
    if known.markdown:
        print(sheet.markdown(), end="")
    else:
        print_sheets([sheet])

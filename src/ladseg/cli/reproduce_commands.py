"""The command that reproduces the paper's tables."""

import argparse
from pathlib import Path

from ladseg.cli.parser import Commands, add_sharing_options, path, seeds
from ladseg.cli.terminal import print_line, print_paragraph, print_sheets
from ladseg.errors import RecipeError


def add_commands(command: Commands) -> None:
    """Add reproduce."""
    reproduce = command(
        "reproduce",
        _reproduce,
        "reproduce one of the paper's tables, or list them; repeat the command to resume",
        takes_recipe_keys=True,
        resumes=True,
        epilog="Every key of a recipe can be set here too, such as --data.root DIR or --student.weights FILE; "
        "it applies to all students. docs/reproduce.md says what each table needs.",
    )
    reproduce.add_argument(
        "name", nargs="?", metavar="NAME", help="table-1 to table-9, dinov2, figure-4 (default: a list)"
    )
    reproduce.add_argument("--seeds", metavar="0,1,2", default="0", type=seeds, help="(default: 0)")
    reproduce.add_argument(
        "--only", metavar="A,B", default="", help="only students whose recipe's name has one of these, such as stdc1"
    )
    add_sharing_options(reproduce)
    reproduce.add_argument(
        "--teacher-weights",
        metavar="MODEL=FILE",
        action="append",
        default=[],
        help="initial weights of classic teachers of this network (default: timm's); may be repeated",
    )
    reproduce.add_argument(
        "--scale",
        choices=("full", "tiny"),
        default="full",
        metavar="SCALE",
        help="full, or tiny: small networks on the built-in scenes, whose figures say nothing about the paper",
    )
    reproduce.add_argument(
        "--out", type=path, metavar="DIR", help="(default: runs/reproduce, tiny: runs/reproduce-tiny)"
    )


def _reproduce(known: argparse.Namespace, keys: list[str]) -> None:
    from ladseg.reproduce.experiments import find_experiment
    from ladseg.reproduce.listing import LEGEND, experiments_sheet

    if known.name is None:
        if keys or known.only or known.cell:
            raise RecipeError("reproduce: name what to train, such as table-4; 'ladseg reproduce' lists what there is")
        print_sheets([experiments_sheet()])
        print_paragraph(LEGEND)
        return
    experiment = find_experiment(known.name)
    weights = dict(_pair(word) for word in known.teacher_weights)

    from ladseg.data import write_demo_scenes
    from ladseg.report.reproduced import LEGEND as TABLE_LEGEND
    from ladseg.reproduce.table import Request, reproduce_table
    from ladseg.reproduce.tiny import TRAIN, VAL
    from ladseg.reproduce.write import write_table

    tiny = known.scale == "tiny"
    out = Path(known.out or ("runs/reproduce-tiny" if tiny else "runs/reproduce"))
    only = [word for word in known.only.split(",") if word]
    request = Request(out, known.seeds, only, known.cell, weights, keys, tiny, known.worker)
    if tiny:
        write_demo_scenes(request.scenes, TRAIN, VAL)
    if experiment.is_figure:
        from ladseg.report.contributions import LEGEND as FIGURE_LEGEND
        from ladseg.report.contributions import FigureResults
        from ladseg.reproduce.figure import reproduce_figure
        from ladseg.results import read_json

        written = reproduce_figure(experiment, request, print_line)
        if written is not None:
            figure = read_json(FigureResults, written[1])
            print_line(figure.heading)
            print_sheets([figure.sheet])
            print_paragraph(FIGURE_LEGEND)
            print_line(f"written: {', '.join(map(str, written))}")
        return
    table = reproduce_table(experiment, request, print_line)
    if table is not None:
        files = write_table(out, table)
        print_line(table.heading)
        print_sheets(table.sheets)
        for line in (TABLE_LEGEND, *table.differences, *filter(None, [table.remark])):
            print_paragraph(line)
        print_line(f"written: {', '.join(map(str, files))}")


def _pair(word: str) -> tuple[str, str]:
    model, equals, file = word.partition("=")
    if not equals or not model or not file:
        raise RecipeError(f"--teacher-weights {word}: write MODEL=FILE, such as deeplabv3_r101=resnet101.pth")
    return model, file

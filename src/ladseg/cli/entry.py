"""``main``: the commands and what they have in common."""

import argparse
import logging
import sys
from collections.abc import Sequence

from ladseg.cli import looking, training, weights
from ladseg.cli.commands import Commands
from ladseg.errors import UserError

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
  ladseg bench                         what a step costs on this machine, and why
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it did its work, 2 with one line on standard error if the user must act.

    ``check`` gives its own: 1 for warnings, 2 for errors in the data.
    """
    parser, commands = make_parser()
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


def make_parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser of the command line, and those of its commands by name."""
    parser = argparse.ArgumentParser(
        "ladseg",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = Commands(parser)
    training.add_commands(commands)
    weights.add_commands(commands)
    looking.add_commands(commands)
    return parser, commands.parsers

"""The command that trains the paper's tables anew."""

import argparse

from ladseg.cli.parser import Commands
from ladseg.cli.terminal import print_line, print_tables


def add_commands(command: Commands) -> None:
    """Add reproduce."""
    command("reproduce", _reproduce, "list the paper's tables: what each holds, needs and costs")


def _reproduce(known: argparse.Namespace, keys: list[str]) -> None:
    from ladseg.reproduce.listing import LEGEND, experiments_sheet

    print_tables([experiments_sheet().terminal()])
    print_line(LEGEND)

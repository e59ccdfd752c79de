"""The commands that the parser knows."""

import argparse
from collections.abc import Callable

Run = Callable[[argparse.Namespace, list[str]], int | None]


class Commands:
    """Adds commands to a parser; ``parsers`` has each by its name."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
        self.parsers: dict[str, argparse.ArgumentParser] = {}

    def __call__(
        self, name: str, run: Run, summary: str, keys: bool = False, epilog: str = ""
    ) -> argparse.ArgumentParser:
        """A new command; with ``keys`` it takes words that it does not know, as keys of a recipe."""
        command = self._subparsers.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.set_defaults(run=run, takes_recipe_keys=keys)
        self.parsers[name] = command
        return command

"""The parser of the command line, with its commands, types of values, suggestions and shell completion."""

import argparse
import dataclasses
import math
from collections.abc import Callable
from typing import Any, NoReturn, get_args

from ladseg.errors import RecipeError, nearest, printable
from ladseg.folding import folded

Run = Callable[[argparse.Namespace, list[str]], int | None]
SHELLS = ("bash", "zsh", "tcsh")
LARGEST_SIDE, LARGEST_SCALE = 65536, 16


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of descriptions, and folds those that are wider than the terminal under their own indent."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "".join("\n".join(folded(indent + line, width)) + "\n" for line in text.splitlines())


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line and suggest the nearest known name.

    Args:
        lists_keys_of: The recipe of which ``--help`` lists every key too, with its value: a ready one's name, or
            ``default``. None for no list.
    """

    def __init__(self, prog: str, lists_keys_of: str | None = None, **options: Any) -> None:
        options |= {"formatter_class": HelpFormatter, "allow_abbrev": False}
        super().__init__(prog, **options)
        self.lists_keys_of = lists_keys_of

    def format_help(self) -> str:
        if self.lists_keys_of:
            from ladseg.recipe_files import keys_help, load_recipe

            ready = None if self.lists_keys_of == "default" else load_recipe(self.lists_keys_of)
            self.epilog = "Every key of a recipe can be set here too:\n\n" + keys_help(ready)
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        joint = " " if message.endswith("?") else "; "
        self.exit(2, f"{self.prog}: {printable(message)}{joint}see '{self.prog} --help'\n")

    def unrecognized(self, words: list[str]) -> NoReturn:
        """Exit with a line that suggests the nearest option."""
        close = nearest(words[0], self.flags()) if words[0].startswith("--") else ""
        self.error(f"unrecognized arguments: {' '.join(words)}{close}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        # The public message lists the choices, but suggests none.
        if action.choices is None or value in action.choices:
            return
        choices = [*map(str, action.choices)]
        if isinstance(action, argparse._SubParsersAction):
            raise argparse.ArgumentError(None, f"unknown command '{value}'{nearest(value, choices)}")
        hint = nearest(value, choices, listed=False)
        name = action.option_strings[0]
        raise argparse.ArgumentError(None, f"{name} is '{value}'; it must be one of {', '.join(choices)}{hint}")

    def flags(self) -> list[str]:
        """Return the long options, such as ``--out``."""
        return [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]


class Commands:
    """Adds commands to a parser; ``parsers`` has each by its name."""

    def __init__(self, parser: Parser) -> None:
        self._subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
        self.parsers: dict[str, Parser] = {}

    def __call__(
        self,
        name: str,
        run: Run,
        summary: str,
        *,
        takes_recipe_keys: bool = False,
        resumes: bool = False,
        **options: Any,
    ) -> Parser:
        """Add a command.

        Args:
            name: The word that the user types.
            run: Called with the parsed arguments and the remaining ones; returns the exit code, None for 0.
            summary: One line of help.
            takes_recipe_keys: Whether arguments that the command does not know are keys of a recipe.
            resumes: Whether the same command resumes interrupted work.
            options: Arguments of :class:`Parser`.
        """
        command = self._subparsers.add_parser(
            name, help=summary, description=summary[0].upper() + summary[1:] + ".", **options
        )
        command.set_defaults(run=run, takes_recipe_keys=takes_recipe_keys, resumes=resumes)
        self.parsers[name] = command
        return command


def add_sharing_options(command: Parser) -> None:
    """Add the options by which several processes train the cells of one folder."""
    command.add_argument(
        "--cell",
        metavar="METHOD:SEED",
        action="append",
        type=cell,
        help="train only this one, while others may be trained elsewhere in the same folder; may be repeated",
    )
    command.add_argument(
        "--worker", action="store_true", help="train what no other process trains, and end when nothing is left"
    )


def split_recipe_keys(words: list[str], command: Parser) -> tuple[list[str], list[str]]:
    """Split the words after a command into its own and ``--key value`` pairs of a recipe.

    argparse would take the value of an unknown option for a positional argument.
    """
    from ladseg.recipe_files import refuse_unknown_path

    own: list[str] = []
    pairs: list[str] = []
    remaining = iter(words)
    for word in remaining:
        flag, equals, value = word.partition("=")
        if not flag.startswith("--") or flag == "--" or flag in command.flags():
            own.append(word)
            continue
        refuse_unknown_path(flag[2:], [own_flag[2:] for own_flag in command.flags()])
        if not equals and (value := next(remaining, "--")).startswith("--"):
            raise RecipeError(f"command line: {flag} needs a value")
        pairs += [flag, value]
    return own, pairs


class PrintCompletion(argparse.Action):
    """Print the script that lets a shell complete commands, options and recipe keys."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: object, shell: Any, option: object = None) -> None:
        import shtab

        for action in parser._actions:
            for command in action.choices.values() if isinstance(action, argparse._SubParsersAction) else ():
                if command.get_default("takes_recipe_keys"):
                    _add_recipe_keys(command)
        print(shtab.complete(parser, shell))
        parser.exit()


def _add_recipe_keys(command: Parser) -> None:
    """Add the keys of a recipe as options, for completion only."""
    from ladseg.recipe import Recipe

    for section in dataclasses.fields(Recipe):
        inner = dataclasses.fields(section.type) if dataclasses.is_dataclass(section.type) else ()
        for name, kind in [(section.name, section.type), *((f"{section.name}.{f.name}", f.type) for f in inner)]:
            if f"--{name}" not in command.flags():
                command.add_argument(
                    f"--{name}", choices=[arg for arg in get_args(kind) if isinstance(arg, str)] or None
                )


def number(kind: type[int] | type[float], least: float, most: float = math.inf) -> Callable[[str], Any]:
    """Return an argument type for numbers from ``least`` to ``most``."""

    def read(word: str) -> int | float:
        try:
            value = kind(word)
        except ValueError:
            value = kind(least) - 1
        if not least <= value <= most or math.isinf(value):
            of = "a whole number" if kind is int else "a number"
            span = f"of at least {least}" if most == math.inf else f"from {least} to {most}"
            raise argparse.ArgumentTypeError(f"'{word}' is not {of} {span}")
        return value

    return read


def path(word: str) -> str:
    """Parse a path, replacing ``~`` and ``$VARIABLE`` even where a shell would not, as in ``--out=~/runs``."""
    from ladseg.recipe_files import expanded

    if not word:
        raise argparse.ArgumentTypeError("the path is empty, as that of an unset variable is; name one or leave it out")
    return expanded(word)


def seeds(word: str) -> list[int]:
    """Parse a list of different seeds."""
    found = word.split(",")
    if not all(seed.isascii() and seed.isdigit() for seed in found):
        raise argparse.ArgumentTypeError(f"'{word}' is not a list of seeds, such as 0,1,2")
    numbers = [int(seed) for seed in found]
    if len(set(numbers)) < len(numbers):
        raise argparse.ArgumentTypeError(f"'{word}' names a seed twice; each seed is one repetition")
    return numbers


def lengths(word: str) -> list[int]:
    """Parse a list of training lengths, as multiples of the schedule."""
    found = word.split(",")
    if not all(length.isascii() and length.isdigit() and int(length) > 0 for length in found):
        raise argparse.ArgumentTypeError(f"'{word}' is not a list of whole multiples, such as 1,2,4,8")
    return sorted({1, *map(int, found)})


def cell(word: str) -> tuple[str, int]:
    """Parse the method and seed of one cell of a comparison."""
    method, _, seed = word.rpartition(":")
    if not method or not (seed.isascii() and seed.isdigit()):
        raise argparse.ArgumentTypeError(f"'{word}' is not METHOD:SEED, such as lad:0")
    return method, int(seed)


def setting(word: str) -> tuple[str, int | str]:
    """Parse ``KEY=VALUE``; a whole number becomes an int."""
    key, equals, value = word.partition("=")
    if not equals or not key.isidentifier() or not value:
        raise RecipeError(f"--slurm is '{word}'; write KEY=VALUE, such as slurm_partition=gpu")
    return key, int(value) if value.isascii() and value.isdigit() else value


def scales(word: str) -> tuple[float, ...]:
    """Parse a list of image scales."""
    try:
        factors = tuple(float(scale) for scale in word.split(","))
    except ValueError:
        factors = ()
    if not factors or not all(0 < factor <= LARGEST_SCALE for factor in factors):
        raise argparse.ArgumentTypeError(
            f"'{word}' is not a list of factors up to {LARGEST_SCALE}, such as 0.75,1,1.25"
        )
    return factors


def share(word: str) -> float:
    """Parse a number above 0 and up to 1."""
    try:
        value = float(word)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"'{word}' is not a number above 0 and up to 1, such as 0.005")
    return value


def size(word: str) -> tuple[int, int]:
    """Parse height and width in pixels."""
    height, _, width = word.lower().partition("x")
    if not all(side.isascii() and side.isdigit() and 0 < int(side) <= LARGEST_SIDE for side in (height, width)):
        raise argparse.ArgumentTypeError(
            f"'{word}' is not HEIGHTxWIDTH, such as 512x1024, with sides from 1 to {LARGEST_SIDE}"
        )
    return int(height), int(width)


def mapping(word: str) -> dict[str, Any]:
    """Type of a mapping in YAML."""
    import yaml

    try:
        value = yaml.safe_load(word)
    except yaml.YAMLError:
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"'{word}' is not a mapping, such as '{{width: 32}}'")
    return value


def sizes(word: str) -> list[tuple[int, int]]:
    """Parse a list of heights and widths in pixels."""
    return [size(part) for part in word.split(",")]

"""The function ``main``, which parses, runs one command, and turns errors into one line and an exit code."""

import errno
import logging
import os
import platform
import shlex
import signal
import sys
import tempfile
import threading
import traceback
from argparse import Namespace
from collections.abc import Sequence
from types import FrameType

from ladseg import __version__
from ladseg.cli import listing_commands, network_commands, reproduce_commands, training_commands
from ladseg.cli.parser import SHELLS, Commands, Parser, PrintCompletion, split_recipe_keys
from ladseg.cli.terminal import escape_what_cannot_be_encoded, print_note
from ladseg.errors import UserError, first_words

DESCRIPTION = """\
Make a light semantic-segmentation network more accurate at no run-time cost,
by label-assisted distillation.

  ladseg demo                                 see it work on built-in scenes
  ladseg init path/to/data --out mine.yaml    a recipe for your own data
  ladseg check mine.yaml                      the data's contents and faults
  ladseg train mine.yaml                      student alone, teacher, student
  ladseg compare mine.yaml                    compare methods over seeds
  ladseg eval runs/NAME                       its accuracy, class by class
  ladseg report runs/NAME                     write the report of a run again
  ladseg predict runs/NAME IMAGES --out DIR   masks and overlays of images
  ladseg export runs/NAME --to onnx           write it for other runtimes
  ladseg models                               the networks and what they cost
  ladseg reproduce                            the paper's tables by command
  ladseg bench                                what a training step costs here
"""
USER_ERROR, INTERNAL_ERROR, INTERRUPTED = 2, 3, 130
# Errors by which the operating system refuses, which are not bugs of ladseg.
REFUSED = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
# A folder is to be made where a file is.
IN_THE_WAY = {errno.ENOTDIR, errno.EEXIST}
# Characters that a message repeats of a path that is too long.
SHOWN = 80


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: The words after ``ladseg``; None takes those of the process.

    Returns:
        The exit code: 0 for success, 2 if the user must act (one line on standard error says how), 3 for a bug in
        ladseg (one line names the file of the traceback), 130 after Ctrl-C. ``check`` returns 1 for warnings and 2 for
        errors in the data, ``predict`` 1 if inputs were left out.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    known = Namespace(resumes=False)
    threading.excepthook = _report_thread
    pressed = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    try:
        _note_interrupts(pressed)
        escape_what_cannot_be_encoded()
        known, keys = parse(words)
        logging.basicConfig(level=logging.WARNING, format="%(message)s")
        logging.getLogger("huggingface_hub").propagate = False  # it prints its lines itself
        return known.run(known, keys) or 0
    except UserError as error:
        return _fail(str(error), USER_ERROR)
    except KeyboardInterrupt:
        return _stopped(known)
    except BrokenPipeError:
        # The reader has closed the pipe, as in `ladseg recipes | head -1`, but Python flushes standard output at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if pressed.is_set():  # while a package was loading, which took the interrupt for a fault of its own
            return _stopped(known)
        if reason := _reason(error, known):
            return _fail(reason, USER_ERROR)
        return _fail(f"internal error: {type(error).__name__}: {_write_trace(words, error)}", INTERNAL_ERROR)
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


def parse(words: list[str]) -> tuple[Namespace, list[str]]:
    """Return the parsed arguments and, as ``--key value`` words, the recipe keys among them."""
    parser, commands = make_parser()
    keys: list[str] = []
    name = next((word for word in words if not word.startswith("-")), None)
    if name in commands and commands[name].get_default("takes_recipe_keys"):
        start = words.index(name) + 1
        own, keys = split_recipe_keys(words[start:], commands[name])
        words = [*words[:start], *own]
    known, rest = parser.parse_known_args(words)
    if rest:
        commands[known.command].unrecognized(rest)
    return known, keys


def make_parser() -> tuple[Parser, dict[str, Parser]]:
    """Return the parser of the command line, and those of its commands by name."""
    parser = Parser("ladseg", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"ladseg {__version__}")
    parser.add_argument(
        "--print-completion",
        action=PrintCompletion,
        choices=SHELLS,
        metavar="SHELL",
        help="print the completion script for bash, zsh or tcsh",
    )
    commands = Commands(parser)
    training_commands.add_commands(commands)
    reproduce_commands.add_commands(commands)
    network_commands.add_commands(commands)
    listing_commands.add_commands(commands)
    return parser, commands.parsers


def _note_interrupts(pressed: threading.Event) -> None:
    """Set ``pressed`` at Ctrl-C, which otherwise acts as always."""

    def note(number: int, frame: FrameType | None) -> None:
        pressed.set()
        signal.default_int_handler(number, frame)

    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, note)


def _stopped(known: Namespace) -> int:
    _say("stopped" + ("; the same command continues from the last checkpoint" if known.resumes else ""))
    return INTERRUPTED


def _report_thread(failed: threading.ExceptHookArgs) -> None:
    """Print the trace of a thread, unless it can't write: the main thread says that in one line."""
    if not isinstance(failed.exc_value, OSError):
        threading.__excepthook__(failed)


def _say(line: str) -> None:
    print_note(f"ladseg: {line}")


def _fail(line: str, code: int) -> int:
    _say(line)
    return code


def _reason(error: Exception, known: Namespace) -> str | None:
    """Return which resource the machine lacks, if that caused the error; else None."""
    if isinstance(error, OSError) and error.errno in REFUSED:
        where = f": {os.fsdecode(error.filename)}" if error.filename is not None else ""
        return f"{error.strerror}{where}; free space or choose a folder that you may write to"
    if isinstance(error, OSError) and error.errno in IN_THE_WAY:
        return f"{os.fsdecode(error.filename)}: {error.strerror}; a file is in the way, write to another place"
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return f"{os.fsdecode(error.filename or '')[:SHOWN]}...: {error.strerror}; give a shorter path"
    # On a CPU without free memory, torch raises a plain RuntimeError.
    words = ("DefaultCPUAllocator", "can't allocate memory", "not enough memory")
    if (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and any(word in str(error) for word in words))
    ):
        remedy = (
            "--window HxW (predict in parts)"
            if hasattr(known, "window")
            else "schedule.batch_size or schedule.crop; if images of val are too large, schedule.eval_window"
        )
        return f"out of memory: {first_words(error)}; set a smaller {remedy}"
    return None


def _write_trace(words: list[str], error: Exception) -> str:
    """Write the traceback and the versions to a new file; return a line that names the file."""
    handle, path = tempfile.mkstemp(prefix="ladseg-error-", suffix=".txt")
    with open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
        print(f"ladseg {__version__}, Python {platform.python_version()}, {platform.platform()}", file=file)
        print(f"command: {shlex.join(['ladseg', *words])}\n", file=file)
        file.writelines(traceback.format_exception(error))
    return f"{first_words(error)}; the full trace is in {path}; please report it with that file"

"""Errors that a user can correct.

Every message is one line that says what is wrong, names the value or file, and says what to do. The command line
prints it without a traceback and exits with status 2. Any other exception is a bug in ladseg.
"""

import difflib
import re
import unicodedata
from collections.abc import Sequence

# Marks that set the direction of what follows: a name with them may look like another one.
TURNS_TEXT = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# Halves of a surrogate pair, as JSON can hold them, except those by which Python stands for bytes that are not UTF-8.
LONE_SURROGATES = re.compile("[\ud800-\udc7f\udd00-\udfff]")


def printable(text: str) -> str:
    """Return the text as one line that is safe to print, with control characters and bytes that are not UTF-8 escaped.

    Names of files and classes may hold line breaks, terminal escape sequences and arbitrary bytes.
    """
    text = LONE_SURROGATES.sub(lambda found: repr(found[0])[1:-1], text)
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def control_character(name: str) -> str | None:
    """Return the escape of the first character of a name that commands a terminal or turns text around, else None."""
    found = (c for c in name if unicodedata.category(c) in ("Cc", "Zl", "Zp", "Cs") or c in TURNS_TEXT)
    return next((repr(character)[1:-1] for character in found), None)


def first_words(error: Exception) -> str:
    """Return the beginning of an exception's message in one line, or its type's name if the message is empty."""
    # torch puts colour codes into some of its messages.
    return " ".join(re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", str(error)).split())[:300] or type(error).__name__


def nearest(word: str, known: Sequence[str], listed: bool = True) -> str:
    """Return the end of a message about an unknown word: the most similar known word, or all known words.

    Args:
        word: The unknown word.
        known: The known words.
        listed: Whether to list all known words if none is similar.
    """
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(known)}" if listed else ""


class UserError(Exception):
    """The base class of every error that the user, not the programmer, can correct."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class RecipeError(UserError):
    """A recipe that is missing, unreadable or inconsistent."""


class DataError(UserError):
    """A data set that cannot be used for training or evaluation; the message names the file."""


class FileError(DataError):
    """A file of a data set that cannot be used.

    Attributes:
        file: The name of the file.
        what: What is wrong with the file.
        hint: What the user should do.
    """

    def __init__(self, file: object, what: str, hint: str) -> None:
        super().__init__(f"{file}: {what}; {hint}")
        self.file, self.what, self.hint = str(file), what, hint

    def __reduce__(self) -> tuple[type["FileError"], tuple[str, str, str]]:
        # By default, an exception is pickled as its message alone.
        return FileError, (self.file, self.what, self.hint)


class ModelError(UserError):
    """A network name, weights file or input layer that does not fit."""


class TrainingError(UserError):
    """A run that cannot continue, as after a non-finite loss or with a checkpoint of another recipe."""

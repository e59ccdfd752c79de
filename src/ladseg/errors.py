"""Errors that a user can put right.

Every message is one line: what is wrong, the value or file, and the way out. The command line prints
that line without a traceback and exits with status 2. Any other exception is a bug in ladseg.
"""

import difflib
from collections.abc import Sequence


def printable(text: str) -> str:
    """Return the text as one line of valid UTF-8: file names may hold line breaks and arbitrary bytes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").replace("\n", "\\n")


def first_words(error: Exception) -> str:
    """Return the beginning of an exception's message in one line, or its type's name if the message is empty."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def nearest(word: str, known: Sequence[str]) -> str:
    """Return the end of a message about an unknown word: the most similar known word, or all known words."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(known)}"


class UserError(Exception):
    """Base class of every error that the user, not the programmer, can put right."""

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


class ModelError(UserError):
    """A network name, weights file or input layer that does not fit."""


class TrainingError(UserError):
    """A run that cannot go on: a non-finite loss, a checkpoint of another recipe."""

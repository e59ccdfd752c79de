"""What a user did or has that ladseg cannot work with.

Every message is one line: what is wrong, the value or file, and the way out. The command line prints
that line without a traceback and exits with status 2; anything else that is raised is a bug of ours.
"""

import difflib
from collections.abc import Sequence


def printable(text: str) -> str:
    """One line that any terminal takes: file names may hold line breaks and bytes that are no UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").replace("\n", "\\n")


def first_words(error: Exception, length: int = 100) -> str:
    """The beginning of another library's message, in one line."""
    return " ".join(str(error).split())[:length] or type(error).__name__


def nearest(word: str, known: Sequence[str]) -> str:
    """The end of a message about an unknown word: the known one that it may have meant, or all of them."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(known)}"


class UserError(Exception):
    """Base of every error that the user, not the programmer, can put right."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class RecipeError(UserError):
    """A recipe that is missing, unreadable or inconsistent."""


class DataError(UserError):
    """A data set that cannot be trained on or measured with; the message names the file."""


class FileError(DataError):
    """One file of a data set that can't be used.

    Attributes:
        file: Its name.
        what: What is wrong with it.
        hint: What to do.
    """

    def __init__(self, file: object, what: str, hint: str) -> None:
        super().__init__(f"{file}: {what}; {hint}")
        self.file, self.what, self.hint = str(file), what, hint


class ModelError(UserError):
    """A network name, weights file or input layer that does not fit."""


class TrainingError(UserError):
    """A run that cannot go on: a non-finite loss, a checkpoint of another recipe."""

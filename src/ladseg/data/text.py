"""Text files that a user or a publisher wrote."""

from pathlib import Path

from ladseg.errors import DataError, first_words


def read_text(path: Path, kind: str = "text") -> str:
    """Return the content without a byte-order mark.

    Raises:
        DataError: The file is missing or not UTF-8, or no file can have its name; the message says that it can't be
            read as ``kind``.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: can't be read as {kind} ({first_words(error)})") from None

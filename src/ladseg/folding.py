"""Fold text to a width between words, never within one, so that names and paths stay whole."""

import textwrap


def folded(line: str, width: int, hang: int = 0) -> list[str]:
    """Return the lines of a text; those below the first are indented by ``hang`` spaces more than it."""
    text = line.lstrip()
    indent = " " * (len(line) - len(text))
    return textwrap.wrap(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=indent + " " * hang,
        break_long_words=False,
        break_on_hyphens=False,
    )

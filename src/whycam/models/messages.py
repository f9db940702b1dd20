"""Fit foreign text, such as an exception's or a file's key, into a one-line message."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


def one_line(text: object, limit: int = 200) -> str:
    """Give ``str(text)`` on one line of at most ``limit`` characters, unprintable ones as spaces."""
    # a checkpoint's key may carry terminal escape codes: they must not reach the terminal
    printable = "".join(character if character.isprintable() else " " for character in str(text)[: 8 * limit])
    line = " ".join(printable.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


def some_of(names: Iterable[object], most: int = 4) -> str:
    """List the first ``most`` names, quoted, and how many more there are."""
    listed = list(names)
    shown = ", ".join(f"'{one_line(name, 80)}'" for name in listed[:most])
    return shown if len(listed) <= most else f"{shown} and {len(listed) - most} more"


def or_nothing_close(name: str, known: Sequence[str]) -> str:
    """Give ``"; did you mean 'a', 'b'?"`` for the known names close to ``name``, or an empty text."""
    close = get_close_matches(name, known, n=3, cutoff=0.6)
    return f"; did you mean {some_of(close)}?" if close else ""

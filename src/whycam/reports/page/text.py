"""Text and numbers for the page: nothing in them ends a script, turns a line around or breaks an encoding."""

import json
import math
from collections.abc import Iterable

from whycam.data.printable import printable

# Inside <script> only these can end the element or begin a comment; JSON reads their escapes back.
_ESCAPES = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026"}


def shown(text: object) -> str:
    """Return text as the page shows it: what is invisible or turns the reading direction is escaped."""
    said = str(text)
    # ten thousand names are looked at letter by letter only where one is not what it seems
    return said if said.isprintable() else printable(said)


def script_json(value: object) -> str:
    """Return JSON in ASCII that may stand in a ``<script>`` element and in a script file.

    Raises ValueError for numbers that are not finite; ``number`` makes them None.
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.translate(_ESCAPES)


def number(value: float | None) -> float | None:
    """Return a number with six digits, None where it is not finite."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.6g}")


class Vocabulary:
    """Texts by number, each held once: ten thousand images share a few class names."""

    def __init__(self) -> None:
        """Begin without a text."""
        self._numbers: dict[str, int] = {}

    def code(self, text: str | None) -> int:
        """Return the text's number, -1 for None."""
        return -1 if text is None else self._numbers.setdefault(text, len(self._numbers))

    @property
    def texts(self) -> Iterable[str]:
        """All texts in the order of their numbers."""
        return self._numbers

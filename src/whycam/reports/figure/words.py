"""Names as a figure can draw them."""

import warnings
from collections.abc import Sequence

from whycam.render import MissingGlyphWarning, printable
from whycam.render.fonts import needs_shaping, tidy
from whycam.reports.figure.typefaces import letters_are_joined
from whycam.rows import name_of


def class_text(index: int, class_names: Sequence[str] | None) -> str:
    """Return a class's name where a font can draw it, else its index."""
    name = name_of(index, class_names)
    return f"class {index}" if name is None else named(name, f"class {index}")


def named(name: str, fallback: str) -> str:
    """Return a name if it can be drawn as it is read, else what stands for it, with a MissingGlyphWarning."""
    if needs_shaping(tidy(name)) and not letters_are_joined():
        warnings.warn(
            f"{name!a} cannot be drawn: this matplotlib joins no letters. {fallback!a} is drawn instead. "
            "pip install 'matplotlib>=3.11'.",
            MissingGlyphWarning,
            stacklevel=2,
        )
        return fallback
    return printable(name, fallback)

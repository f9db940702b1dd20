"""Text in any script on a picture: every character has a glyph, or what stands for it has.

All text is drawn through Pillow, which shapes right-to-left and joining scripts when it has libraqm;
without it such text is never drawn letter by letter but replaced.
"""

import re
import unicodedata
import warnings
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

from PIL import ImageDraw, ImageFont

from whycam.render.fonts import (
    JOINERS,
    Face,
    face_for,
    font_for,
    needs_shaping,
    shaping_available,
    tidy,
)

__all__ = [
    "MissingGlyphWarning",
    "draw_text",
    "drawable",
    "font_for",
    "line_height",
    "printable",
    "shorten",
    "text_width",
    "wrap",
]

ASCENT, DESCENT = 1.16, 0.30
"""Room above and below the baseline in em: what Noto Sans CJK, the tallest font we bring, asks for."""

ELLIPSIS = "…"

LANGUAGES = (("HIRAGANA", "ja"), ("KATAKANA", "ja"), ("HANGUL", "ko"), ("CJK", "zh-Hans"))
"""Which forms of Han characters to draw, by a word in a character's Unicode name; one font has all."""


class MissingGlyphWarning(UserWarning):
    """A text has characters that no installed font can draw; something else is drawn in its place."""


@dataclass(frozen=True)
class Run:
    """A piece of a line that is drawn with one font in one direction."""

    text: str
    face: Face
    rtl: bool


def printable(text: str, fallback: str) -> str:
    """Return the text if fonts have a glyph for all of it, else ``fallback`` with a MissingGlyphWarning.

    For class names, with the class index as fallback: an empty box is never drawn. `draw_text` draws
    whatever this returns; for other software ask `font_for`, which wants one font for all of it.
    """
    missing = _undrawable(tidy(text))
    if not missing:
        return text
    _warn(text, missing, instead=fallback)
    return fallback


def drawable(text: str) -> str:
    """Return the text as one line that can be drawn; what no font has becomes its escape, such as \\u732b.

    Issues a MissingGlyphWarning when something is escaped.
    """
    line = tidy(text)
    missing = _undrawable(line)
    if not missing:
        return line
    escaped = "".join(
        letter.encode("ascii", "backslashreplace").decode("ascii") if letter in missing else letter
        for letter in _letters(line)
    )
    _warn(text, missing, instead=escaped)
    return escaped


def draw_text(
    draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, *, size: float, fill: str | tuple[int, ...]
) -> None:
    """Draw one line; ``at`` is the left end of its baseline, ``size`` the em in pixels.

    Issues a MissingGlyphWarning as `drawable` does.
    """
    x, y = at
    for run in runs(text):
        direction, language = _layout(run)
        draw.text(
            (x, y),
            run.text,
            font=_font(run.face, size),
            fill=fill,
            anchor="ls",
            direction=direction,
            language=language,
        )
        x += _run_width(run, size)


def text_width(text: str, size: float) -> float:
    """Return the width in pixels that `draw_text` takes for a line, ``size`` the em in pixels."""
    return sum((_run_width(run, size) for run in runs(text)), start=0.0)


def line_height(size: float) -> float:
    """Return the height in pixels of one line, ``size`` the em in pixels; its baseline is ASCENT em down."""
    return (ASCENT + DESCENT) * size


def shorten(text: str, width: float, size: float) -> str:
    """Cut the middle out of a line until it fits ``width`` pixels; both ends of a name tell it apart.

    Accents stay with their letters. Nothing is left ("") where not even the ellipsis fits.
    """
    line = drawable(text)
    if text_width(line, size) <= width:
        return line
    letters = _letters(line)
    low, high = -1, len(letters) - 1
    while low < high:  # the greatest number of kept letters that fits
        kept = (low + high + 1) // 2
        low, high = (kept, high) if text_width(_cut(letters, kept), size) <= width else (low, kept - 1)
    return _cut(letters, low) if low >= 0 else ""


def wrap(text: str, width: float, size: float) -> list[str]:
    """Break a text into lines at plain spaces; a word wider than a line is shortened."""
    lines: list[str] = []
    for word in filter(None, (drawable(word) for word in text.split(" "))):
        if lines and text_width(f"{lines[-1]} {word}", size) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(shorten(word, width, size))
    return lines


def _cut(letters: list[str], kept: int) -> str:
    head = (kept + 1) // 2
    tail = len(letters) - (kept - head)
    return "".join(letters[:head]).rstrip() + ELLIPSIS + "".join(letters[tail:]).lstrip()


def runs(text: str) -> list[Run]:
    """Split a line into runs, left to right.

    A phrase of right-to-left words is one run, so that it does not turn what stands beside it around.
    """
    return [run for phrase, rtl in _phrases(drawable(text)) for run in _in_faces(phrase, rtl=rtl)]


def _phrases(line: str) -> list[tuple[str, bool]]:
    """Cut a line into phrases and whether each reads right to left.

    Spaces and numbers read as their neighbours do, left to right where those differ.
    """
    words = re.findall(r"\s+|\S+", line)
    kinds = [_direction(word) for word in words]
    before = _last_known(kinds)
    after = _last_known(kinds[::-1])[::-1]
    rtl = [left == right == "rtl" for left, right in zip(before, after, strict=True)]
    pairs = groupby(zip(words, rtl, strict=True), key=lambda pair: pair[1])
    return [("".join(word for word, _ in group), direction) for direction, group in pairs]


def _direction(word: str) -> str | None:
    """Return a word's own direction, None for spaces and numbers."""
    if not word.strip() or word.isdecimal():
        return None
    directions = {unicodedata.bidirectional(character) for character in word}
    return "rtl" if "L" not in directions and directions & {"R", "AL"} else "ltr"


def _last_known(kinds: list[str | None]) -> list[str]:
    last, known = "ltr", []
    for kind in kinds:
        last = kind or last
        known.append(last)
    return known


def _in_faces(phrase: str, *, rtl: bool) -> list[Run]:
    """Give each word of a phrase one face if one has all of it, else each letter, and join the like.

    A right-to-left phrase gets one face for all of it if it can, so that it is laid out as a whole.
    """
    face = face_for(phrase) if rtl else None
    if face:
        return [Run(phrase, face, rtl)]
    pieces = [piece for word in re.findall(r"\s+|\S+", phrase) for piece in _pieces(word)]
    grouped = groupby(pieces, key=lambda piece: piece[1])
    found = [Run("".join(text for text, _ in group), face, rtl) for face, group in grouped]
    return found[::-1] if rtl else found


def _pieces(word: str) -> list[tuple[str, Face]]:
    """Return a word whole where one face has all of it, else its letters; each with its face."""
    face = face_for(word)
    if face:
        return [(word, face)]
    return [(letter, face) for letter in _letters(word) if (face := face_for(letter))]


def _undrawable(line: str) -> list[str]:
    if face_for(line):
        return []
    return [letter for letter in dict.fromkeys(_letters(line)) if face_for(letter) is None]


def _letters(line: str) -> list[str]:
    """Cut a line into letters, each with its combining marks and joiners."""
    letters: list[str] = []
    for character in line:
        attaches = unicodedata.category(character) in {"Mn", "Mc", "Me"} or character in JOINERS
        if letters and (attaches or letters[-1].endswith("\u200d")):
            letters[-1] += character
        else:
            letters.append(character)
    return letters


def _warn(text: str, missing: list[str], instead: str) -> None:
    shown = ", ".join(ascii(letter)[1:-1] for letter in missing[:4]) + (", ..." if len(missing) > 4 else "")
    if not shaping_available() and needs_shaping("".join(missing)):
        why = f"this Pillow has no libraqm to lay out {shown}"
        mend = "Install Pillow from a wheel that has it"
    else:
        why = f"no installed font has {shown}"
        mend = "Install one; pip install 'whycam[fonts]' brings Chinese, Japanese and Korean"
    warnings.warn(
        f"{text!a} cannot be drawn: {why}. {instead!a} is drawn instead. {mend}.",
        MissingGlyphWarning,
        stacklevel=3,
    )


def _run_width(run: Run, size: float) -> float:
    direction, language = _layout(run)
    return _font(run.face, size).getlength(run.text, direction=direction, language=language)


def _layout(run: Run) -> tuple[str | None, str | None]:
    """Return a run's direction and language for Pillow, which takes them only when it can shape."""
    if not shaping_available():
        return None, None
    return "rtl" if run.rtl else "ltr", language_of(run.text)


def language_of(text: str) -> str | None:
    """Return the language whose forms of Han characters a text is to be drawn in; None where it has none."""
    names = {unicodedata.name(character, "").split(" ")[0] for character in text}
    return next((language for script, language in LANGUAGES if script in names), None)


def _font(face: Face, size: float) -> ImageFont.FreeTypeFont:
    return _loaded(face, size, ImageFont.Layout.RAQM if shaping_available() else ImageFont.Layout.BASIC)


@lru_cache(maxsize=256)
def _loaded(face: Face, size: float, engine: ImageFont.Layout) -> ImageFont.FreeTypeFont:
    font = ImageFont.truetype(face.path, size, index=face.index, layout_engine=engine)
    try:
        axes = font.get_variation_axes()
    except (OSError, NotImplementedError):  # not a variable font, or a FreeType that knows none
        return font
    font.set_variation_by_axes([_axis_position(axis) for axis in axes])
    return font


def _axis_position(axis: ImageFont.Axis) -> float:
    """Return weight 400, and every other axis as it is; many variable fonts start at their thinnest."""
    if axis["name"] == b"Weight":
        return float(min(max(400, axis["minimum"] or 0), axis["maximum"] or 400))
    return float(axis["default"] or 0)

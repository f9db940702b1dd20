"""Which font file can draw a text: its character map is read, never guessed from its name."""

import re
import struct
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import features

T = TypeVar("T")

FONT_PACKAGES = (
    ("notojp_matplotlib", "fonts/NotoSansCJKjp-Regular.otf"),
    ("mplfonts", "fonts/NotoSansCJKsc-Regular.otf"),
)
"""Optional packages that carry a font under a free licence: (import name, file inside the package)."""

# Fonts that claim every character and draw a placeholder, or nothing, for it.
PLACEHOLDER_FONTS = ("last resort", "lastresort", ".lastresort", "adobe blank", "adobeblank", "adobe notdef")

# What turns isolated Arabic letters into a word; a font without them draws the letters one by one.
JOINING_FEATURES = frozenset({"init", "fina"})

JOINERS = frozenset("\u200c\u200d")
_VARIATION_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")


@dataclass(frozen=True)
class Face:
    """One typeface: a font file, and which member of it when the file is a collection (.ttc)."""

    path: Path
    index: int = 0


def font_for(text: str) -> Path | None:
    """Return a font file that has a glyph for every visible character of the text, None if no font has.

    Looked at in this order: DejaVu Sans (it comes with matplotlib), the packages of the extra `fonts`,
    the system's fonts as matplotlib knows them. Text that needs shaping (right-to-left scripts, combining
    marks) has no font where Pillow comes without libraqm. The file may be a collection; `draw_text`
    knows which member to take, and draws text that only several fonts together can.
    """
    face = face_for(tidy(text))
    return face.path if face else None


def face_for(line: str) -> Face | None:
    """Return the first face that can draw the whole of a tidied line, see `font_for`."""
    if needs_shaping(line) and not shaping_available():
        return None
    try:
        return _first_face(line)
    except LookupError:
        return None


@lru_cache(maxsize=4096)
def _first_face(line: str) -> Face:
    """Return the first face that can draw a line; raises LookupError, so that only what is found is kept.

    A font that is installed later is then found too.
    """
    wanted = np.unique(np.array([ord(character) for character in line if _is_visible(character)], np.uint32))
    joining = any(unicodedata.bidirectional(character) == "AL" for character in line)
    for face in _faces():
        if _draws(face, wanted, joining=joining):
            return face
    raise LookupError(line)


@lru_cache(maxsize=4096)
def tidy(text: str) -> str:
    """Make a text fit for one line: composed accents, plain spaces, no control or direction characters.

    Direction characters go because they let one name turn the rest of a line around.
    """
    composed = _VARIATION_SELECTORS.sub("", unicodedata.normalize("NFC", text))
    joining = needs_shaping(composed)
    return "".join(_tidy_character(character, joining=joining) for character in composed)


def needs_shaping(text: str) -> bool:
    """Tell whether drawing one glyph after another would be wrong: right to left, or combining marks."""
    return any(
        unicodedata.bidirectional(character) in {"R", "AL", "AN"}
        or unicodedata.category(character) in {"Mn", "Mc"}
        for character in text
    )


def shaping_available() -> bool:
    """Tell whether Pillow can shape text (libraqm)."""
    return bool(features.check("raqm"))


def _tidy_character(character: str, *, joining: bool) -> str:
    category = unicodedata.category(character)
    if category in {"Cc", "Zs", "Zl", "Zp"}:
        return " "
    if category == "Cf":
        return character if joining and character in JOINERS else ""
    return character


def _is_visible(character: str) -> bool:
    return unicodedata.category(character) not in {"Cc", "Cf", "Zs", "Zl", "Zp"}


def _draws(face: Face, wanted: npt.NDArray[np.uint32], *, joining: bool) -> bool:
    codes = _codes(face)
    if codes.size == 0:
        return False
    nearest = codes[np.searchsorted(codes, wanted).clip(max=codes.size - 1)]
    return bool((nearest == wanted).all()) and (not joining or _joins(face))


@lru_cache(maxsize=1024)
def _codes(face: Face) -> npt.NDArray[np.uint32]:
    """Return the code points that a face has glyphs for, sorted; none for a file that cannot be used."""
    return _read(face, _mapped_codes, np.empty(0, np.uint32))


@lru_cache(maxsize=1024)
def _joins(face: Face) -> bool:
    return _read(face, _has_joining_features, False)


def _mapped_codes(font: Any) -> npt.NDArray[np.uint32]:
    # Bitmap-only fonts (colour emoji) exist in a few sizes and cannot be drawn at any other.
    if not {"glyf", "CFF ", "CFF2"} & set(font.keys()):
        return np.empty(0, np.uint32)
    return np.array(sorted(font.getBestCmap() or ()), np.uint32)


def _has_joining_features(font: Any) -> bool:
    records = font["GSUB"].table.FeatureList.FeatureRecord if "GSUB" in font else ()
    return {record.FeatureTag for record in records} >= JOINING_FEATURES


def _read(face: Face, read: Callable[[Any], T], otherwise: T) -> T:
    """Open a face with fontTools and read from it; ``otherwise`` when the file is gone or broken.

    One bad file among the system's fonts is no reason to fail.
    """
    from fontTools.ttLib import TTFont, TTLibError

    try:
        # fontTools leaves a file that it opened itself open when the file turns out to be broken.
        with face.path.open("rb") as file, TTFont(file, fontNumber=face.index, lazy=True) as font:
            return read(font)
    except (OSError, TTLibError, AssertionError, AttributeError, LookupError, ValueError, struct.error):
        return otherwise


def _faces() -> Iterator[Face]:
    """Yield faces in order of preference; the system's fonts are looked up only when asked for."""
    import matplotlib

    yield Face(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))
    yield from _package_faces()
    from matplotlib.font_manager import fontManager

    yield from _system_faces(len(fontManager.ttflist))


@lru_cache(maxsize=1)
def _package_faces() -> tuple[Face, ...]:
    """Find the optional fonts without importing their packages, which would change matplotlib's state."""
    paths: list[Path] = []
    for package, file in FONT_PACKAGES:
        spec = find_spec(package)
        paths += [Path(folder, file) for folder in (spec and spec.submodule_search_locations) or ()]
    return tuple(Face(path) for path in paths if path.is_file())


@lru_cache(maxsize=1)
def _system_faces(_count: int) -> tuple[Face, ...]:
    """List the plainest face of each family; cached until fonts are added to the font manager."""
    import matplotlib
    from matplotlib.font_manager import fontManager

    # Beside DejaVu, matplotlib carries fonts for formulas, whose character maps are not Unicode's.
    formulas = Path(matplotlib.get_data_path())
    best: dict[str, Any] = {}
    for entry in sorted(fontManager.ttflist, key=_plainness):
        placeholder = entry.name.lower().startswith(PLACEHOLDER_FONTS)
        if not placeholder and formulas not in Path(entry.fname).parents:
            best.setdefault(entry.name, entry)
    faces = (Face(Path(entry.fname), getattr(entry, "index", 0)) for entry in best.values())
    return tuple(dict.fromkeys(faces))


def _plainness(entry: Any) -> tuple[bool, int, bool, str]:
    """Sort key: upright before slanted, then near weight 400, then sans serif, then by name."""
    weight = entry.weight if isinstance(entry.weight, int) else 400
    return entry.style != "normal", abs(weight - 400), "sans" not in entry.name.lower(), entry.name

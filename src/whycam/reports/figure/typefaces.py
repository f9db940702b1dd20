"""Typefaces that a PDF can embed as TrueType, made of any typeface.

Matplotlib embeds a TrueType file as it is (type 42). Given outlines of PostScript's kind (Noto Sans CJK), it
writes them under a wrong type, which printers refuse; of a variable font it takes the thinnest cut. Such
faces are cut down to the characters at hand, pinned to their regular weight and turned into TrueType.
"""

from hashlib import sha256
from pathlib import Path
from typing import Any

from whycam.render.fonts import Face

_REGULAR = 400.0
_LARGEST_ERROR = 0.001  # of the em, between a cubic curve and the quadratic ones in its place


def embeddable(face: Face, characters: str, folder: Path) -> Path:
    """Return a TrueType file with a face's glyphs for these characters: its own, or one made in ``folder``.

    What is made keeps the rules for joining and placing letters; its bytes follow from the face and the
    characters alone.
    """
    from fontTools.ttLib import TTFont

    with face.path.open("rb") as file, TTFont(file, fontNumber=face.index, lazy=True) as font:
        if "glyf" in font and "fvar" not in font and file.seek(0) == 0 and file.read(4) != b"ttcf":
            return face.path
    used = "".join(sorted(set(characters)))
    mark = sha256(f"{face.path.name} {face.index} {used}".encode("utf-8", "surrogatepass")).hexdigest()[:16]
    made = folder / f"{face.path.stem}-{mark}.ttf"
    if not made.exists():
        _make(face, used, made)
    return made


def letters_are_joined() -> bool:
    """Tell whether matplotlib lays out scripts whose letters join or stack: from 3.11 on."""
    from matplotlib import ft2font

    return hasattr(ft2font, "__libraqm_version__")


def _make(face: Face, characters: str, place: Path) -> None:
    from fontTools import subset

    options = subset.Options(glyph_names=True, notdef_outline=True, recalc_bounds=True)
    options.font_number = face.index
    with subset.load_font(str(face.path), options) as font:
        cutter = subset.Subsetter(options)
        cutter.populate(text=characters)
        cutter.subset(font)
        if "fvar" in font:
            _pin(font)
        if "glyf" not in font:
            _to_truetype(font)
        font.save(place)


def _pin(font: Any) -> None:
    """Take a variable font at its regular weight, and at its default along every other axis."""
    from fontTools.varLib.instancer import instantiateVariableFont

    axes = {
        axis.axisTag: min(max(_REGULAR, axis.minValue), axis.maxValue)
        if axis.axisTag == "wght"
        else axis.defaultValue
        for axis in font["fvar"].axes
    }
    instantiateVariableFont(font, axes, inplace=True)


def _to_truetype(font: Any) -> None:
    """Put quadratic outlines in the place of cubic ones."""
    from fontTools.pens.cu2quPen import Cu2QuPen
    from fontTools.pens.ttGlyphPen import TTGlyphPen
    from fontTools.ttLib import newTable

    order, drawn, glyphs = font.getGlyphOrder(), font.getGlyphSet(), {}
    for name in order:
        pen = TTGlyphPen(None)
        drawn[name].draw(Cu2QuPen(pen, font["head"].unitsPerEm * _LARGEST_ERROR, reverse_direction=True))
        glyphs[name] = pen.glyph()
    font["loca"], font["glyf"] = newTable("loca"), newTable("glyf")
    font["glyf"].glyphOrder, font["glyf"].glyphs = order, glyphs
    for name, glyph in glyphs.items():
        glyph.recalcBounds(font["glyf"])
        font["hmtx"][name] = (font["hmtx"][name][0], getattr(glyph, "xMin", 0))
    for table in {"CFF ", "CFF2", "VORG"} & set(font.keys()):
        del font[table]
    _complete_maxp(font["maxp"])
    font["post"].formatType, font["post"].extraNames, font["post"].mapping = 2.0, [], {}
    font["post"].glyphOrder = order
    font.sfntVersion = "\x00\x01\x00\x00"


def _complete_maxp(maxp: Any) -> None:
    """Fill in what this table says of TrueType outlines alone: no instructions, one zone."""
    maxp.tableVersion = 0x00010000
    maxp.maxZones = 1
    for name in ("TwilightPoints", "Storage", "FunctionDefs", "InstructionDefs", "StackElements"):
        setattr(maxp, f"max{name}", 0)
    maxp.maxSizeOfInstructions = maxp.maxComponentElements = 0

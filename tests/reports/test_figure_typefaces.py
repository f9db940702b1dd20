"""Typefaces are made here with known glyphs, so that no system's fonts are assumed."""

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.misc.psCharStrings import T2CharString
from fontTools.pens.boundsPen import BoundsPen
from fontTools.pens.t2CharStringPen import T2CharStringPen
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTCollection, TTFont
from PIL import ImageFont

from whycam.render.fonts import Face, face_for
from whycam.reports.figure.typefaces import embeddable

WIDTHS = {".notdef": 500, "A": 700, "B": 600}
CURVED = ((100, 0), (100, 400), (300, 700), (600, 700))


def drawn(pen):
    pen.moveTo(CURVED[0])
    pen.curveTo(*CURVED[1:])
    pen.lineTo((600, 0))
    pen.closePath()
    return pen


def quadratic(width: int):
    pen = TTGlyphPen(None)
    for at, point in enumerate(((100, 0), (100, 700), (100 + width, 700), (100 + width, 0))):
        pen.lineTo(point) if at else pen.moveTo(point)
    pen.closePath()
    return pen.glyph()


def built(*, truetype: bool, family: str = "Made") -> FontBuilder:
    builder = FontBuilder(1000, isTTF=truetype)
    builder.setupGlyphOrder(list(WIDTHS))
    builder.setupCharacterMap({ord("A"): "A", ord("B"): "B"})
    if truetype:
        builder.setupGlyf({name: quadratic(300) for name in WIDTHS})
    else:
        shapes: dict[str, T2CharString] = {
            name: drawn(T2CharStringPen(width, {})).getCharString() for name, width in WIDTHS.items()
        }
        builder.setupCFF(family, {}, shapes, {})
    builder.setupHorizontalMetrics({name: (width, 100) for name, width in WIDTHS.items()})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular", "psName": family})
    builder.setupOS2()
    builder.setupPost()
    return builder


def bounds(font: TTFont, name: str) -> tuple[float, ...]:
    pen = BoundsPen(font.getGlyphSet())
    font.getGlyphSet()[name].draw(pen)
    return pen.bounds


def test_a_plain_truetype_file_is_embedded_as_it_is(tmp_path):
    built(truetype=True).save(tmp_path / "plain.ttf")
    face = Face(tmp_path / "plain.ttf")
    assert embeddable(face, "A", tmp_path / "made") == face.path


def test_postscript_outlines_become_truetype_with_the_same_shape_and_width(tmp_path):
    built(truetype=False).save(tmp_path / "cubic.otf")
    made = embeddable(Face(tmp_path / "cubic.otf"), "A", tmp_path)
    with TTFont(made) as font, TTFont(tmp_path / "cubic.otf") as before:
        assert font.sfntVersion == "\x00\x01\x00\x00"
        assert "glyf" in font
        assert "CFF " not in font
        assert set(font.getBestCmap()) == {ord("A")}, "cut down to what is used"
        name = font.getBestCmap()[ord("A")]
        assert font["hmtx"][name][0] == WIDTHS["A"]
        assert bounds(font, name) == pytest.approx(bounds(before, "A"), abs=1)
    ImageFont.truetype(made, 40).getlength("A")  # FreeType reads it


def test_the_right_member_of_a_collection_is_taken(tmp_path):
    collection = TTCollection()
    for family, width in (("First", 100), ("Second", 500)):
        builder = built(truetype=True, family=family)
        builder.font["glyf"]["B"] = quadratic(width)
        builder.save(tmp_path / f"{family}.ttf")
        collection.fonts.append(TTFont(tmp_path / f"{family}.ttf"))
    collection.save(tmp_path / "both.ttc")
    with TTFont(embeddable(Face(tmp_path / "both.ttc", 1), "B", tmp_path)) as font:
        assert bounds(font, "B")[2] == 600


def test_a_variable_typeface_is_taken_at_its_regular_weight(tmp_path):
    from fontTools.ttLib.tables.TupleVariation import TupleVariation

    builder = built(truetype=True)
    builder.setupFvar([("wght", 100, 100, 900, "Weight")], [])
    # at weight 900 the right side lies 800 units further out, at 400 three eighths of it
    bolder = TupleVariation({"wght": (0, 1, 1)}, [(0, 0), (0, 0), (800, 0), (800, 0), *[(0, 0)] * 4])
    builder.setupGvar({"A": [bolder]})
    builder.save(tmp_path / "variable.ttf")
    with TTFont(embeddable(Face(tmp_path / "variable.ttf"), "A", tmp_path)) as font:
        assert "fvar" not in font
        assert bounds(font, "A")[2] == pytest.approx(400 + 300, abs=1)


def test_the_same_characters_give_the_same_bytes_whatever_their_order(tmp_path):
    face = face_for("虎斑貓")
    for name, text in (("one", "虎斑貓"), ("two", "貓貓虎斑")):
        (tmp_path / name).mkdir()
        embeddable(face, text, tmp_path / name)
    (one,), (two,) = (list((tmp_path / name).iterdir()) for name in ("one", "two"))
    assert one.name == two.name
    assert one.read_bytes() == two.read_bytes()

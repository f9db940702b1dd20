"""Fonts are made here with known glyphs, so that what a font has is known and no system is assumed."""

import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTCollection, TTFont
from fontTools.ttLib.tables.TupleVariation import TupleVariation
from matplotlib.font_manager import fontManager
from PIL import Image, ImageDraw

from whycam.render import fonts
from whycam.render.fonts import Face, face_for, font_for, tidy
from whycam.render.text import draw_text

RARE = "\U0010f123"  # private use: no font that this project brings has it
RARER = "\U0010f124"
DEJAVU = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")


def bar(width: int) -> object:
    pen = TTGlyphPen(None)
    pen.moveTo((100, 0))
    pen.lineTo((100, 700))
    pen.lineTo((100 + width, 700))
    pen.lineTo((100 + width, 0))
    pen.closePath()
    return pen.glyph()


def made(family: str, character: str, width: int = 400) -> FontBuilder:
    """A font whose one glyph, for one character, is a bar."""
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "bar"])
    builder.setupCharacterMap({ord(character): "bar"})
    builder.setupGlyf({".notdef": bar(50), "bar": bar(width)})
    builder.setupHorizontalMetrics({".notdef": (600, 100), "bar": (600, 100)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    return builder


@pytest.fixture(autouse=True)
def nothing_remembered():
    """Forget which fonts were found, before and after."""
    fonts._first_face.cache_clear()
    yield
    fonts._first_face.cache_clear()


@pytest.fixture
def install(monkeypatch):
    """Make the system's fonts be exactly those given: (file, family, index)."""

    def put(*entries: tuple[Path, str, int]) -> None:
        fonts._system_faces.cache_clear()
        listed = [
            SimpleNamespace(fname=str(path), name=family, style="normal", weight=400, index=index)
            for path, family, index in entries
        ]
        monkeypatch.setattr(fontManager, "ttflist", listed)

    put()
    yield put
    fonts._system_faces.cache_clear()


@pytest.mark.parametrize("text", ["", "tabby cat", "Füße, façade, Ελλάδα, кошка", "→ … ≥ ·"])
def test_dejavu_comes_first(text):
    assert font_for(text) == DEJAVU


@pytest.mark.parametrize("text", ["猫", "日本語", "汉语简体", "漢語繁體", "ねこ カタカナ", "고양이"])
def test_the_extra_brings_chinese_japanese_and_korean(text, install):
    found = font_for(text)
    assert found is not None
    assert found.name.startswith("NotoSansCJK")


@pytest.mark.parametrize("text", ["猫", "日本語", "tabby", "Füße", "القط", "Żółć"])
def test_the_font_found_has_every_character_in_its_cmap(text):
    with TTFont(font_for(text), lazy=True) as font:
        cmap = font.getBestCmap()
    assert all(cmap[ord(character)] != ".notdef" for character in text)


def test_the_packages_that_carry_fonts_are_not_imported():
    font_for("猫")
    assert "notojp_matplotlib" not in sys.modules


def test_no_font_is_found_for_what_none_has(install):
    assert font_for(RARE) is None
    assert font_for(f"cat {RARE}") is None
    assert font_for("\udc80") is None  # a byte of a file name that is no text


def test_without_the_extra_chinese_has_no_font(monkeypatch, install):
    monkeypatch.setattr(fonts, "_package_faces", lambda: ())
    assert font_for("猫") is None
    assert font_for("cat") == DEJAVU


def test_a_font_added_to_matplotlib_is_found(tmp_path, install):
    assert font_for(RARE) is None
    made("Rare", RARE).save(tmp_path / "rare.ttf")
    install((tmp_path / "rare.ttf", "Rare", 0))
    assert font_for(RARE) == tmp_path / "rare.ttf"


def test_the_right_member_of_a_collection_is_taken_and_drawn(tmp_path, install):
    collection = TTCollection()
    collection.fonts = [made("One", RARE, 100).font, made("Two", RARER, 400).font]
    path = tmp_path / "both.ttc"
    collection.save(path)
    install((path, "One", 0), (path, "Two", 1))
    assert face_for(RARE) == Face(path, 0)
    assert face_for(RARER) == Face(path, 1)
    assert ink(RARER) == pytest.approx(40, abs=2)


def ink(text: str) -> int:
    """The width in pixels of what is drawn at 100 pixels an em."""
    canvas = Image.new("L", (200, 200))
    draw_text(ImageDraw.Draw(canvas), (10.0, 150.0), text, size=100.0, fill="white")
    columns = np.flatnonzero(np.asarray(canvas).max(0) > 127)
    return int(columns[-1] - columns[0] + 1)


@pytest.mark.parametrize("family", ["Last Resort", ".LastResort", "LastResort-Regular", "Adobe Blank"])
def test_fonts_that_draw_placeholders_are_passed_over(family, tmp_path, install):
    made(family, RARE).save(tmp_path / "placeholder.ttf")
    install((tmp_path / "placeholder.ttf", family, 0))
    assert font_for(RARE) is None


def test_a_character_mapped_to_the_missing_glyph_counts_as_missing(tmp_path, install):
    made("Liar", RARE).save(tmp_path / "liar.ttf")
    content = (tmp_path / "liar.ttf").read_bytes()
    honest, lie = (struct.pack(">III", ord(RARE), ord(RARE), glyph) for glyph in (1, 0))
    assert content.count(honest) == 1
    (tmp_path / "liar.ttf").write_bytes(content.replace(honest, lie))
    install((tmp_path / "liar.ttf", "Liar", 0))
    assert font_for(RARE) is None


def test_a_font_of_bitmaps_alone_is_passed_over(tmp_path, install):
    font = made("Bitmaps", RARE).font
    font.save(tmp_path / "whole.ttf")
    with TTFont(tmp_path / "whole.ttf") as font:
        del font["glyf"], font["loca"]
        font.save(tmp_path / "bitmaps.ttf")
    install((tmp_path / "bitmaps.ttf", "Bitmaps", 0))
    assert font_for(RARE) is None


@pytest.mark.parametrize("content", [b"", b"no font", b"\x00\x01\x00\x00\x00\x0a" + b"\xff" * 300, None])
def test_a_broken_font_file_is_passed_over(content, tmp_path, install):
    broken, good = tmp_path / "broken.ttf", tmp_path / "good.ttf"
    if content is not None:
        broken.write_bytes(content)
    made("Good", RARE).save(good)
    install((broken, "A Broken", 0), (good, "Good", 0))
    assert font_for(RARE) == good


def test_a_font_cut_short_is_passed_over(tmp_path, install):
    made("Good", RARE).save(tmp_path / "good.ttf")
    whole = (tmp_path / "good.ttf").read_bytes()
    for length in range(0, len(whole), 97):
        cut = tmp_path / f"cut{length}.ttf"
        cut.write_bytes(whole[:length])
        install((cut, "Cut", 0))
        font_for(RARE)  # what it finds depends on the place of the cut; it must not raise


def test_an_arabic_font_that_cannot_join_letters_is_passed_over(tmp_path, install, monkeypatch):
    monkeypatch.setattr(fonts, "_faces", lambda: iter([Face(tmp_path / "isolated.ttf"), Face(DEJAVU)]))
    made("Isolated", "ق").save(tmp_path / "isolated.ttf")
    assert font_for("ق") == DEJAVU


def test_a_variable_font_is_drawn_at_regular_weight(tmp_path, install):
    builder = made("Variable", RARE, 100)
    builder.setupFvar([("wght", 100, 100, 900, "Weight")], [])
    wider = TupleVariation({"wght": (0, 1, 1)}, [(0, 0), (0, 0), (400, 0), (400, 0), *[(0, 0)] * 4])
    builder.setupGvar({"bar": [wider], ".notdef": []})
    builder.save(tmp_path / "variable.ttf")
    install((tmp_path / "variable.ttf", "Variable", 0))
    # 100 units at weight 100, 500 at 900: 250 at weight 400.
    assert ink(RARE) == pytest.approx(25, abs=2)


def test_text_that_needs_shaping_has_no_font_where_pillow_cannot_shape(monkeypatch):
    monkeypatch.setattr(fonts, "shaping_available", lambda: False)
    assert font_for("القط") is None
    assert font_for("חתול") is None
    assert font_for("q\u0303") is None  # a mark that has no composed form
    assert font_for("cafe\u0301") == DEJAVU  # this one has


def test_tidy_makes_one_safe_line():
    assert tidy("a\tb\nc\u3000d\u00a0e") == "a b c d e"
    assert tidy("e\u0301") == "é"
    assert tidy("gpj\u202eexe\u200b\u00ad") == "gpjexe"
    assert tidy("❤\ufe0f") == "❤"
    assert tidy("نص\u200cها") == "نص\u200cها"  # here the joiner is spelling

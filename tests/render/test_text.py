import unicodedata
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont, features

from whycam.render import fonts, text
from whycam.render.text import (
    ASCENT,
    DESCENT,
    MissingGlyphWarning,
    draw_text,
    drawable,
    font_for,
    printable,
    runs,
    shorten,
    text_width,
)

NOBODY_HAS = "\U0010f123"
NAMES = ["tabby cat", "猫", "日本語", "汉语", "القط الأسود", "кошка", "Füße", "고양이", "חתול"]

shaped = pytest.mark.skipif(not features.check("raqm"), reason="this Pillow cannot shape text")


@pytest.fixture
def unshaped(monkeypatch):
    """A Pillow without libraqm."""
    monkeypatch.setattr(fonts, "shaping_available", lambda: False)
    monkeypatch.setattr(text, "shaping_available", lambda: False)


def picture_of(line: str, size: float = 40.0, width: int = 900) -> np.ndarray:
    canvas = Image.new("L", (width, 120))
    draw_text(ImageDraw.Draw(canvas), (10.0, 70.0), line, size=size, fill="white")
    return np.asarray(canvas)


def glyph(character: str, path: object) -> np.ndarray:
    canvas = Image.new("L", (80, 80))
    ImageDraw.Draw(canvas).text((10, 10), character, font=ImageFont.truetype(path, 40), fill="white")
    return np.asarray(canvas)


@pytest.mark.parametrize("name", NAMES)
def test_every_glyph_drawn_differs_from_the_missing_one(name):
    path = font_for(name)
    missing = glyph("\U0010ffff", path)  # no character: always the missing glyph
    assert missing.any()
    for character in name.replace(" ", ""):
        assert not np.array_equal(glyph(character, path), missing)


@pytest.mark.parametrize("name", NAMES)
def test_names_in_any_script_are_printed_as_they_are_without_a_warning(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert printable(name, "7") == name
        assert picture_of(name).any()


@pytest.mark.parametrize("name", [NOBODY_HAS, f"cat {NOBODY_HAS}", "\U000e0fff", "\udc80"])
def test_a_name_that_no_font_has_is_replaced_with_a_warning_that_names_the_extra(name):
    with pytest.warns(MissingGlyphWarning, match=r"'7' is drawn instead.*whycam\[fonts\]"):
        assert printable(name, "7") == "7"


def test_a_name_of_two_scripts_is_printed_by_two_fonts():
    name = "猫 القط"
    assert font_for(name) is None
    assert printable(name, "7") == name
    assert len({run.face for run in runs(name)}) == 2


def test_text_that_no_font_has_is_drawn_as_its_escape():
    with pytest.warns(MissingGlyphWarning, match="no installed font has"):
        drawn = picture_of(f"cat {NOBODY_HAS}")
    assert np.array_equal(drawn, picture_of(r"cat \U0010f123"))


def test_the_warning_is_one_line_of_plain_ascii():
    with pytest.warns(MissingGlyphWarning) as caught:
        printable(f"a\n{NOBODY_HAS}猫", "7")
    message = str(caught[0].message)
    assert message.isascii()
    assert "\n" not in message


@shaped
def test_arabic_letters_are_joined():
    columns = picture_of("سسس").any(0)
    ink = np.flatnonzero(columns)
    assert columns[ink[0] : ink[-1] + 1].all()
    joined, isolated = text_width("سسس", 40.0), 3 * text_width("س", 40.0)
    assert joined < 0.9 * isolated


@shaped
def test_arabic_runs_from_right_to_left():
    """The first letter of a word is drawn at its right end: cutting it off changes only that end."""
    whole, rest = picture_of("باا"), picture_of("اا")
    left = np.flatnonzero(whole.any(0))[0]
    rest_left = np.flatnonzero(rest.any(0))[0]
    assert np.array_equal(whole[:, left : left + 8], rest[:, rest_left : rest_left + 8])


@shaped
def test_an_arabic_name_does_not_turn_what_stands_after_it_around():
    assert [(run.text, run.rtl) for run in runs("cat.jpg · القط الأسود · 93 %")] == [
        ("cat.jpg · ", False),
        ("القط الأسود", True),
        (" · 93 %", False),
    ]
    numbered = [(run.text, run.rtl) for run in runs("القط 3 الأسود 12")]
    assert numbered == [("القط 3 الأسود", True), (" 12", False)]


@shaped
def test_arabic_that_needs_two_fonts_still_joins_within_each(monkeypatch):
    """A right-to-left phrase is split only where the font changes, and its parts stand right to left."""
    real = text.face_for
    other = real("猫")

    def only_elsewhere(line: str) -> fonts.Face | None:
        if "ق" not in line:
            return real(line)
        return other if line == "ق" else None

    monkeypatch.setattr(text, "face_for", only_elsewhere)
    assert [run.text for run in runs("بسق")] == ["ق", "بس"]


@pytest.mark.usefixtures("unshaped")
@pytest.mark.parametrize("name", ["القط", "חתול", "नमस्ते"])
def test_a_name_that_needs_shaping_is_replaced_where_pillow_cannot_shape(name):
    with pytest.warns(MissingGlyphWarning, match=r"no libraqm.*'7' is drawn instead"):
        assert printable(name, "7") == "7"


@pytest.mark.usefixtures("unshaped")
def test_other_names_are_drawn_without_shaping():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert printable("猫 Füße", "7") == "猫 Füße"
        assert picture_of("猫 Füße").any()
    with pytest.warns(MissingGlyphWarning):
        drawn = picture_of("القط")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(drawn, picture_of(r"\u0627\u0644\u0642\u0637"))


@shaped
def test_han_characters_take_their_languages_form():
    """U+76F4 and U+9AA8 look different in Chinese and Japanese; kana beside them tell which it is."""
    chinese = picture_of("直骨")
    japanese = picture_of("直骨の")
    width = int(text_width("直骨", 40.0)) + 10
    assert not np.array_equal(chinese[:, 10:width], japanese[:, 10:width])


SCRIPTS = st.text(
    st.one_of(
        st.characters(min_codepoint=0x20, max_codepoint=0x24F),
        st.characters(min_codepoint=0x4E00, max_codepoint=0x4E80),
        st.characters(min_codepoint=0x621, max_codepoint=0x64A),
        st.sampled_from(" ·…\t\n\u0301\u200d\u202e\u3000"),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(line=SCRIPTS)
def test_the_ink_of_a_line_stays_in_the_room_it_is_given(line):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MissingGlyphWarning)
        canvas = np.asarray(picture_of(line, size=20.0))
        width = text_width(line, 20.0)
    rows, columns = np.nonzero(canvas > 40)
    if rows.size and not any(unicodedata.combining(character) for character in line):
        assert rows.min() >= 70 - ASCENT * 20 - 1
        assert rows.max() <= 70 + DESCENT * 20 + 1
        assert columns.min() >= 10 - 4  # a letter may lean out a little
        assert columns.max() <= 10 + width + 4


@settings(max_examples=60, deadline=None)
@given(line=SCRIPTS)
def test_the_runs_of_a_line_are_all_of_its_letters(line):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MissingGlyphWarning)
        safe = drawable(line)
        assert sorted("".join(run.text for run in runs(line))) == sorted(safe)
    for run in runs(safe):
        assert fonts.face_for(run.text) is not None


@settings(max_examples=60, deadline=None)
@given(line=st.text(st.sampled_from("abcWi_/.猫日 ·ق"), max_size=60), width=st.floats(0, 400))
def test_a_shortened_line_fits_and_keeps_both_ends(line, width):
    short = shorten(line, width, 16.0)
    assert text_width(short, 16.0) <= width
    if short != line and short:
        head, tail = short.split("…")
        assert line.startswith(head)
        assert line.endswith(tail)
        assert abs(len(head) - len(tail)) <= 1 + len(line) - len(line.replace(" ", ""))


def test_a_line_that_fits_is_made_one_safe_line():
    assert shorten("a\tb\nc\u202ed", 500.0, 16.0) == "a b cd"


def test_a_shortened_line_is_as_long_as_can_be():
    line = "".join(chr(ord("a") + at % 26) for at in range(100))
    short = shorten(line, 200.0, 16.0)
    longer = line[: len(short) // 2 + 1] + "…" + line[-(len(short) // 2 + 1) :]
    assert text_width(short, 16.0) <= 200 < text_width(longer, 16.0)


@shaped
def test_shortening_does_not_part_an_accent_from_its_letter():
    line = "q\u0303" * 60
    short = shorten(line, 150.0, 16.0)
    head, tail = short.split("…")
    assert head == "q\u0303" * (len(head) // 2)
    assert tail == "q\u0303" * (len(tail) // 2)

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whycam.data.printable import printable


@pytest.mark.parametrize(
    "text", ["a b.png", "图片\u3000一.png", "é", "👩‍🔬.jpg", "نامه‌ها.png", "a\\b'\"[1].png"]
)
def test_every_script_space_and_emoji_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("line\u2028break", "line\\u2028break"),
        ("turned\u202egnp.exe", "turned\\u202egnp.exe"),
        (b"caf\xe9.png".decode("utf-8", "surrogateescape"), "caf\\xe9.png"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_breaks_a_line_or_an_encoder_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_becomes_one_line_that_utf8_can_hold(text: str) -> None:
    shown = printable(text)
    shown.encode("utf-8")
    assert len(shown.splitlines()) <= 1

from hypothesis import given
from hypothesis import strategies as st

from whycam.models.messages import one_line, or_nothing_close, some_of


@given(st.text(max_size=3000), st.integers(10, 300))
def test_any_text_becomes_one_printable_line_within_the_limit(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert line.isprintable()
    assert len(line) <= limit
    assert line == line.strip()


def test_a_short_line_is_left_as_it_is() -> None:
    assert one_line("猫 is a cat") == "猫 is a cat"


def test_a_long_list_says_how_many_more_there_are() -> None:
    assert some_of("abc") == "'a', 'b', 'c'"
    assert some_of(range(9), 2) == "'0', '1' and 7 more"


def test_only_what_is_close_is_suggested() -> None:
    assert or_nothing_close("resnet51", ["resnet50", "vit"]) == "; did you mean 'resnet50'?"
    assert or_nothing_close("zzz", ["resnet50", "vit"]) == ""

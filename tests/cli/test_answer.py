"""JSON is one strict object; tables line up."""

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from whycam.cli.answer import table, to_json

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON_VALUES, max_size=4))
def test_any_answer_is_strict_ascii_json(data: dict[str, object]) -> None:
    text = to_json(data)
    assert text.isascii()
    json.loads(text, parse_constant=lambda name: (_ for _ in ()).throw(AssertionError(name)))


def test_numbers_that_json_lacks_become_null() -> None:
    assert json.loads(to_json({"a": [math.nan, math.inf, 1.5], "b": (1, 2)})) == {
        "a": [None, None, 1.5],
        "b": [1, 2],
    }


def test_columns_line_up_also_under_wide_letters() -> None:
    lines = table(("name", "n"), [("猫", "1"), ("ant", "22")])
    assert lines == ["name  n", "猫    1", "ant   22"]

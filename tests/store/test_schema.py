"""Rows to Parquet and back."""

import io
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from whycam.errors import RunError
from whycam.store import COLUMN_NAMES, Row
from whycam.store.schema import decode_map, encode_map, plain_text, rows_to_table, safe_text, table_to_rows

ANY_TEXT = st.text(st.characters(), max_size=30)
SURROGATES = st.text(st.sampled_from("a\\u\ud800\udc80\udfffd80c05"), max_size=12)
TEXT = ANY_TEXT | SURROGATES
GRIDS = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=6)
FINITE_MAPS = hnp.arrays(
    np.float32, GRIDS, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)
)
MAPS = hnp.arrays(np.float32, GRIDS, elements=st.floats(width=32))
WHOLE = st.integers(-(2**63), 2**63 - 1)


def through_parquet(rows: list[Row], commit: int = 1) -> list[Row]:
    file = io.BytesIO()
    pq.write_table(rows_to_table(rows, commit), file)
    return table_to_rows(pq.read_table(pa.BufferReader(file.getvalue())))


def unchecked(row: Row, **changes: object) -> Row:
    """The row with values that the type checks of the tests would stop."""
    for name, value in changes.items():
        object.__setattr__(row, name, value)
    return row


@st.composite
def any_rows(draw: st.DrawFn) -> Row:
    return Row(
        index=draw(WHOLE),
        id=draw(TEXT),
        path=draw(TEXT),
        content_hash=draw(st.none() | TEXT),
        label=draw(st.none() | TEXT),
        prediction=draw(st.none() | WHOLE),
        prediction_name=draw(st.none() | TEXT),
        probability=draw(st.none() | st.floats(0, 1)),
        target=draw(st.none() | TEXT),
        target_class=draw(st.none() | WHOLE),
        score=draw(st.none() | st.floats()),
        method=draw(st.none() | TEXT),
        layer=draw(st.none() | TEXT),
        map=draw(st.none() | MAPS),
        original=draw(st.none() | st.tuples(st.integers(1, 10**5), st.integers(1, 10**5))),
        box=draw(st.none() | st.tuples(*[st.floats(-1e4, 1e5)] * 4)),
        blank=draw(st.booleans()),
        overlay=draw(st.none() | TEXT),
        error=draw(st.none() | TEXT),
    )


@settings(max_examples=40)
@given(st.lists(any_rows(), max_size=3))
def test_every_row_comes_back_from_parquet_as_it_was_up_to_half_precision(rows: list[Row]) -> None:
    back = through_parquet(rows)
    assert len(back) == len(rows)
    for old, new in zip(rows, back, strict=True):
        for field in fields(Row):
            if field.name != "map":
                # repr: a score may be NaN, which is not equal to itself, or -0.0, which is equal to 0.0
                assert repr(getattr(new, field.name)) == repr(getattr(old, field.name)), field.name
        assert new.grid == old.grid
        if old.map is not None and new.map is not None:
            assert new.map.dtype == np.float32
            expected = decode_map(*encode_map(old.map), old.map.shape)
            np.testing.assert_array_equal(new.map, expected)


@given(MAPS)
def test_a_map_read_from_parquet_and_stored_again_does_not_change(values: np.ndarray[Any, Any]) -> None:
    once = decode_map(*encode_map(values), values.shape)
    np.testing.assert_array_equal(decode_map(*encode_map(once), once.shape), once)


@given(FINITE_MAPS)
@example(np.array([3.4028235e38, -3.4028235e38, 1.0, 0.0], np.float32))
@example(np.array([1e-45, -1e-45, 3e-45], np.float32))
@example(np.array([1e30, 1e-30], np.float32))
@example(np.zeros((2, 2), np.float32))
def test_a_map_value_is_off_by_at_most_2_to_the_minus_11_of_the_maximum(values: np.ndarray[Any, Any]) -> None:
    half, scale = encode_map(values)
    assert half.dtype == np.float16
    assert np.isfinite(half).all()
    wide = values.astype(np.float64)
    error = np.abs(decode_map(half, scale, values.shape).astype(np.float64) - wide)
    assert error.max() <= 2.0**-11 * np.abs(wide).max()
    # and of itself, as long as it is not tiny beside the maximum
    large = np.abs(wide) >= 2.0**-28 * np.abs(wide).max()
    assert (error[large] <= 2.0**-11 * np.abs(wide)[large]).all()


@given(hnp.arrays(np.float16, GRIDS, elements=st.floats(-2048, 2048, width=16)), st.integers(-100, 100))
def test_a_map_that_half_precision_holds_comes_back_exactly(half: np.ndarray[Any, Any], power: int) -> None:
    # within 2**-21 of the largest, far above the 2**-29 below which a value may lose bits
    values = np.where(np.abs(half) < 2**-10, 0, half).astype(np.float32) * np.float32(2.0**power)
    np.testing.assert_array_equal(decode_map(*encode_map(values), values.shape), values)


def test_nan_and_infinity_in_a_map_stay_and_do_not_hurt_the_other_values() -> None:
    values = np.array([np.nan, np.inf, -np.inf, 1e20, -5e19], np.float32)
    back = decode_map(*encode_map(values), values.shape)
    np.testing.assert_array_equal(back[:3], values[:3])
    np.testing.assert_allclose(back[3:], values[3:], rtol=2**-11)


def test_another_reader_gets_the_map_from_half_precision_values_scale_and_grid(
    make_row: Callable[..., Row],
) -> None:
    row = make_row(1000)
    record = rows_to_table([row], 1).to_pylist()[0]
    rebuilt = (np.array(record["map"], np.float64) * record["map_scale"]).reshape(record["grid"])
    assert row.map is not None
    np.testing.assert_allclose(rebuilt, row.map, rtol=2**-11)


@given(TEXT)
def test_any_text_is_made_valid_utf8_and_comes_back(text: str) -> None:
    safe = safe_text(text)
    assert safe is not None
    safe.encode()
    assert plain_text(safe) == text


def test_ordinary_text_is_stored_as_it_is() -> None:
    for text in ("", "cat.jpg", "猫/犬.png", "C:\\users\\udo\\x.png", "\\u00e9"):
        assert safe_text(text) == text


def test_undecodable_bytes_of_a_file_name_are_readable_in_the_table() -> None:
    assert safe_text(b"caf\xe9.jpg".decode("utf-8", "surrogateescape")) == r"caf\udce9.jpg"


def test_the_table_has_the_documented_columns_and_types(make_row: Callable[..., Row]) -> None:
    schema = rows_to_table([make_row(0)], 1).schema
    assert tuple(schema.names) == COLUMN_NAMES
    assert (
        *("index", "id", "path", "content_hash", "label", "prediction", "prediction_name", "probability"),
        *("target", "target_class", "score", "method", "layer", "grid", "map", "map_scale"),
        *("original_height", "original_width", "box_top", "box_left", "box_bottom", "box_right"),
        *("blank", "picture", "overlay", "error", "commit"),
    ) == COLUMN_NAMES
    assert schema.field("map").type == pa.list_(pa.float16())
    assert schema.field("map_scale").type == pa.float64()
    assert schema.field("grid").type == pa.list_(pa.int32())
    assert [field.name for field in schema if not field.nullable] == [
        "index",
        "id",
        "path",
        "blank",
        "commit",
    ]


def test_numpy_numbers_are_taken_as_numbers(make_row: Callable[..., Row]) -> None:
    row = unchecked(make_row(0), prediction=np.int64(3), score=np.float32(0.5), probability=np.float64(0.25))
    back = through_parquet([row])[0]
    assert (back.prediction, back.score, back.probability) == (3, 0.5, 0.25)


def test_an_error_of_several_lines_is_made_one() -> None:
    row = Row(index=0, id="a", path="a", error="broken\n  at byte 7\r\n\x85")
    assert row.error == "broken at byte 7"


@pytest.mark.parametrize("shape", [(), (1, 1, 1, 1)])
def test_a_map_of_no_or_four_axes_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(RunError, match=r"'a\.jpg' has shape .* expected one to three axes"):
        Row(index=0, id="a.jpg", path="a.jpg", map=np.zeros(shape, np.float32))


def test_a_map_beyond_float32_is_refused_not_stored_as_infinity() -> None:
    with pytest.raises(RunError, match=r"'a\.jpg' reaches 1e\+300; expected values that float32 can hold"):
        Row(index=0, id="a.jpg", path="a.jpg", map=np.array([1e300, 0.0]))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("prediction", "cat"),
        ("prediction", 2**63),
        ("label", 3),
        ("id", None),
        ("blank", None),
        ("score", [1.0]),
    ],
)
def test_a_value_of_another_type_is_refused_with_its_column(
    make_row: Callable[..., Row], column: str, value: object
) -> None:
    with pytest.raises(RunError, match=f"column '{column}'") as caught:
        rows_to_table([unchecked(make_row(0), **{column: value})], 1)
    assert len(str(caught.value).splitlines()) == 1

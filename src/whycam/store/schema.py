"""The columns of ``explanations.parquet``: a row an image and method, to and from Arrow."""

import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from whycam.errors import RunError
from whycam.store.files import one_line
from whycam.store.manifest import SCHEMA_VERSION

Key: TypeAlias = tuple[str, str | None, str | None]
"""What a run holds once: (id, method, target)."""

ArrowTable: TypeAlias = Any
"""A ``pyarrow.Table``; pyarrow has no types to check against."""

ArrowSchema: TypeAlias = Any
"""A ``pyarrow.Schema``."""

COMMIT = "commit"
"""Bookkeeping column: the number of the commit that wrote the row. Not part of ``Row``."""

_TINIEST = 2.0**-1074
_LARGEST = float(np.finfo(np.float32).max)
_ESCAPED = r"u(?:d[89a-f][0-9a-f]{2}|005c)"
_UNSAFE = re.compile(rf"[\ud800-\udfff]|\\(?={_ESCAPED})")
_ESCAPE = re.compile(rf"\\{_ESCAPED}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """One image explained by one method for one target, or one image's error.

    ``index`` is the row's place in the plan: a finished run is sorted by it, and rows with the same index
    keep the order in which they were written. (``id``, ``method``, ``target``) is unique in a run.
    ``map`` is the signed map at its native resolution, one to three axes, held as float32. ``original`` is
    the picture's (height, width) and ``box`` the (top, left, bottom, right) that the model saw of it, in
    pixels, as in ``CropGeometry``. ``target`` describes the target in text, ``target_class`` is its class
    index where it has one. ``picture`` is the image as a person sees it, shrunk where it is large, and
    ``overlay`` the map drawn on it, both file names relative to the run folder. ``error`` is made
    one line. Rows compare by identity.

    Raises RunError for a map of another number of axes or out of float32's range.
    """

    index: int
    id: str
    path: str
    content_hash: str | None = None
    label: str | None = None
    prediction: int | None = None
    prediction_name: str | None = None
    probability: float | None = None
    target: str | None = None
    target_class: int | None = None
    score: float | None = None
    method: str | None = None
    layer: str | None = None
    map: NDArray[np.floating[Any]] | None = None
    original: tuple[int, int] | None = None
    box: tuple[float, float, float, float] | None = None
    blank: bool = False
    picture: str | None = None
    overlay: str | None = None
    error: str | None = None

    def __post_init__(self) -> None:
        """Make the map float32 and the error one line."""
        if self.map is not None:
            object.__setattr__(self, "map", _checked_map(self.map, self.id))
        if self.error is not None:
            object.__setattr__(self, "error", one_line(self.error))

    @property
    def key(self) -> Key:
        """What makes the row unique: (id, method, target)."""
        return self.id, self.method, self.target

    @property
    def grid(self) -> tuple[int, ...] | None:
        """The map's size, or None for a row without one."""
        return None if self.map is None else self.map.shape


def encode_map(values: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float16], float]:
    """A map as float16 and the scale to multiply it with.

    The scale is the power of two that brings the largest finite magnitude into [2**14, 2**15), so that
    nothing overflows, a value is off by at most 2**-11 of itself down to 2**-29 of the largest, and what
    float16 can hold comes back exactly. NaN and infinities stay what they are. A map without a finite value
    other than 0 has scale 1.
    """
    wide = np.asarray(values, dtype=np.float64)
    largest = float(np.abs(wide[np.isfinite(wide)]).max(initial=0.0))
    scale = max(math.ldexp(1.0, math.frexp(largest)[1] - 15), _TINIEST) if largest else 1.0
    return (wide / scale).astype(np.float16), scale


def decode_map(half: NDArray[np.float16], scale: float, grid: Sequence[int]) -> NDArray[np.float32]:
    """The float32 map of shape ``grid`` in its stored form. Raises ValueError when the sizes differ."""
    wide = np.asarray(half, dtype=np.float64) * scale
    # float32's largest values may have been rounded up to what float32 does not hold
    np.clip(wide, -_LARGEST, _LARGEST, out=wide, where=np.isfinite(wide))
    return wide.astype(np.float32).reshape(tuple(grid))


def safe_text(text: str | None) -> str | None:
    r"""Text that UTF-8 can hold: a lone surrogate as ``\udc80``; undone by ``plain_text`` without loss."""
    return text and _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def plain_text(text: str | None) -> str | None:
    """The text that ``safe_text`` made safe."""
    return text and _ESCAPE.sub(lambda match: chr(int(match[0][2:], 16)), text)


def _checked_map(values: NDArray[Any], name: str) -> NDArray[np.float32]:
    given = np.asarray(values)
    if not 1 <= given.ndim <= 3:
        raise RunError(
            f"the map of {name!r} has shape {given.shape}; expected one to three axes, one row a map"
        )
    with np.errstate(over="ignore"):
        single = given.astype(np.float32)
    if not np.array_equal(np.isfinite(single), np.isfinite(given)):
        raise RunError(
            f"the map of {name!r} reaches {np.abs(given[np.isfinite(given)]).max():.3g}; "
            "expected values that float32 can hold; scale the score down"
        )
    return single


def _part(values: Sequence[object] | None, position: int) -> object:
    return None if values is None else values[position]


@dataclass(frozen=True)
class _Column:
    name: str
    kind: str
    value: Callable[[Row], object]
    required: bool = False


_COLUMNS = (
    _Column("index", "integer", lambda row: row.index, required=True),
    _Column("id", "text", lambda row: safe_text(row.id), required=True),
    _Column("path", "text", lambda row: safe_text(row.path), required=True),
    _Column("content_hash", "text", lambda row: safe_text(row.content_hash)),
    _Column("label", "text", lambda row: safe_text(row.label)),
    _Column("prediction", "integer", lambda row: row.prediction),
    _Column("prediction_name", "text", lambda row: safe_text(row.prediction_name)),
    _Column("probability", "real", lambda row: row.probability),
    _Column("target", "text", lambda row: safe_text(row.target)),
    _Column("target_class", "integer", lambda row: row.target_class),
    _Column("score", "real", lambda row: row.score),
    _Column("method", "text", lambda row: safe_text(row.method)),
    _Column("layer", "text", lambda row: safe_text(row.layer)),
    _Column("grid", "grid", lambda row: row.grid),
    _Column("map", "map", lambda row: row.map),
    _Column("map_scale", "real", lambda row: None),  # filled with the map
    _Column("original_height", "integer", lambda row: _part(row.original, 0)),
    _Column("original_width", "integer", lambda row: _part(row.original, 1)),
    _Column("box_top", "real", lambda row: _part(row.box, 0)),
    _Column("box_left", "real", lambda row: _part(row.box, 1)),
    _Column("box_bottom", "real", lambda row: _part(row.box, 2)),
    _Column("box_right", "real", lambda row: _part(row.box, 3)),
    _Column("blank", "flag", lambda row: row.blank, required=True),
    _Column("picture", "text", lambda row: safe_text(row.picture)),
    _Column("overlay", "text", lambda row: safe_text(row.overlay)),
    _Column("error", "text", lambda row: safe_text(row.error)),
    _Column(COMMIT, "integer", lambda row: None, required=True),  # filled by the commit
)

COLUMN_NAMES = tuple(column.name for column in _COLUMNS)
"""The columns of ``explanations.parquet``, in order."""


@functools.cache
def arrow_schema() -> ArrowSchema:
    """The columns' Arrow types, with the schema version as metadata."""
    import pyarrow as pa

    kinds = {
        "integer": pa.int64(),
        "real": pa.float64(),
        "text": pa.string(),
        "flag": pa.bool_(),
        "grid": pa.list_(pa.int32()),
        "map": pa.list_(pa.float16()),
    }
    fields = [pa.field(column.name, kinds[column.kind], not column.required) for column in _COLUMNS]
    return pa.schema(fields, {"whycam.schema_version": SCHEMA_VERSION})


def rows_to_table(rows: Sequence[Row], commit: int) -> ArrowTable:
    """Rows as an Arrow table of ``arrow_schema()``. Raises RunError for a value unfit for its column."""
    import pyarrow as pa

    schema = arrow_schema()
    maps, scales = _map_columns([row.map for row in rows])
    made = {"map_scale": scales, COMMIT: [commit] * len(rows)}
    arrays = []
    for column in _COLUMNS:
        if column.name == "map":
            arrays.append(maps)
            continue
        try:
            values = made.get(column.name) or [column.value(row) for row in rows]
            array = pa.array(values, schema.field(column.name).type, from_pandas=False)
        except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
            raise RunError(f"column {column.name!r} cannot hold a row's value: {one_line(error)}") from error
        if column.required and array.null_count:
            raise RunError(f"column {column.name!r} is None in a row; expected a value; give every row one")
        arrays.append(array)
    return pa.Table.from_arrays(arrays, schema=schema)


def table_to_rows(table: ArrowTable) -> list[Row]:
    """The rows of an Arrow table with all columns. Raises RunError when a map does not fit its grid."""
    columns = {name: table.column(name).to_pylist() for name in COLUMN_NAMES if name != "map"}
    halves = _halves(table.column("map"))
    try:
        return [
            _row({name: values[position] for name, values in columns.items()}, half)
            for position, half in enumerate(halves)
        ]
    except (TypeError, ValueError) as error:
        raise RunError(f"a row's map does not fit its grid: {one_line(error)}; explain again") from error


def record_map(record: Mapping[str, Any]) -> NDArray[np.float32] | None:
    """The float32 map in a record with ``map``, ``map_scale`` and ``grid``; None where there is none."""
    if record["map"] is None:
        return None
    return decode_map(np.asarray(record["map"], np.float16), record["map_scale"], tuple(record["grid"]))


def _map_columns(maps: Sequence[NDArray[np.floating[Any]] | None]) -> tuple[Any, list[float | None]]:
    import pyarrow as pa

    coded = [None if values is None else encode_map(values) for values in maps]
    halves = [np.zeros(0, np.float16) if item is None else item[0].ravel() for item in coded]
    ends = np.cumsum([0, *(len(half) for half in halves)])
    if ends[-1] > np.iinfo(np.int32).max:
        raise RunError(
            f"one commit holds {ends[-1]} map values; expected below 2**31; write fewer rows at a time"
        )
    # a null offset makes its list null; the last one only closes the column
    missing = np.array([*(item is None for item in coded), False])
    offsets = pa.array(ends.astype(np.int32), mask=missing)
    values = pa.array(np.concatenate(halves) if halves else np.zeros(0, np.float16))
    return pa.ListArray.from_arrays(offsets, values), [None if item is None else item[1] for item in coded]


def _halves(column: Any) -> list[NDArray[np.float16] | None]:
    halves: list[NDArray[np.float16] | None] = []
    for chunk in column.chunks:
        offsets, values = chunk.offsets.to_numpy(), chunk.values.to_numpy(zero_copy_only=False)
        present = chunk.is_valid().to_numpy(zero_copy_only=False)
        halves += [
            values[offsets[position] : offsets[position + 1]] if there else None
            for position, there in enumerate(present)
        ]
    return halves


def _row(record: dict[str, Any], half: NDArray[np.float16] | None) -> Row:
    del record[COMMIT]
    size = (record.pop("original_height"), record.pop("original_width"))
    box = tuple(record.pop(f"box_{side}") for side in ("top", "left", "bottom", "right"))
    values = record_map({"map": half, "map_scale": record.pop("map_scale"), "grid": record.pop("grid")})
    texts = {name: plain_text(value) for name, value in record.items() if isinstance(value, str)}
    return Row(
        **{**record, **texts},
        map=values,
        original=None if None in size else size,
        box=None if None in box else box,
    )

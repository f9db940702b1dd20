"""A row as a cell of the page: the rectified map as bytes, and what colours it as `render` does."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from whycam.render.heatmaps import CONSTANT_TOLERANCE, rectify, resize
from whycam.render.sampling import Span, linear_taps, resample_rows
from whycam.reports.page.text import number, shown
from whycam.rows import note_of
from whycam.store import Manifest, Row

LONGEST_MAP = 512
"""Cells on a side: a finer map is averaged down to it, the size of the page's pictures."""

_MAPS_AT_ONCE = 16

STATES = ("", "shown", "uniform", "blank: all zero", "blank: nothing positive", "failed")
"""What a cell's map is, by number; nothing at all comes first."""


def input_size(manifest: Manifest) -> tuple[int, int] | None:
    """Return the (height, width) that the run's model took, None where it differs from image to image."""
    size, how = manifest.preprocessing.get("size"), manifest.preprocessing.get("resize")
    if how == "bounded" or not isinstance(size, Sequence) or len(size) != 2:
        return None
    height, width = size
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def state_of(row: Row, cell: Mapping[str, Any]) -> int:
    """Return the number in ``STATES`` of what a row's map is."""
    note = note_of(row)
    if note:
        return STATES.index(note)
    if "map" not in cell:
        return 0
    return STATES.index("uniform" if cell["uniform"] else "shown")


def cells_of(rows: Sequence[Row], size: tuple[int, int] | None) -> list[dict[str, Any]]:
    """Return what the page needs of rows, as JSON values; ``size`` is the model's input, where it is known.

    ``map`` is the base64 of a byte a cell, which times ``top`` / 255 is the rectified map on ``grid``
    [height, width]; ``highest`` its maximum when it is resized to the model's input, ``peak`` what it is
    divided by: the same, or 1 where the map is uniform. ``box`` is the part that the model saw, (top, left,
    bottom, right) in shares of the picture, ``seen`` in pixels.
    """
    cells = [_facts(row) for row in rows]
    by_grid: dict[tuple[int, ...], list[tuple[dict[str, Any], NDArray[np.floating[Any]]]]] = {}
    for row, cell in zip(rows, cells, strict=True):
        if row.map is not None and row.error is None and row.map.size:
            plane = _plane(row.map)
            by_grid.setdefault(plane.shape, []).append((cell, plane))
    for found in by_grid.values():
        for start in range(0, len(found), _MAPS_AT_ONCE):
            some = found[start : start + _MAPS_AT_ONCE]
            planes = np.stack([plane for _, plane in some]).astype(np.float32)
            for (cell, _), coded in zip(some, _coded(planes, size), strict=True):
                cell |= coded
    return cells


def _facts(row: Row) -> dict[str, Any]:
    return {
        "layer": shown(row.layer or ""),
        "target": shown(row.target or ""),
        "class": row.target_class,
        "error": None if row.error is None else shown(row.error),
        "native": None if row.grid is None else list(row.grid),
        "box": _box(row),
        "seen": None if row.box is None else [number(side) for side in row.box],
    }


def _box(row: Row) -> list[float | None] | None:
    if row.box is None or row.original is None:
        return None
    height, width = row.original
    return [number(side / whole) for side, whole in zip(row.box, (height, width) * 2, strict=True)]


def _plane(values: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Return a map's two axes as they are shown: a signal is one line high, a volume its maximum in depth."""
    if values.ndim == 1:
        return values[None]
    return values if values.ndim == 2 else values.max(axis=0)


def _coded(planes: NDArray[np.float32], size: tuple[int, int] | None) -> Iterator[dict[str, Any]]:
    """Code maps [B, height, width] one by one."""
    evidence = rectify(torch.from_numpy(planes))
    resized = evidence if size is None else resize(evidence, size)
    highest, lowest = resized.amax((1, 2)).tolist(), resized.amin((1, 2)).tolist()
    for values, high, low in zip(evidence.numpy(), highest, lowest, strict=True):
        uniform = high - low <= CONSTANT_TOLERANCE * high
        bounded = _bounded(values)
        top = float(bounded.max())
        levels = np.rint(bounded * (255 / top)) if top > 0 else bounded
        yield {
            "grid": list(bounded.shape),
            "map": base64.b64encode(levels.astype(np.uint8).tobytes()).decode("ascii"),
            "top": float(f"{top:.9g}"),
            "peak": 1.0 if uniform else float(f"{high:.9g}"),
            "highest": float(f"{high:.9g}"),
            "uniform": uniform and high > 0,
        }


def _bounded(values: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    for axis in (0, 1):
        cells = values.shape[axis]
        if cells > LONGEST_MAP:
            taps = linear_taps(Span(0.0, float(LONGEST_MAP), cells), range(LONGEST_MAP))
            rows = values.astype(np.float32) if axis == 0 else values.T.astype(np.float32)
            values = resample_rows(rows, taps) if axis == 0 else resample_rows(rows, taps).T
    return values

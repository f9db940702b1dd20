"""An evaluation in a run folder: measurements as columns of ``metrics.parquet``, and back."""

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

import numpy as np

from whycam.evaluation.controls import CONTROLS
from whycam.evaluation.measurements import Measured, Measurement, OfMethod
from whycam.store import Metrics

_FACTS = ("ties", "blank", "broken", "evidence")
_ABOUT = ("index", "id", "method", "target", "control", *_FACTS)


def columns_of(measured: Measured, target: str) -> dict[str, Any]:
    """Return the columns: a row an image and method, images by number, methods as they were measured."""
    found = {method: measured.of(method) for method in measured.methods}
    methods = list(found)
    numbers = np.concatenate([each.numbers for each in found.values()])
    places = np.concatenate([np.full(len(each), at) for at, each in enumerate(found.values())])
    order = np.lexsort((places, numbers))

    def joined(name: str, kind: str) -> Any:
        return np.concatenate([_column(each, kind, name) for each in found.values()])[order]

    first = found[methods[0]]
    return {
        "index": numbers[order],
        "id": [measured.images[number] for number in numbers[order].tolist()],
        "method": [methods[place] for place in places[order].tolist()],
        "target": [target] * len(order),
        "control": np.array([method in CONTROLS for method in methods])[places[order]],
        **{name: joined(name, "fact") for name in _FACTS},
        **{name: joined(name, "figures") for name in first.figures},
        **{name: joined(name, "curves") for name in first.curves},
    }


def _column(found: OfMethod, kind: str, name: str) -> Any:
    return getattr(found, name) if kind == "fact" else getattr(found, kind)[name]


def measured_in(metrics: Metrics) -> Measured:
    """Return the measurements of an evaluated run. Raises RunError where they are damaged."""
    measured = Measured()
    for _, rows in groupby(metrics.rows(), key=lambda row: row["index"]):
        measured.add(_measurement(row) for row in rows)
    return measured


def _measurement(row: Mapping[str, Any]) -> Measurement:
    figures = {name: _number(row[name]) for name in _of_kind(row, curves=False)}
    return Measurement(
        number=row["index"],
        image=row["id"],
        method=row["method"],
        figures=figures,
        ties=_number(row["ties"]),
        blank=row["blank"],
        broken=row["broken"],
        evidence=_number(row["evidence"]),
        curves={name: [_number(point) for point in row[name]] for name in _of_kind(row, curves=True)},
    )


def _of_kind(row: Mapping[str, Any], *, curves: bool) -> Iterator[str]:
    return (name for name, value in row.items() if name not in _ABOUT and isinstance(value, list) is curves)


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)

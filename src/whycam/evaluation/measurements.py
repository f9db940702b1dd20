"""Figures an image and method, on the host: kept line by line, so that a killed evaluation goes on."""

import json
import math
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whycam.errors import RunError

Column: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Measurement:
    """One image and method: figures by column, NaN where undefined, and what must be said beside them.

    ``number`` is the image's place in its run. ``evidence`` is the probability that the model loses when
    the whole image is removed; NaN without classes. ``curves`` are ``least_FILL`` and ``most_FILL``, the
    scores as pixels are removed, from the clean image to the one without any.
    """

    number: int
    image: str
    method: str
    figures: Mapping[str, float]
    ties: float
    blank: bool
    broken: bool
    evidence: float = math.nan
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class OfMethod:
    """A method's measurements in the images' order: [n] each, and curves [n, steps + 1]."""

    numbers: NDArray[np.int64]
    figures: Mapping[str, Column]
    ties: Column
    blank: NDArray[np.bool_]
    broken: NDArray[np.bool_]
    evidence: Column
    curves: Mapping[str, NDArray[np.float32]]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.numbers)


_FACTS = ("ties", "blank", "broken", "evidence")


@dataclass
class _Growing:
    """A method's columns as they come."""

    numbers: "array[int]" = field(default_factory=lambda: array("q"))
    columns: dict[str, "array[float]"] = field(default_factory=dict)
    curves: dict[str, "array[float]"] = field(default_factory=dict)

    def add(self, row: Measurement) -> None:
        facts = {name: float(getattr(row, name)) for name in _FACTS}
        for name, value in (*facts.items(), *row.figures.items()):
            self.columns.setdefault(name, array("d")).append(value)
        for name, points in row.curves.items():
            self.curves.setdefault(name, array("f")).extend(points)
        self.numbers.append(row.number)

    def in_order(self) -> OfMethod:
        numbers = np.array(self.numbers, np.int64)
        order = np.argsort(numbers, kind="stable")
        columns = {name: np.array(values)[order] for name, values in self.columns.items()}
        curves = {
            name: np.array(points, np.float32).reshape(len(numbers), -1)[order]
            for name, points in self.curves.items()
        }
        return OfMethod(
            numbers=numbers[order],
            ties=columns.pop("ties"),
            blank=columns.pop("blank") != 0,
            broken=columns.pop("broken") != 0,
            evidence=columns.pop("evidence"),
            figures=columns,
            curves=curves,
        )


class Measured:
    """All measurements so far, column by column: a few bytes a figure, whatever the number of images."""

    def __init__(self, rows: Iterable[Measurement] = ()) -> None:
        """Begin with some."""
        self._of: dict[str, _Growing] = {}
        self._images: dict[int, str] = {}
        self._known: dict[str, OfMethod] = {}
        self.add(rows)

    def add(self, rows: Iterable[Measurement]) -> None:
        """Take in more images, each with all of its methods; one that is known already is passed over."""
        for number, of_image in _by_image(rows):
            if number in self._images:
                continue
            for row in of_image:
                self._of.setdefault(row.method, _Growing()).add(row)
                self._images[number] = row.image
        self._known.clear()

    def __contains__(self, number: object) -> bool:
        """Say whether the image of that number is measured."""
        return number in self._images

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._images)

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods as they first came."""
        return tuple(self._of)

    @property
    def images(self) -> Mapping[int, str]:
        """The images' names by number."""
        return self._images

    def of(self, method: str) -> OfMethod:
        """Return a method's measurements."""
        if method not in self._known:
            self._known[method] = self._of[method].in_order()
        return self._known[method]


@dataclass
class MeasurementLog:
    """A file of measurements, one JSON line an image with all methods, that is only ever appended to.

    ``settings`` say what is measured: a log of other settings is refused. A last line that was cut off, when
    the process was killed, is dropped. ``known`` begins with what was measured elsewhere already.
    """

    path: Path
    settings: Mapping[str, Any]
    known: Measured = field(default_factory=Measured)
    _file: Any = None

    def __enter__(self) -> "MeasurementLog":
        """Read what is there and open the file for more. Raises RunError."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("r+b" if self.path.exists() else "w+b")
            whole = self._read()
            self._file.truncate(whole)
            self._file.seek(whole)
            if not whole:
                self._write([{"settings": dict(self.settings)}])
        except BaseException as error:
            if self._file is not None:
                self._file.close()
            if isinstance(error, OSError):
                raise RunError(self._trouble(error)) from error
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._file.close()

    def _trouble(self, error: OSError) -> str:
        return f"can't keep measurements in {str(self.path)!r}: {error.strerror or error}"

    def _read(self) -> int:
        """Take in all whole lines, one at a time; return how many bytes they have."""
        whole, settings = 0, None
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            try:
                document = json.loads(line)
                if settings is None:
                    settings = document["settings"]
                else:
                    check_same_settings(settings, self.settings, self.path)
                    self.known.add([_measurement(row) for row in document["rows"]])
            except (ValueError, KeyError, TypeError) as error:
                raise RunError(
                    f"{str(self.path)!r} is damaged ({error}); delete it to measure again"
                ) from error
            whole += len(line)
        # settings under which nothing was measured yet bind nobody
        return whole if settings == _plain(self.settings) else 0

    def add(self, rows: Sequence[Measurement]) -> None:
        """Keep some more; they are on the disk when this returns. Raises RunError where the disk is full."""
        try:
            self._write([{"rows": [_line(row) for row in of_image]} for _, of_image in _by_image(rows)])
        except OSError as error:
            raise RunError(self._trouble(error)) from error
        self.known.add(rows)

    def _write(self, documents: Sequence[Mapping[str, Any]]) -> None:
        self._file.write("".join(json.dumps(each, allow_nan=False) + "\n" for each in documents).encode())
        self._file.flush()
        os.fsync(self._file.fileno())


def _plain(settings: Mapping[str, Any]) -> Any:
    """Return settings as JSON gives them back."""
    return json.loads(json.dumps(dict(settings)))


def _by_image(rows: Iterable[Measurement]) -> Iterator[tuple[int, Iterator[Measurement]]]:
    """Give each image's number with its rows, methods in their order."""
    return groupby(sorted(rows, key=lambda row: row.number), key=lambda row: row.number)


def check_same_settings(old: Mapping[str, Any], new: Mapping[str, Any], path: Path) -> None:
    """Refuse to go on with measurements of other settings. Raises RunError that names the first."""
    asked = _plain(new)
    if old != asked:
        changed = next(key for key in sorted({*old, *asked}) if old.get(key) != asked.get(key))
        raise RunError(
            f"{str(path)!r} was measured with other settings: {changed} was {old.get(changed)!r}, now "
            f"{asked.get(changed)!r}; give the same, or measure all again (--restart, or delete the file)"
        )


def _line(row: Measurement) -> dict[str, Any]:
    document = asdict(row)
    document["figures"] = {column: _finite_or_null(value) for column, value in row.figures.items()}
    document["curves"] = {
        name: [_finite_or_null(point) for point in points] for name, points in row.curves.items()
    }
    return document | {"ties": _finite_or_null(row.ties), "evidence": _finite_or_null(row.evidence)}


def _finite_or_null(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _measurement(document: Mapping[str, Any]) -> Measurement:
    numbers = {key: _number(document[key]) for key in ("ties", "evidence")}
    figures = {column: _number(value) for column, value in document["figures"].items()}
    curves = {name: [_number(point) for point in points] for name, points in document["curves"].items()}
    return Measurement(**{**document, **numbers, "figures": figures, "curves": curves})


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def digest(tensors: Iterable[Tensor]) -> str:
    """Return the SHA-256 of values, shapes and types: that of the same weights or images is the same."""
    sha = sha256()
    for tensor in tensors:
        values = tensor.detach().cpu().contiguous()
        sha.update(f"{values.dtype} {list(values.shape)}".encode())
        sha.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()

"""Figures an image and method, on the host: kept line by line, so that a killed evaluation goes on."""

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from whycam.errors import RunError


@dataclass(frozen=True)
class Measurement:
    """One image and method: figures by column, NaN where undefined, and what must be said beside them.

    ``evidence`` is the probability that the model loses when the whole image is removed; NaN without classes.
    """

    number: int
    image: str
    method: str
    figures: Mapping[str, float]
    ties: float
    blank: bool
    broken: bool
    evidence: float = math.nan


@dataclass
class MeasurementLog:
    """A file of measurements, one JSON line an image with all methods, that is only ever appended to.

    ``settings`` say what is measured: a log of other settings is refused. A last line that was cut off, when
    the process was killed, is dropped.
    """

    path: Path
    settings: Mapping[str, Any]
    known: list[Measurement] = field(default_factory=list)
    _file: Any = None

    def __enter__(self) -> "MeasurementLog":
        """Read what is there and open the file for more. Raises RunError."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            whole = self._read() if self.path.exists() else 0
            self._file = self.path.open("r+b" if self.path.exists() else "w+b")
            self._file.truncate(whole)
            self._file.seek(whole)
            if not whole:
                self._write([{"settings": dict(self.settings)}])
        except OSError as error:
            raise RunError(
                f"can't keep measurements in {str(self.path)!r}: {error.strerror or error}"
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._file.close()

    def _read(self) -> int:
        """Take in all whole lines; return how many bytes they have."""
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        lines = content[:whole].splitlines()
        if not lines:
            return 0
        try:
            head = json.loads(lines[0])["settings"]
            self.known = [_measurement(row) for line in lines[1:] for row in json.loads(line)["rows"]]
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{str(self.path)!r} is damaged ({error}); delete it to measure again") from error
        asked = json.loads(json.dumps(dict(self.settings)))
        if head != asked:
            changed = next(key for key in sorted({*head, *asked}) if head.get(key) != asked.get(key))
            raise RunError(
                f"{str(self.path)!r} was measured with another {changed} ({head.get(changed)!r}, now "
                f"{asked.get(changed)!r}); measure with the same one, or delete the file"
            )
        return whole

    def add(self, rows: Sequence[Measurement]) -> None:
        """Keep some more; they are on the disk when this returns. Raises RunError where the disk is full."""
        try:
            self._write([{"rows": [_line(row) for row in of_image]} for of_image in _by_image(rows)])
        except OSError as error:
            raise RunError(
                f"can't keep measurements in {str(self.path)!r}: {error.strerror or error}"
            ) from error
        self.known.extend(rows)

    def _write(self, documents: Sequence[Mapping[str, Any]]) -> None:
        self._file.write("".join(json.dumps(each, allow_nan=False) + "\n" for each in documents).encode())
        self._file.flush()
        os.fsync(self._file.fileno())


def _by_image(rows: Sequence[Measurement]) -> list[list[Measurement]]:
    found: dict[int, list[Measurement]] = {}
    for row in rows:
        found.setdefault(row.number, []).append(row)
    return [found[number] for number in sorted(found)]


def _line(row: Measurement) -> dict[str, Any]:
    document = asdict(row)
    document["figures"] = {column: _finite_or_null(value) for column, value in row.figures.items()}
    return document | {"ties": _finite_or_null(row.ties), "evidence": _finite_or_null(row.evidence)}


def _finite_or_null(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _measurement(document: Mapping[str, Any]) -> Measurement:
    numbers = {key: _number(document[key]) for key in ("ties", "evidence")}
    figures = {column: _number(value) for column, value in document["figures"].items()}
    return Measurement(**{**document, **numbers, "figures": figures})


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


def by_method(rows: Sequence[Measurement]) -> Iterator[tuple[str, list[Measurement]]]:
    """Give each method with its measurements in the images' order, methods as they first come."""
    found: dict[str, list[Measurement]] = {}
    for row in sorted(rows, key=lambda row: row.number):
        found.setdefault(row.method, []).append(row)
    yield from found.items()

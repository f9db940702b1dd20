"""What an evaluation left in a run folder: ``metrics.parquet`` and ``evaluation.json``, read."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whycam.errors import RunError
from whycam.store.files import one_line, read_errors
from whycam.store.manifest import check_version
from whycam.store.schema import ArrowTable, plain_text

METRICS_NAME, EVALUATION_NAME = "metrics.parquet", "evaluation.json"

METRICS_VERSION = "1.0"
"""Major and minor version of both files. A later minor only adds; a later major is refused."""

_MEND = "evaluate the run again: whycam evaluate RUN"
_SECTIONS: Mapping[str, type | tuple[type, ...]] = {
    "settings": dict, "images": int, "skipped": dict, "controls": list, "maps": dict, "columns": dict,
}  # fmt: skip


@dataclass(frozen=True)
class Metrics:
    """An evaluated run: ``document`` is ``evaluation.json``, the rows are read when they are asked for.

    ``columns`` are those of ``metrics.parquet``. Methods that read rows raise RunError when it is damaged.
    """

    folder: Path
    document: Mapping[str, Any] = field(repr=False)
    columns: tuple[str, ...] = field(repr=False)

    def table(self, columns: Sequence[str] | None = None) -> ArrowTable:
        """These columns of all rows, or all, as one Arrow table in the plan's order.

        Texts are as they are stored: ``plain_text`` makes ids of them. Raises RunError for a column that
        does not exist.
        """
        with _opened(self.folder / METRICS_NAME) as file:
            return file.read(columns=self._known(columns), use_threads=False)

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """The rows one by one by column, in the plan's order and in bounded memory."""
        with _opened(self.folder / METRICS_NAME) as file:
            for batch in file.iter_batches(columns=self._known(columns), use_threads=False):
                for row in batch.to_pylist():
                    yield {
                        name: plain_text(value) if isinstance(value, str) else value
                        for name, value in row.items()
                    }

    def _known(self, columns: Sequence[str] | None) -> list[str]:
        wanted = list(self.columns if columns is None else columns)
        unknown = [name for name in wanted if name not in self.columns]
        if unknown:
            raise RunError(f"no column {unknown[0]!r}; expected some of {', '.join(self.columns)}")
        return wanted


def read_metrics(folder: str | os.PathLike[str]) -> Metrics | None:
    """Open what an evaluation left in a run folder, None where the run was not evaluated to its end.

    Raises RunError where a file of it is missing, damaged or of a later major version.
    """
    place = Path(folder)
    try:
        with read_errors(place / EVALUATION_NAME):
            content = (place / EVALUATION_NAME).read_bytes()
    except FileNotFoundError:
        return None
    document = _document(content, place / EVALUATION_NAME)
    with _opened(place / METRICS_NAME) as file:
        return Metrics(place, document, tuple(file.schema_arrow.names))


def _document(content: bytes, path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(content.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RunError(f"{str(path)!r} is damaged ({one_line(error)}); {_MEND}") from error
    if not isinstance(document, dict):
        raise RunError(f"{str(path)!r} holds a {type(document).__name__}; expected an object; {_MEND}")
    try:
        check_version(document, METRICS_VERSION)
    except RunError as error:
        raise RunError(f"{str(path)!r}: {error}") from error
    for name, kind in _SECTIONS.items():
        if not isinstance(document.get(name), kind):
            raise RunError(f"{str(path)!r} is damaged (no {name!r} as whycam writes it); {_MEND}")
    return document


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open the table. Raises RunError in one line where it is missing or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with read_errors(path):
            source = path.open("rb")
    except FileNotFoundError as error:
        raise RunError(f"{str(path)!r} is missing beside {EVALUATION_NAME}; {_MEND}") from error
    try:
        # no pre_buffer: its thread and a process that forks workers do not go together
        with source, pq.ParquetFile(source, pre_buffer=False, page_checksum_verification=True) as file:
            yield file
    except (pa.ArrowException, OSError, ValueError) as error:
        raise RunError(f"{str(path)!r} is damaged ({one_line(error)}); {_MEND}") from error

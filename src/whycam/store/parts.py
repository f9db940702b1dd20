"""The Parquet files of a run: opening them, and going through what is committed, each row once."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from whycam.errors import RunError
from whycam.store.files import one_line, read_errors
from whycam.store.folder import RunFolder
from whycam.store.schema import COLUMN_NAMES, COMMIT, ArrowTable, arrow_schema

MERGED_THROUGH = b"whycam.merged_through"
"""Metadata of ``explanations.parquet``: every commit up to this number is in it."""

WRITE_OPTIONS: dict[str, Any] = {
    "compression": "zstd",
    "write_page_checksum": True,  # a flipped bit is then an error, not another number
    # the maps' values hardly repeat: a dictionary and statistics of them cost more than the rest of a commit
    "use_dictionary": ["label", "prediction_name", "target", "method", "layer", "picture"],
    "write_statistics": [name for name in COLUMN_NAMES if name not in ("map", "grid")],
}

_SHARD_MEND = "delete it and go on with --resume, which makes its rows again"
_MERGED_MEND = "restore it from a copy, or explain again into another --out"
_SHARD_NAME = re.compile(r"part-(\d{6,18})\.parquet")


@dataclass(frozen=True)
class Part:
    """An open Parquet file of a run."""

    path: Path
    mend: str
    parquet: Any

    @property
    def merged_through(self) -> int:
        """The number of the last commit in a merged file. Raises RunError where it is missing."""
        text = (self.parquet.schema_arrow.metadata or {}).get(MERGED_THROUGH, b"")
        if not text.isdigit():
            raise RunError(f"{str(self.path)!r} was not written by whycam's run; {self.mend}")
        return int(text)

    @property
    def groups(self) -> int:
        """The number of row groups."""
        return int(self.parquet.num_row_groups)

    def size(self, group: int) -> int:
        """The uncompressed bytes of a row group."""
        return int(self.parquet.metadata.row_group(group).total_byte_size)

    def read(self, group: int, columns: Sequence[str] = COLUMN_NAMES) -> ArrowTable:
        """These columns of a row group, absent ones as nulls. Raises RunError when damaged."""
        with _damage(self.path, self.mend):
            names = set(self.parquet.schema_arrow.names)
            known = [name for name in columns if name in names]
            table = self.parquet.read_row_group(group, columns=known, use_threads=False)
            return _aligned(table, columns)


@contextmanager
def open_part(path: Path) -> Iterator[Part]:
    """Open a shard or the merged file. Raises FileNotFoundError when it is gone, RunError when damaged."""
    import pyarrow.parquet as pq

    mend = _SHARD_MEND if _SHARD_NAME.fullmatch(path.name) else _MERGED_MEND
    with _opened_file(path) as file:
        with _damage(path, mend):
            # no pre_buffer: it starts a thread of pyarrow's, and a process with one that forks workers, as
            # data loaders do, now and then aborts at its end
            parquet = pq.ParquetFile(file, pre_buffer=False, page_checksum_verification=True)
        try:
            yield Part(path, mend, parquet)
        finally:
            parquet.close()


def shard_path(folder: RunFolder, number: int) -> Path:
    """Where commit ``number`` lies."""
    return folder.shards / f"part-{number:06d}.parquet"


def has_merged(folder: RunFolder) -> bool:
    """Whether there is a merged file. Raises RunError when that cannot be told."""
    with read_errors(folder.table):
        return folder.table.exists()


def list_shards(folder: RunFolder) -> list[tuple[int, Path]]:
    """The commits that lie in ``rows/``, by number. Raises RunError when the folder cannot be read."""
    try:
        with read_errors(folder.shards):
            names = os.listdir(folder.shards)
    except FileNotFoundError:
        return []
    matches = (_SHARD_NAME.fullmatch(name) for name in names)
    return sorted((int(match[1]), folder.shards / match[0]) for match in matches if match)


def committed(folder: RunFolder, columns: Sequence[str] = COLUMN_NAMES) -> Iterator[ArrowTable]:
    """Every committed row once, table by table, also while a writer commits, merges and cleans up.

    The order is the merged file's, then that of the commits. Rows that are committed after the first table
    may come or not. Raises RunError when a file is damaged.
    """
    seen, gone = 0, 0
    while True:
        # before the merged file is looked at: shards go only after they are in it
        shards = list_shards(folder)
        if has_merged(folder):
            with open_part(folder.table) as merged:
                through = merged.merged_through
                if through > seen:
                    yield from _after(merged, seen, columns)
                    seen = through
        for number, path in shards:
            if number <= seen:
                continue
            tables = _whole_shard(path, columns)
            if tables is None and number == gone:
                raise RunError(f"{str(path)!r} is listed and cannot be opened; {_SHARD_MEND}")
            if tables is None:
                gone = number  # merged meanwhile: look again
                break
            yield from tables
            seen = number
        else:
            return


def remove_merged_shards(folder: RunFolder, through: int) -> None:
    """Remove the commits that the merged file has, as far as possible."""
    for number, path in list_shards(folder):
        if number <= through:
            with suppress(OSError):
                os.unlink(path)


def _whole_shard(path: Path, columns: Sequence[str]) -> list[ArrowTable] | None:
    """A shard's tables; None where a finishing writer has removed it."""
    try:
        with open_part(path) as part:
            return [part.read(group, columns) for group in range(part.groups)]
    except FileNotFoundError:
        return None


def _after(part: Part, seen: int, columns: Sequence[str]) -> Iterator[ArrowTable]:
    import pyarrow.compute as pc

    for group in range(part.groups):
        if not seen:
            yield part.read(group, columns)
            continue
        table = part.read(group, list(dict.fromkeys([*columns, COMMIT])))
        yield table.filter(pc.greater(table.column(COMMIT), seen)).select(list(columns))


def _opened_file(path: Path) -> BinaryIO:
    # Python's open: pyarrow's own cannot take a path with undecodable bytes
    with read_errors(path):
        return open(path, "rb")


@contextmanager
def _damage(path: Path, mend: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise RunError(f"{str(path)!r} is damaged ({one_line(error)}); {mend}") from error


def _aligned(table: ArrowTable, columns: Sequence[str]) -> ArrowTable:
    """The table with these columns in our types: an earlier minor's lack some, a later one's has more."""
    import pyarrow as pa

    fields = [arrow_schema().field(name) for name in columns]
    schema = pa.schema(fields)
    if table.schema.equals(schema):
        return table.replace_schema_metadata(None)
    arrays = []
    for name, field in zip(columns, fields, strict=True):
        if name in table.column_names:
            arrays.append(table.column(name).cast(field.type))
        elif field.nullable:
            arrays.append(pa.chunked_array([pa.nulls(table.num_rows, field.type)]))
        else:
            raise ValueError(f"it lacks the column {name!r}")
    return pa.Table.from_arrays(arrays, schema=schema)

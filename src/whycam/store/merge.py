"""All commits into one ``explanations.parquet``, in the plan's order, in bounded memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from whycam.store.files import sync_folder, write_atomically
from whycam.store.folder import RunFolder
from whycam.store.parts import MERGED_THROUGH, WRITE_OPTIONS, has_merged, list_shards, open_part
from whycam.store.schema import ArrowTable, arrow_schema

GROUP_BYTES = 16 << 20
"""About how many uncompressed bytes a row group of the merged file has; a merge holds several of these."""

_GROUP_ROWS = 1 << 16


@dataclass(frozen=True)
class Merged:
    """What a merged file holds: its last commit's number and how many images have an error."""

    through: int
    failures: int


@dataclass(frozen=True)
class _Unit:
    """A row group of a shard or of the earlier merged file."""

    path: Path
    group: int


@dataclass(frozen=True)
class _Survey:
    """Every row's source and place in it, in the plan's order, and the bytes that it takes about.

    ``broken`` says which rows have an error; ``failures`` counts the images of these.
    """

    units: list[_Unit]
    unit: NDArray[np.int32]
    position: NDArray[np.int32]
    size: NDArray[np.float64]
    broken: NDArray[np.bool_]
    failures: int

    def without_errors(self) -> "_Survey":
        """The rows that have no error."""
        kept = ~self.broken
        return replace(
            self,
            unit=self.unit[kept],
            position=self.position[kept],
            size=self.size[kept],
            broken=self.broken[kept],
            failures=0,
        )


def merge(folder: RunFolder) -> Merged:
    """Bring ``explanations.parquet`` up to date with the commits, which stay. Raises RunError, OSError."""
    paths, through = _sources(folder)
    survey = _survey(paths)
    if paths != [folder.table]:
        _replace_table(folder, survey, through)
    return Merged(through, survey.failures)


def drop_errors(folder: RunFolder) -> int:
    """Merge all commits but for the rows with an error; return the last commit's number.

    The commits stay, and are passed over. Raises RunError, OSError.
    """
    paths, through = _sources(folder)
    _replace_table(folder, _survey(paths).without_errors(), through)
    return through


def _sources(folder: RunFolder) -> tuple[list[Path], int]:
    """The files that hold the committed rows, the earlier merged one first, and the last commit's number."""
    shards = list_shards(folder)
    before = _merged_through(folder)
    fresh = [path for number, path in shards if number > (before or 0)]
    through = max([before or 0, *(number for number, _ in shards)])
    return (fresh if before is None else [folder.table, *fresh]), through


def _replace_table(folder: RunFolder, survey: _Survey, through: int) -> None:
    write_atomically(folder.table, folder.scratch, lambda file: _write(file, survey, through))
    sync_folder(folder.path)


def _merged_through(folder: RunFolder) -> int | None:
    if not has_merged(folder):
        return None
    with open_part(folder.table) as part:
        return part.merged_through


def _survey(paths: Sequence[Path]) -> _Survey:
    units: list[_Unit] = []
    indices, sizes = [np.zeros(0, np.int64)], []
    errors = [np.zeros(0, np.bool_)]
    failed: set[str] = set()
    for path in paths:
        with open_part(path) as part:
            for group in range(part.groups):
                table = part.read(group, ["index", "id", "error"])
                units.append(_Unit(path, group))
                indices.append(table.column("index").to_numpy())
                sizes.append(part.size(group) / max(table.num_rows, 1))
                broken = table.column("error").is_valid()
                errors.append(broken.to_numpy())
                failed.update(table.filter(broken).column("id").to_pylist())
    counts = np.array([len(index) for index in indices[1:]], np.int64)
    order = np.argsort(np.concatenate(indices), kind="stable")
    unit = np.repeat(np.arange(len(units)), counts)[order]
    starts = np.cumsum(counts) - counts
    return _Survey(
        units=units,
        unit=unit.astype(np.int32),
        position=(order - starts[unit]).astype(np.int32),
        size=np.array(sizes, np.float64)[unit],
        broken=np.concatenate(errors)[order],
        failures=len(failed),
    )


def _write(file: BinaryIO, survey: _Survey, through: int) -> None:
    import pyarrow.parquet as pq

    schema = arrow_schema()
    schema = schema.with_metadata({**schema.metadata, MERGED_THROUGH: str(through)})
    with pq.ParquetWriter(file, schema, **WRITE_OPTIONS) as writer:
        for rows in _chunks(survey.size):
            writer.write_table(_gather(survey, rows).replace_schema_metadata(schema.metadata))


def _chunks(sizes: NDArray[np.float64]) -> Iterator[slice]:
    """Runs of rows that together take about ``GROUP_BYTES``, a row at least."""
    ends = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        done = ends[start - 1] if start else 0.0
        fitting = int(np.searchsorted(ends, done + GROUP_BYTES, side="right"))
        stop = min(max(fitting, start + 1), start + _GROUP_ROWS)
        yield slice(start, stop)
        start = stop


def _gather(survey: _Survey, rows: slice) -> ArrowTable:
    """The rows of one chunk, in order, each source read once."""
    import pyarrow as pa

    unit, position = survey.unit[rows], survey.position[rows]
    by_source = np.lexsort((position, unit))
    wanted, first = np.unique(unit[by_source], return_index=True)
    takes = np.split(position[by_source], first[1:])
    tables = [_read(survey.units[number]).take(take) for number, take in zip(wanted, takes, strict=True)]
    table = pa.concat_tables(tables).combine_chunks()
    in_order = np.array_equal(by_source, np.arange(len(by_source)))
    return table if in_order else table.take(np.argsort(by_source))


def _read(unit: _Unit) -> ArrowTable:
    with open_part(unit.path) as part:
        return part.read(unit.group)

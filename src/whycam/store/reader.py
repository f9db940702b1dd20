"""Reading a run, finished or not, also while it is being written."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whycam.errors import RunError
from whycam.store.folder import RunFolder
from whycam.store.manifest import Manifest, read_document
from whycam.store.parts import committed, has_merged
from whycam.store.schema import COLUMN_NAMES, ArrowTable, Row, arrow_schema, record_map, table_to_rows


@dataclass(frozen=True)
class Run:
    """A run folder as it was when it was opened; its rows are read when they are asked for.

    Every method that reads rows gives each committed row once, and raises RunError when a file is missing
    or damaged.
    """

    folder: Path
    manifest: Manifest

    def batches(self, columns: Sequence[str] = COLUMN_NAMES) -> Iterator[ArrowTable]:
        """These columns table by table, in bounded memory.

        A finished run comes in the plan's order, an unfinished one in the order of writing. Raises RunError
        for a column that does not exist.
        """
        unknown = [name for name in columns if name not in COLUMN_NAMES]
        if unknown:
            raise RunError(f"no column {unknown[0]!r}; expected some of {', '.join(COLUMN_NAMES)}")
        return self._batches(columns)

    def rows(self) -> Iterator[Row]:
        """The rows one by one, in the order of ``batches``."""
        for table in self.batches():
            yield from table_to_rows(table)

    def table(self, columns: Sequence[str] = COLUMN_NAMES) -> ArrowTable:
        """These columns of all rows as one Arrow table in the plan's order."""
        import pyarrow as pa
        import pyarrow.compute as pc

        tables = list(self.batches(list(dict.fromkeys([*columns, "index"]))))
        table = pa.concat_tables(tables) if tables else arrow_schema().empty_table()
        # two keys: sorting by one need not be stable
        places = pa.array(np.arange(table.num_rows))
        order = pc.sort_indices(
            pa.table({"index": table.column("index"), "place": places}),
            sort_keys=[("index", "ascending"), ("place", "ascending")],
        )
        return table.take(order).select(list(columns))

    def map_of(self, row: Row | Mapping[str, Any]) -> NDArray[np.float32]:
        """The float32 map of a row, or of a record of ``table().to_pylist()``.

        Raises RunError when it has none, as the row of an image with an error.
        """
        values = row.map if isinstance(row, Row) else record_map(row)
        if values is None:
            name, error = (row.id, row.error) if isinstance(row, Row) else (row["id"], row.get("error"))
            raise RunError(
                f"the row of {name!r} has no map ({error or 'none was stored'}); pass rows with one"
            )
        return values.astype(np.float32, copy=False)

    def _batches(self, columns: Sequence[str]) -> Iterator[ArrowTable]:
        folder = RunFolder(self.folder)
        if self.manifest.finished and not has_merged(folder):
            raise RunError(
                f"run folder {str(self.folder)!r} is finished and lacks {folder.table.name}; "
                "restore it from a copy, or explain again into another --out"
            )
        yield from committed(folder, columns)


def read_run(folder: str | os.PathLike[str]) -> Run:
    """Open a run folder. Raises RunError when it is missing, not a run, damaged or of a later version."""
    path = Path(folder)
    return Run(path, Manifest.from_document(read_document(RunFolder(path))))

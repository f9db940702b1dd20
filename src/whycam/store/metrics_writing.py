"""What an evaluation leaves in a run folder: ``metrics.parquet``, and then ``evaluation.json``, written."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whycam.store.files import remove_files, run_errors, sync_folder, write_atomically
from whycam.store.folder import RunFolder
from whycam.store.manifest import dump_document
from whycam.store.metrics import EVALUATION_NAME, METRICS_NAME, METRICS_VERSION
from whycam.store.schema import safe_text

Values = NDArray[Any] | Sequence[str | None]


def write_metrics(folder: Path, columns: Mapping[str, Values], document: Mapping[str, object]) -> None:
    """Write both files, each whole or not at all; ``evaluation.json`` comes last, and says that all is there.

    ``columns`` are [rows] each, or [rows, points]; NaN becomes null. Raises RunError where the disk fails.
    """
    import pyarrow.parquet as pq

    run = RunFolder(folder)
    table = _table(columns)
    with run_errors(f"write {METRICS_NAME} into {str(folder)!r}"):
        run.scratch.mkdir(exist_ok=True)
        write_atomically(
            folder / METRICS_NAME,
            run.scratch,
            lambda file: pq.write_table(table, file, compression="zstd", write_page_checksum=True),
        )
        content = dump_document({"schema_version": METRICS_VERSION, **document})
        write_atomically(folder / EVALUATION_NAME, run.scratch, lambda file: file.write(content))
        sync_folder(folder)
        remove_files(run.scratch)


def remove_metrics(folder: Path) -> None:
    """Remove both files, ``evaluation.json`` first, without which the other says nothing."""
    with run_errors(f"remove the evaluation in {str(folder)!r}"):
        for name in (EVALUATION_NAME, METRICS_NAME):
            (folder / name).unlink(missing_ok=True)


def _table(columns: Mapping[str, Values]) -> Any:
    import pyarrow as pa

    return pa.table({name: _array(values) for name, values in columns.items()})


def _array(values: Values) -> Any:
    import pyarrow as pa

    if not isinstance(values, np.ndarray):
        return pa.array([safe_text(value) for value in values], pa.string())
    if values.ndim == 2:
        offsets = np.arange(0, values.size + 1, values.shape[1], dtype=np.int32)
        return pa.ListArray.from_arrays(offsets, _array(values.ravel()))
    return pa.array(values, mask=np.isnan(values) if values.dtype.kind == "f" else None)

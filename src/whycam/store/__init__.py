"""The run folder on disk: written as the run goes, whole after a kill, read by everything else."""

from whycam.store.manifest import (
    SCHEMA_VERSION,
    LayerRecord,
    Manifest,
    MethodRecord,
    ModelRecord,
    Resumption,
)
from whycam.store.reader import Run, read_run
from whycam.store.schema import COLUMN_NAMES, Key, Row
from whycam.store.writer import RunWriter

__all__ = [
    "COLUMN_NAMES",
    "SCHEMA_VERSION",
    "Key",
    "LayerRecord",
    "Manifest",
    "MethodRecord",
    "ModelRecord",
    "Resumption",
    "Row",
    "Run",
    "RunWriter",
    "read_run",
]

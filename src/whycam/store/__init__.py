"""The run folder on disk: written as the run goes, whole after a kill, read by everything else."""

from whycam.store.manifest import (
    SCHEMA_VERSION,
    LayerRecord,
    Manifest,
    MethodRecord,
    ModelRecord,
    Resumption,
)
from whycam.store.metrics import EVALUATION_NAME, METRICS_NAME, METRICS_VERSION, Metrics, read_metrics
from whycam.store.reader import Run, read_run
from whycam.store.schema import COLUMN_NAMES, Key, Row
from whycam.store.writer import RunWriter

__all__ = [
    "COLUMN_NAMES",
    "EVALUATION_NAME",
    "METRICS_NAME",
    "METRICS_VERSION",
    "SCHEMA_VERSION",
    "Key",
    "LayerRecord",
    "Manifest",
    "MethodRecord",
    "Metrics",
    "ModelRecord",
    "Resumption",
    "Row",
    "Run",
    "RunWriter",
    "read_metrics",
    "read_run",
]

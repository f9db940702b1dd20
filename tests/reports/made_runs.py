"""Run folders for the tests of reports, made with the writer that every run is made with."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from whycam.reports.facts import RunFacts, facts_of
from whycam.store import LayerRecord, Manifest, MethodRecord, ModelRecord, Row, Run, RunWriter, read_run

MANIFEST = Manifest(
    command=("whycam", "explain", "timm:resnet18", "pets"),
    versions={"python": "3.9.77", "whycam": "0.0.71", "torch": "2.3.72", "timm": "0.8.73"},
    device="cuda:0 (Test GPU)",
    seed=7,
    model=ModelRecord(
        reference="timm:resnet18",
        provenance="weights of best.pth (SHA-256 abababababab)",
        weights_sha256="ab" * 32,
    ),
    preprocessing={
        "size": [224, 192],
        "resize": "shorter",
        "resize_to": [256, 219],
        "interpolation": "bicubic",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "channels": 3,
        "crop": "center",
        "fill": [0, 0, 0],
        "antialias": True,
        "channel_order": "rgb",
        "side_multiple": 1,
        "side_rounding": "up",
    },
    class_names=("cat", "dog", "犬"),
    methods=(MethodRecord(name="gradcam"),),
    target="top class",
    layer=LayerRecord(paths=("layer4",), reason="the deepest layer that all evidence passes through"),
    sources=("pets",),
    image_count=4,
    created="2026-01-02T03:04:05Z",
)


def peak(y: int, x: int, grid: tuple[int, int] = (3, 4)) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Give a map with one bright cell, a dimmer one beside it and a negative one."""
    values = np.zeros(grid, np.float32)
    values[y, x], values[y, (x + 1) % grid[1]], values[(y + 1) % grid[0], x] = 2.0, 0.5, -1.0
    return values


def made_row(index: int, method: str = "gradcam", **changes: Any) -> Row:
    """Give a row of an image that is predicted as it is labelled."""
    known: dict[str, Any] = {
        "id": f"{index}.jpg",
        "path": f"pets/{index}.jpg",
        "label": "cat",
        "prediction": 0,
        "prediction_name": "cat",
        "probability": 0.75,
        "target": "top class",
        "target_class": 0,
        "score": 3.0,
        "layer": "layer4",
        "map": peak(index % 3, index % 4),
        "original": (300, 400),
        "box": (0.0, 0.0, 300.0, 400.0),
    }
    return Row(index=index, method=method, **{**known, **changes})


def failed_row(index: int, method: str = "gradcam") -> Row:
    """Give the row of an image that could not be read."""
    return Row(
        index=index, id=f"{index}.jpg", path=f"{index}.jpg", method=method, error="the file is cut off"
    )


def made_run(folder: Path, rows: Iterable[Row], *, finish: bool = True, **changes: Any) -> Run:
    """Write a run folder with these rows, and with these changes to ``MANIFEST``."""
    with RunWriter.create(folder, replace(MANIFEST, **changes)) as writer:
        writer.write(rows)
        if finish:
            writer.finish()
    return read_run(folder)


def made_facts(folder: Path, rows: Iterable[Row] | None = None, **changes: Any) -> list[RunFacts]:
    """Write a run and count it."""
    return facts_of([made_run(folder, [made_row(0), made_row(1)] if rows is None else rows, **changes)])

"""Evaluations in run folders, for the tests of reports: figures are drawn, judged as in every evaluation."""

import json
import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from whycam.evaluation import CONTROLS, Evaluation, Plan, find_metric
from whycam.evaluation.measurements import Measured, Measurement
from whycam.store import EVALUATION_NAME, METRICS_NAME, METRICS_VERSION, Run
from whycam.store.schema import safe_text

METRICS = ("srg", "energy", "averagedrop")
STEPS = 10


def ordinary(method: str, place: int, column: str, image: int) -> float:
    """Give methods better figures than controls, the first the best."""
    generator = np.random.default_rng(zlib.crc32(ascii((method, column, image)).encode()))
    known = {"energy": 0.5, "averagedrop": 0.3}.get(column, 2.0)
    level = 0.05 if method in CONTROLS else 1 - 0.3 * min(place, 3)
    return float(known * (level + 0.1 * generator.standard_normal()))


def evaluate_run(
    run: Run,
    *,
    methods: Sequence[str] | None = None,
    metrics: Sequence[str] = METRICS,
    figure: Callable[[str, int, str, int], float] = ordinary,
    scale: str = "probability",
    blank: Callable[[str, int], bool] = lambda method, image: False,
    change: Callable[[dict[str, Any]], object] = lambda document: None,
) -> None:
    """Put an evaluation of a run's images into its folder; ``figure(method, place, column, image)``."""
    names = [*(methods or [method.name for method in run.manifest.methods])]
    names = [*(name for name in names if name not in CONTROLS), *CONTROLS]
    images = list({row.id: row for row in run.rows() if row.error is None}.values())
    measured = [find_metric(name) for name in metrics]
    columns = [
        column
        for metric in measured
        for fill in metric.fills or ("",)
        for column in _columns(metric.name, fill, metric.by_scale)
    ]
    rows = tuple(
        Measurement(
            number=row.index, image=row.id, method=name, ties=0.25, blank=blank(name, row.index),
            broken=False, evidence=0.6,
            figures={each: figure(name, place, each, row.index) for each in columns},
        )
        for row in images
        for place, name in enumerate(names)
    )  # fmt: skip
    plan = Plan(tuple(measured), len(names), STEPS)
    found = Evaluation(plan, Measured(rows))
    curves = {
        fill: {name: _courses(name, place, len(images)) for place, name in enumerate(names)}
        for fill in plan.fills
    }
    _write(run, found, rows, curves, scale, change)


def _columns(metric: str, fill: str, by_scale: bool) -> list[str]:
    stem = "_".join(filter(None, (metric, fill)))
    return [f"{stem}_logit", f"{stem}_probability"] if by_scale else [stem]


def _courses(method: str, place: int, images: int) -> dict[str, Any]:
    """Give falling scores: the better a method, the sooner with the most important removed."""
    share = np.linspace(0, 1, STEPS + 1)
    gain = 0.0 if method in CONTROLS else 1.5 / (1 + place % 7)
    spread = np.where((share > 0) & (share < 1), 0.04, 0.0) if images > 1 else np.full(STEPS + 1, np.nan)
    courses = {"least": 1 - share ** (1 + gain), "most": (1 - share) ** (1 + gain)}
    return {
        name: {
            "mean": listed(0.9 * mean),
            "low": listed(0.9 * mean - spread),
            "high": listed(0.9 * mean + spread),
        }
        for name, mean in courses.items()
    }


def listed(values: Any) -> list[float | None]:
    """Give JSON's numbers, null for what is not finite."""
    return [float(value) if math.isfinite(value) else None for value in values]


def _write(
    run: Run,
    found: Evaluation,
    rows: Sequence[Measurement],
    curves: dict[str, Any],
    scale: str,
    change: Callable[[dict[str, Any]], object],
) -> None:
    targets = {(row.id, row.method): row.target for row in run.rows()}
    names = list(rows[0].figures)
    table: dict[str, Any] = {
        "index": [row.number for row in rows],
        "id": [safe_text(row.image) for row in rows],
        "method": [safe_text(row.method) for row in rows],
        "target": [targets.get((row.image, row.method)) for row in rows],
        "control": [row.method in CONTROLS for row in rows],
        "ties": [row.ties for row in rows],
        "blank": [row.blank for row in rows],
        "broken": [row.broken for row in rows],
        "evidence": [row.evidence for row in rows],
    }
    table |= {name: listed(row.figures[name] for row in rows) for name in names}
    pq.write_table(pa.table(table), run.folder / METRICS_NAME, write_page_checksum=True)
    document: dict[str, Any] = {
        "schema_version": METRICS_VERSION,
        "created": "2026-02-03T04:05:06Z",
        "command": ["whycam", "evaluate", "run"],
        "versions": {"whycam": "0.0.81", "torch": "2.3.82"},
        "device": "cuda:0 (Test GPU)",
        "settings": {
            "metrics": [one.name for one in found.plan.metrics], "steps": STEPS, "seed": 0, "masks": None,
        },
        "images": len({row.number for row in rows}),
        "skipped": {"count": 0, "first": []},
        **found.to_document(),
        "curves": {"scale": scale, "steps": STEPS, "fills": curves} if curves else None,
    }  # fmt: skip
    change(document)
    (run.folder / EVALUATION_NAME).write_text(json.dumps(document, allow_nan=False))

"""A run folder, measured: its maps as they are, its images read again, batch by batch."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from whycam.data.masks import MaskSource
from whycam.engine import explaining
from whycam.errors import RunError, UsageError
from whycam.evaluation.controls import CONTROLS
from whycam.evaluation.evaluate import BATCH, LayerPaths, Progress, Settings, Subject
from whycam.evaluation.kept import columns_of, measured_in
from whycam.evaluation.measurements import Measured, MeasurementLog, check_same_settings, digest
from whycam.evaluation.plan import Plan
from whycam.evaluation.registry import find_metrics
from whycam.evaluation.summary import Evaluation
from whycam.evaluation.work import Odd, Work
from whycam.explainer import ATTENTION, INPUT
from whycam.methods import Smoothing
from whycam.models import LoadedModel
from whycam.rows import device_text, versions
from whycam.runs.probe import layers_of
from whycam.store import Manifest, Metrics, Run, read_metrics, read_run
from whycam.store.folder import RunFolder
from whycam.store.lock import FolderLock
from whycam.store.manifest import utc_now
from whycam.store.metrics import EVALUATION_NAME
from whycam.store.metrics_writing import remove_metrics, write_metrics
from whycam.targets import Target

LOG_NAME = ".measurements.jsonl"
"""Measurements of an evaluation that is not finished, in the run folder."""

Existing: TypeAlias = Literal["continue", "restart"]
"""What to do with an evaluation that is in the folder: go on behind it, or measure all again."""


@dataclass(frozen=True)
class RunEvaluation:
    """What was measured of a run, what was odd, and how many images an earlier call had measured."""

    folder: Path
    evaluation: Evaluation
    odd: Odd
    reused: int = 0

    def to_document(self) -> dict[str, object]:
        """Return what ``evaluation.json`` says of the figures."""
        return {
            "images": len(self.evaluation.measured),
            "without_mask": self.odd.without_mask,
            "skipped": {"count": self.odd.skipped_count, "first": [list(one) for one in self.odd.skipped]},
            **self.evaluation.to_document(),
        }


def evaluate_run(
    folder: str | os.PathLike[str],
    model: LoadedModel,
    *,
    metrics: Sequence[str] | None = None,
    masks: MaskSource | None = None,
    target: Target | None = None,
    smoothing: Smoothing | None = None,
    steps: int = 20,
    seed: int = 0,
    batch_size: int = BATCH,
    max_pixels: int = 100_000_000,
    command: Sequence[str] = ("evaluate_run",),
    existing: Existing = "continue",
    progress: Progress = lambda finished, planned: None,
) -> RunEvaluation:
    """Measure the maps of a finished run folder, and write ``metrics.parquet`` and ``evaluation.json`` there.

    ``model`` is the run's own: its weights, preprocessing and scores are compared with what the run says.
    The maps are the run's; the images are read again, ``batch_size`` at a time, and one that is gone or has
    changed is skipped with its reason. ``target`` is needed only where the run explains no class of each
    image, and ``smoothing`` only where a metric explains anew. What is measured is kept image by image:
    after a kill the same call goes on behind it. Raises a WhycamError.
    """
    run = read_run(folder)
    check_model(run.manifest, model)
    names = tuple(one.name for one in run.manifest.methods if one.name not in CONTROLS)
    settings = Settings(find_metrics(metrics, masks=masks is not None), steps, seed)
    plan = Plan(settings.metrics, len(names) + len(CONTROLS), steps, len(model.preprocessing.size))
    _check_smoothing(run.manifest, smoothing, plan)
    told = _told(run.manifest, model, settings, names, masks, target)
    lock = FolderLock.acquire(RunFolder(run.folder).lock)
    try:
        if existing == "restart":
            remove_metrics(run.folder)
            (run.folder / LOG_NAME).unlink(missing_ok=True)
        earlier = _earlier(run, told)
        known = Measured() if earlier is None else measured_in(earlier)
        written = len(known)
        with explaining(model.module) as live, MeasurementLog(run.folder / LOG_NAME, told, known) as log:
            subject = Subject(live, names, _layers(run.manifest), settings, smoothing)
            work = Work(model, subject, plan, log, target, masks)
            reused = len(known)
            work.measure_all(run, batch_size, max_pixels, progress)
        found = RunEvaluation(run.folder, Evaluation(plan, known, seed), work.odd, reused)
        if len(known) > written:
            columns = columns_of(known, told["target"])
            write_metrics(run.folder, columns, {**_made(work, told, command), **found.to_document()})
        (run.folder / LOG_NAME).unlink(missing_ok=True)
    finally:
        lock.release()
    if not len(known):
        raise RunError(f"no image of {str(run.folder)!r} can be measured; {_first_reason(work.odd)}")
    return found


def _first_reason(odd: Odd) -> str:
    return f"the first, {': '.join(odd.skipped[0])}" if odd.skipped else "it holds none"


def check_model(manifest: Manifest, model: LoadedModel) -> None:
    """Refuse an unfinished run, and a model that is not the run's. Raises RunError or UsageError."""
    if not manifest.finished:
        raise RunError("the run is not finished; go on with whycam explain ... --resume, then evaluate it")
    model.check_takes_pictures()
    weights, given = manifest.model.weights_sha256, model.provenance.sha256
    if weights != given:
        raise UsageError(
            f"the run's weights are {_short(weights)}, and the model has {_short(given)}; give the weights "
            f"that the run was made with ({manifest.model.provenance})"
        )
    if model.preprocessing.to_dict() != manifest.preprocessing:
        raise UsageError(
            f"the model prepares images as {model.preprocessing.describe()}, which is not how the run's were "
            "prepared; load it with the preprocessing in manifest.json"
        )


def _short(sha256: str | None) -> str:
    return "of no file" if sha256 is None else f"SHA-256 {sha256[:12]}"


def _check_smoothing(manifest: Manifest, smoothing: Smoothing | None, plan: Plan) -> None:
    """Where a metric explains anew, it must do so as the run did."""
    own = manifest.settings.get("smoothing")
    given = None if smoothing is None else repr(smoothing)
    if plan.explanations and own != given:
        raise UsageError(
            f"the run's maps are smoothed by {own}, and a metric would explain again with {given}; give the "
            "same smoothing, or leave out the metrics that explain again"
        )


def _told(
    manifest: Manifest,
    model: LoadedModel,
    settings: Settings,
    methods: Sequence[str],
    masks: MaskSource | None,
    target: Target | None,
) -> dict[str, Any]:
    """Say what is measured: an evaluation goes on only with the same."""
    weights = digest([*model.module.parameters(), *model.module.buffers()])
    return {
        "metrics": [metric.name for metric in settings.metrics],
        "steps": settings.steps,
        "seed": settings.seed,
        "masks": None if masks is None else masks.describe(),
        "methods": list(methods),
        "target": manifest.target if target is None else target.describe(),
        "explained": manifest.created,
        "weights": weights,
    }


def _earlier(run: Run, told: Mapping[str, Any]) -> Metrics | None:
    metrics = read_metrics(run.folder)
    if metrics is not None:
        check_same_settings(metrics.document["settings"], told, run.folder / EVALUATION_NAME)
    return metrics


def _layers(manifest: Manifest) -> LayerPaths:
    """Return the run's layers as methods take them; None where they look at no layer."""
    layer = manifest.layer
    if layer is None or layer.paths in ((INPUT,), (ATTENTION,)):
        return None
    methods = [one.name for one in manifest.methods]
    return layers_of(methods, layer, given=bool(manifest.settings.get("layers", True)))


def _made(work: Work, told: Mapping[str, Any], command: Sequence[str]) -> dict[str, object]:
    """Say how the figures were made."""
    return {
        "created": utc_now(),
        "command": list(command),
        "versions": versions(),
        "device": device_text(work.model.device),
        "settings": dict(told),
    }

"""Explain, measure, rank, recommend: which method should be used on this model?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from whycam.data.masks import MaskSource
from whycam.errors import TargetError
from whycam.evaluation.evaluate import BATCH
from whycam.evaluation.recommend import Recommendation, recommend, srg_of
from whycam.evaluation.registry import USUAL, WITH_MASKS
from whycam.evaluation.run import RunEvaluation, evaluate_run
from whycam.evaluation.summary import Evaluation, document_of
from whycam.evaluation.trying import Advance, Tried, layer_sizes, try_methods
from whycam.evaluation.twins import same_maps
from whycam.methods import find_method
from whycam.rows import device_text
from whycam.runs import RunRequest, RunSummary, run_explain
from whycam.store import read_run
from whycam.store.files import remove_files, run_errors, sync_folder, write_atomically
from whycam.store.folder import RunFolder
from whycam.store.manifest import dump_document, utc_now
from whycam.targets import Target, TopClass, logits_of

COMPARISON_NAME = "comparison.json"
SCHEMA_VERSION = "1.0"
STEPS = 10
"""Steps of the curves: fewer than in an evaluation, for many methods."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What became of a comparison: the run, its evaluation, what was left out, and the recommendation."""

    folder: Path
    run: RunSummary
    evaluated: RunEvaluation
    tried: Tried
    recommendation: Recommendation
    document: Mapping[str, Any]

    @property
    def evaluation(self) -> Evaluation:
        """The figures of all methods and controls."""
        return self.evaluated.evaluation


def compare(
    run: RunRequest,
    *,
    masks: MaskSource | None = None,
    steps: int = STEPS,
    seed: int = 0,
    batch_size: int = BATCH,
    advance: Advance = lambda what, finished, planned: None,
) -> Comparison:
    """Explain the images by a run's methods, measure them beside the controls, and recommend one, or none.

    A method that doesn't run on the model is left out with its reason. Everything is written into the run's
    folder, at last ``comparison.json``; but for its ``times`` it is the same at each call with the same seed,
    also after a kill, behind which a request with ``existing="resume"`` goes on. Raises a WhycamError.
    """
    tried = try_methods(run, advance)
    request = replace(run, methods=tried.methods)
    summary = run_explain(request, progress=partial(advance, "explaining"))
    evaluated = evaluate_run(
        run.folder,
        run.model,
        metrics=_metrics(run.target, tried.outputs, masks),
        masks=masks,
        target=None if isinstance(run.target, TopClass) else run.target,
        smoothing=run.smoothing,
        steps=steps,
        seed=seed,
        batch_size=batch_size,
        max_pixels=run.max_pixels,
        command=run.command,
        progress=partial(advance, "measuring"),
    )
    channels, positions = layer_sizes(request, summary.layer)
    found = recommend(
        evaluated.evaluation,
        same=same_maps(read_run(run.folder)),
        channels=channels,
        positions=positions,
    )
    document = _document(request, summary, evaluated, tried, found)
    _write(run.folder, document)
    return Comparison(
        folder=run.folder,
        run=summary,
        evaluated=evaluated,
        tried=tried,
        recommendation=found,
        document=document,
    )


def _metrics(target: Target, outputs: Any, masks: MaskSource | None) -> Sequence[str]:
    """Return what is measured: contrast only where there is another class."""
    contrast = ("contrast",) if _has_rival(target, outputs) else ()
    return (*USUAL, *contrast, "randomisation", *(WITH_MASKS if masks is not None else ()))


def _has_rival(target: Target, outputs: Any) -> bool:
    try:
        return target.classes(outputs) is not None and logits_of(outputs).shape[1] > 1
    except TargetError:
        return False


def _document(
    request: RunRequest,
    summary: RunSummary,
    evaluated: RunEvaluation,
    tried: Tried,
    found: Recommendation,
) -> dict[str, Any]:
    """Return all of it as JSON values; what may differ from call to call is under ``times``."""
    model, evaluation = request.model, evaluated.evaluation
    return {
        "schema_version": SCHEMA_VERSION,
        "model": {
            "reference": model.reference,
            "provenance": model.provenance.describe(),
            "weights_sha256": model.provenance.sha256,
        },
        "target": summary.target,
        "layer": {"paths": list(summary.layer.paths), "reason": summary.layer.reason},
        "steps": evaluation.plan.steps,
        "seed": evaluation.seed,
        "images": len(evaluation.measured),
        "failed": summary.failed,
        "skipped": evaluated.odd.skipped_count,
        "left_out": [{"method": method, "reason": reason} for method, reason in tried.left_out],
        "evidence": None if evaluation.evidence is None else document_of(evaluation.evidence),
        "recommended": found.method,
        "leaders": list(found.leaders),
        "reason": found.reason,
        "methods": [_line(evaluation, found, method) for method in evaluation.methods],
        "times": {
            "created": utc_now(),
            "device": device_text(model.device),
            "forward_seconds": tried.forward_seconds,
            "beside_a_forward": dict(tried.times),
        },
    }


def _line(evaluation: Evaluation, found: Recommendation, method: str) -> dict[str, Any]:
    """Return what is known of one method or control."""
    standing = next((one for one in found.standings if method in (one.method, *one.same)), None)
    of_method = (
        {"control": True}
        if standing is None
        else {
            "control": False,
            "same_maps_as": [name for name in (standing.method, *standing.same) if name != method],
            "cost": find_method(method).cost,
            "objection": standing.objection,
        }
    )
    figures = {column: document_of(of[method]) for column, of in evaluation.figures.items()}
    return {"method": method, **of_method, "srg": document_of(srg_of(evaluation, method)), "figures": figures}


def _write(folder: Path, document: Mapping[str, Any]) -> None:
    scratch = RunFolder(folder).scratch
    with run_errors(f"write {COMPARISON_NAME} into {str(folder)!r}"):
        scratch.mkdir(exist_ok=True)
        content = dump_document(document)
        write_atomically(folder / COMPARISON_NAME, scratch, lambda file: file.write(content))
        sync_folder(folder)
        remove_files(scratch)

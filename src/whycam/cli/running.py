"""A run from the command line: its bar, its warnings, and what to do when it is interrupted."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whycam.cli.console import progress_bar, tell

if TYPE_CHECKING:
    from whycam.runs import RunRequest, RunSummary


class StoppedError(Exception):
    """The user pressed Ctrl-C; the text says what is kept."""


def run_with_bar(request: "RunRequest", *, quiet: bool) -> "RunSummary":
    """Run with a progress bar on stderr, and tell there of what went otherwise than asked.

    Raises StoppedError after Ctrl-C, and what ``run_explain`` raises.
    """
    from whycam.runs import run_explain

    try:
        with progress_bar("explaining", quiet=quiet) as progress:
            summary = run_explain(request, progress=progress)
    except KeyboardInterrupt:
        raise StoppedError(what_is_kept(request)) from None
    for warning in summary.warnings:
        tell("warning", warning)
    for reason, maps in summary.diagnoses.items():
        tell("warning", f"{plural(maps, 'map')} {'shows' if maps == 1 else 'show'} nothing: {reason}")
    for name, error in summary.failures:
        tell("failed", error if name in error else f"{name}: {error}")
    if summary.failed > len(summary.failures):
        tell("failed", f"and {summary.failed - len(summary.failures)} more; the table's error column has all")
    return summary


def what_is_kept(request: "RunRequest") -> str:
    """Say what Ctrl-C left, and how to go on."""
    folder = request.folder
    if not (folder / "manifest.json").exists():
        return "interrupted before anything was written"
    again = shlex.join([*(word for word in request.command if word != "--resume"), "--resume"])
    return f"interrupted; what was finished is kept in {str(folder)!r}; go on with: {again}"


def run_data(summary: "RunSummary", request: "RunRequest") -> Mapping[str, Any]:
    """Return a run's summary as plain data."""
    model, provenance = request.model, request.model.provenance
    return {
        "run": str(summary.folder),
        "model": {
            "reference": model.reference,
            "weights": provenance.kind,
            "provenance": provenance.describe(),
            "weights_sha256": provenance.sha256,
        },
        "images": summary.images,
        "done": summary.done,
        "failed": summary.failed,
        "reused": summary.reused,
        "blank_maps": summary.blank,
        "diagnoses": summary.diagnoses,
        "first_failures": [{"id": name, "error": error} for name, error in summary.failures],
        "warnings": summary.warnings,
        "methods": summary.methods,
        "target": summary.target,
        "layer": {"paths": summary.layer.paths, "reason": summary.layer.reason},
        "sheet": None if summary.sheet is None else str(summary.sheet),
    }


def places(folder: Path, sheet: Path | None) -> list[str]:
    """Say where the pictures and the table are."""
    lines = [f"  pictures  {folder / 'overlays'}"] if sheet else []
    lines += [f"  sheet     {sheet}"] if sheet else []
    return [*lines, f"  table     {folder / 'explanations.parquet'}"]


def plural(number: int, word: str) -> str:
    """Count a thing in words: ``1 image``, ``3 images``."""
    return f"{number} {word}{'' if number == 1 else 's'}"

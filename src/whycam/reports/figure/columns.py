"""What stands side by side on a figure: methods, checkpoints or classes, found from the runs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

from whycam.errors import RunError, UsageError
from whycam.render.text import drawable
from whycam.reports.figure.options import Arrangement
from whycam.reports.figure.words import class_text
from whycam.store import Row, Run

COLUMN_LIMIT = 8
"""Columns of maps on one figure; the rest is said to be left out."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of maps: which rows of which run, its heading, and what it is in full."""

    heading: str
    meaning: str
    run: int
    method: str
    target: str | None = None
    letter: str = ""


def letter_of(place: int) -> str:
    """Return (a), (b), ... for the places 0, 1, ..."""
    return f"({chr(ord('a') + place)})"


def arrange(runs: Sequence[Run], rows: Sequence[Sequence[Row]]) -> Arrangement:
    """Find what differs: several runs' weights, else their targets, else the methods."""
    if len(runs) == 1:
        several = len({(row.id, row.method) for row in rows[0]}) < len(rows[0])
        return "classes" if several and len(_methods_in(rows[0])) == 1 else "methods"
    models = {(run.manifest.model.reference, run.manifest.model.weights_sha256) for run in runs}
    if len(models) > 1:
        return "checkpoints"
    methods = {tuple(method.name for method in run.manifest.methods) for run in runs}
    targets = {run.manifest.target for run in runs}
    return "classes" if len(targets) > 1 and len(methods) == 1 else "methods"


def columns_of(
    arrangement: Arrangement, runs: Sequence[Run], rows: Sequence[Sequence[Row]], wanted: Sequence[str]
) -> list[Column]:
    """List the columns, yet without letters; ``wanted`` are the methods to show, all where it is empty.

    Raises UsageError for a method that no run has, RunError for a run without any method.
    """
    methods = _shown_methods(runs, rows, wanted)
    if arrangement == "methods":
        return _method_columns(runs, methods)
    if arrangement == "checkpoints":
        return [
            Column(
                heading=heading,
                meaning=f"{run.manifest.model.reference}: {run.manifest.model.provenance}",
                run=at,
                method=own[0],
            )
            for at, (run, own, heading) in enumerate(zip(runs, methods, _checkpoint_names(runs), strict=True))
        ]
    return [
        column
        for at, (run, own) in enumerate(zip(runs, rows, strict=True))
        for column in _class_columns(at, run, [row for row in own if row.method == methods[at][0]])
    ]


def lettered(columns: Sequence[Column], names: Sequence[str]) -> tuple[Column, ...]:
    """Give columns their letters, and the headings in ``names`` where there are any."""
    headings = names or [column.heading for column in columns]
    return tuple(
        replace(column, letter=letter_of(at), heading=drawable(heading))
        for at, (column, heading) in enumerate(zip(columns, headings, strict=False), 1)
    )


def _methods_in(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.method for row in rows if row.method is not None))


def _shown_methods(
    runs: Sequence[Run], rows: Sequence[Sequence[Row]], wanted: Sequence[str]
) -> list[list[str]]:
    """Return each run's methods, of those wanted."""
    there = [
        list(dict.fromkeys([*(method.name for method in run.manifest.methods), *_methods_in(own)]))
        for run, own in zip(runs, rows, strict=True)
    ]
    known = list(dict.fromkeys(method for own in there for method in own))
    unknown = [method for method in wanted if method not in known]
    if unknown:
        raise UsageError(f"no method {unknown[0]!r} in these runs; pick some of {', '.join(known)}")
    shown = [[method for method in wanted or own if method in own] for own in there]
    for run, own in zip(runs, shown, strict=True):
        if not own:
            raise RunError(f"the run {str(run.folder)!r} has no method to show; leave it out, or name others")
    return shown


def _method_columns(runs: Sequence[Run], methods: Sequence[Sequence[str]]) -> list[Column]:
    """List the methods; one that several runs have is told apart by their folders' names."""
    times = Counter(method for own in methods for method in own)
    return [
        Column(
            heading=method if times[method] == 1 else f"{method} {run.folder.resolve().name}",
            meaning=method,
            run=at,
            method=method,
        )
        for at, (run, own) in enumerate(zip(runs, methods, strict=True))
        for method in own
    ]


def _class_columns(at: int, run: Run, rows: Sequence[Row]) -> list[Column]:
    """List a run's targets; one that means the same class for every image is named after it."""
    columns = []
    for target in dict.fromkeys(row.target for row in rows if row.target is not None):
        classes = {row.target_class for row in rows if row.target == target and row.error is None}
        only = next(iter(classes)) if len(classes) == 1 else None
        heading = target if only is None else class_text(only, run.manifest.class_names)
        method = rows[0].method or ""
        columns.append(Column(heading=heading, meaning=target, run=at, method=method, target=target))
    return columns


def _checkpoint_names(runs: Sequence[Run]) -> list[str]:
    """Name runs by their weights' file, else by their model, else by their folder: what tells them apart."""
    candidates = (
        [PurePath(_weights_file(run)).name for run in runs],
        [PurePath(run.manifest.model.reference).name for run in runs],
        [run.folder.resolve().name for run in runs],
    )
    apart = (names for names in candidates if len(set(names)) == len(names) and all(names))
    return next(apart, [f"run {at + 1}" for at in range(len(runs))])


def _weights_file(run: Run) -> str:
    """Find the weights' file in a provenance such as ``weights of FILE (SHA-256 ...)``; empty without one."""
    rest = run.manifest.model.provenance.partition("weights of ")[2]
    return rest.partition(" (SHA-256")[0].partition(";")[0]

"""All parts of a report, one after the other, each whole or as it was before."""

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

from whycam.errors import RunError, UsageError
from whycam.render import DEFAULT_COLORMAP
from whycam.reports.bibliography import bibtex
from whycam.reports.caption import DrawnFigure, caption_text
from whycam.reports.class_means import ClassMeans, class_means, class_means_csv
from whycam.reports.class_means_picture import class_means_png, view_aspect
from whycam.reports.evaluation.facts import Evaluated, read_evaluations
from whycam.reports.evaluation.figure import drawn_columns, evaluation_figure
from whycam.reports.evaluation.tables import evaluation_csv, evaluation_tex
from whycam.reports.evaluation.text import evaluation_caption, evaluation_keys, evaluation_methods
from whycam.reports.facts import RunFacts, facts_of, names_of
from whycam.reports.methods_text import citation_keys, methods_text
from whycam.reports.options import PARTS, Part, ReportOptions, ReportSummary
from whycam.reports.record import RECORD_NAME, Record, evaluation_fingerprint, fingerprint, made_from
from whycam.store import Run
from whycam.store.files import make_folders, one_line, remove_files, sync_folder, write_atomically
from whycam.store.lock import FolderLock

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the number of images that are on the page and the number planned."""

_SCRATCH, _LOCK = ".tmp", ".lock"
_LEFT_BEHIND = re.compile(r"\.(tmp|report|figure-.*)")
"""Folders of files that are not yet whole; what a killed report left in them is never read."""


@dataclass(frozen=True)
class _Evaluations:
    """The runs' evaluations, None where a run has none; what is damaged, and what they were read from."""

    found: Sequence[Evaluated | None]
    problems: tuple[str, ...]
    fingerprints: Sequence[str | None]

    @classmethod
    def read(cls, runs: Sequence[Run]) -> "_Evaluations":
        found, problems = read_evaluations(runs, names_of(runs))
        return cls(found, problems, [evaluation_fingerprint(run) for run in runs])

    @property
    def known(self) -> list[Evaluated]:
        return [one for one in self.found if one is not None]

    @property
    def facts(self) -> dict[str, Any]:
        """What a part that shows evaluations puts on record."""
        return {"warnings": list(self.problems)} if self.problems else {}


@dataclass
class _Work:
    """What the parts are made of; counted and computed at most once, when the first part asks."""

    runs: Sequence[Run]
    folder: Path
    options: ReportOptions
    record: Record
    progress: Progress
    evaluations: "_Evaluations"

    @cached_property
    def facts(self) -> list[RunFacts]:
        return facts_of(self.runs)

    @cached_property
    def means(self) -> ClassMeans:
        return class_means(self.facts)

    @property
    def colormap(self) -> str:
        return self.options.colormap or DEFAULT_COLORMAP

    def write(self, name: str, content: bytes) -> None:
        with _file_errors(f"write {name!r} into {str(self.folder)!r}"):
            write_atomically(self.folder / name, self.folder / _SCRATCH, lambda file: file.write(content))
            sync_folder(self.folder)


@dataclass(frozen=True)
class _Step:
    """A part: its files, the options it depends on, how it is made, and the part that must be there before.

    What ``make`` returns is kept on record as plain values. ``evaluated`` parts show evaluations too.
    """

    files: tuple[str, ...]
    settings: tuple[str, ...]
    make: Callable[[_Work], Mapping[str, Any]]
    after: Part | None = None
    evaluated: bool = False


def _figure(work: _Work) -> Mapping[str, Any]:
    from whycam.reports.figure import FigureOptions, write_figure

    options = work.options
    chosen = FigureOptions(
        style=options.style, width=options.width, colormap=options.colormap, images=options.images
    )
    result = write_figure(work.runs, work.folder, options=chosen)
    plain = dataclasses.asdict(result)
    return {name: value for name, value in plain.items() if not isinstance(value, Path)}


def _caption(work: _Work) -> Mapping[str, Any]:
    drawn = DrawnFigure.from_document(work.record.parts["figure"]["facts"])
    text, known = caption_text(work.facts, drawn), work.evaluations.known
    columns = drawn_columns(known, work.options.width)
    said = [evaluation_caption(one, some) for one, some in zip(known, columns, strict=True)]
    work.write("caption.txt", _with_paragraphs(text, said, work).encode())
    return work.evaluations.facts


def _methods(work: _Work) -> Mapping[str, Any]:
    said = [evaluation_methods(one) for one in work.evaluations.known]
    work.write("methods.txt", _with_paragraphs(methods_text(work.facts), said, work).encode())
    return work.evaluations.facts


def _with_paragraphs(text: str, said: Sequence[str], work: _Work) -> str:
    """Add a paragraph for each evaluated run, with its name where there are several runs."""
    names = [f"In run {one.name}: " if len(work.runs) > 1 else "" for one in work.evaluations.known]
    return "".join([text, *(f"\n{name}{one}\n" for name, one in zip(names, said, strict=True))])


def _references(work: _Work) -> Mapping[str, Any]:
    versions = work.facts[0].manifest.versions
    keys = [*citation_keys(work.facts), *evaluation_keys(work.evaluations.found)]
    work.write("references.bib", bibtex(keys, versions).encode())
    return work.evaluations.facts


def _class_means(work: _Work) -> Mapping[str, Any]:
    aspect = view_aspect(work.facts[0].manifest.preprocessing.get("size"))
    picture = class_means_png(work.means, work.options.width, work.colormap, aspect)
    work.write("class_means.csv", class_means_csv(work.means).encode())
    work.write("class_means.png", picture)
    return {}


def _page(work: _Work) -> Mapping[str, Any]:
    from whycam.reports.page import known_values, write_page

    found = work.evaluations.found if work.evaluations.known else []
    values, damaged = known_values(work.runs, found) if found else ([], ())
    result = write_page(work.runs, work.folder, values=values, evaluations=found, progress=work.progress)
    return {"warnings": [*result.warnings, *work.evaluations.problems, *damaged]}


def _evaluation(work: _Work) -> Mapping[str, Any]:
    found = work.evaluations.known
    files, warned = evaluation_figure(found, work.options.width, work.options.style)
    files |= {
        "evaluation.csv": evaluation_csv(found).encode(),
        "evaluation.tex": evaluation_tex(found).encode(),
    }
    for name, content in files.items():
        work.write(name, content)
    return {"warnings": [*work.evaluations.problems, *warned]}


_EVALUATION_FILES = ("evaluation.pdf", "evaluation.png", "evaluation.csv", "evaluation.tex")

_STEPS: Mapping[Part, _Step] = {
    "figure": _Step(("figure.pdf", "figure.png"), ("width", "style", "colormap", "images"), _figure),
    "caption": _Step(("caption.txt",), ("width", "style", "colormap", "images"), _caption, "figure", True),
    "methods": _Step(("methods.txt",), (), _methods, evaluated=True),
    "references": _Step(("references.bib",), (), _references, evaluated=True),
    "class-means": _Step(("class_means.csv", "class_means.png"), ("width", "colormap"), _class_means),
    "evaluation": _Step(_EVALUATION_FILES, ("width", "style"), _evaluation, evaluated=True),
    "page": _Step(("report.html",), (), _page, evaluated=True),
}


def write_report(
    runs: Sequence[Run],
    out: str | Path,
    options: ReportOptions | None = None,
    *,
    progress: Progress = lambda finished, planned: None,
) -> ReportSummary:
    """Write the parts of a report on runs into a folder, which is made where it does not exist.

    Each file is whole or absent. A part that was made before from the same runs with the same options and
    version is kept as it is, also where it was edited; a report that was killed goes on where it stopped,
    with the same bytes. Memory is bounded, see the parts.

    Raises UsageError for no runs or unknown options, RunError where a run cannot be read or has nothing to
    show, or the folder cannot be written, is being written or holds a file of that name that is no report's.
    """
    chosen = options or ReportOptions()
    if not runs:
        raise UsageError("there is no run to report on; give at least one run folder")
    evaluations = _Evaluations.read(runs)
    parts = _with_needed(_possible(chosen.parts, evaluations))
    folder = Path(out)
    identity = [*zip(names_of(runs), map(fingerprint, runs), strict=True)]
    with _writing(folder):
        work = _Work(runs, folder, chosen, Record.read(folder), progress, evaluations)
        work.record.claim(folder, [RECORD_NAME, *(name for part in parts for name in _STEPS[part].files)])
        _save(work)
        made = [part for part in parts if _make(work, part, identity)]
    kept = [part for part in parts if part not in made]
    return ReportSummary(
        folder=folder,
        written=_files(folder, made),
        kept=_files(folder, kept),
        warnings=tuple(dict.fromkeys(_warnings(work.record, runs, parts))),
    )


def _possible(asked: Sequence[Part], evaluations: _Evaluations) -> Sequence[Part]:
    """Leave the evaluation out of a whole report on runs without one.

    Raises RunError where it was asked for by name.
    """
    if evaluations.known or "evaluation" not in asked:
        return asked
    if set(asked) >= set(PARTS):
        return [part for part in asked if part != "evaluation"]
    raise RunError(
        evaluations.problems[0]
        if evaluations.problems
        else "none of these runs was evaluated; expected at least one; measure it: whycam evaluate RUN"
    )


def _with_needed(asked: Sequence[Part]) -> list[Part]:
    """Return the parts in their order, with those that one of them needs."""
    unknown = [part for part in asked if part not in _STEPS]
    if unknown:
        raise UsageError(f"the report has no part {unknown[0]!r}; expected some of {', '.join(PARTS)}")
    wanted = {*asked, *(step.after for part in asked if (step := _STEPS[part]).after)}
    return [part for part in _STEPS if part in wanted]


@contextmanager
def _file_errors(action: str) -> Iterator[None]:
    """Turn an OSError of the body into a RunError in one line."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"cannot {action}: {one_line(error.strerror or error)}; expected a folder that you may write, "
            "on a disk with room; mend that or choose another --out, and call again: what is finished is kept"
        ) from error


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, with a place for files that are not yet whole."""
    place = f"write the report into {str(folder)!r}"
    with _file_errors(place):
        make_folders(folder)
        lock = FolderLock.acquire(folder / _LOCK)
    try:
        with _file_errors(place):
            for path in [path for path in folder.iterdir() if _LEFT_BEHIND.fullmatch(path.name)]:
                remove_files(path)
            make_folders(folder / _SCRATCH)
        yield
    finally:
        remove_files(folder / _SCRATCH)
        with suppress(OSError):
            lock.release()


def _make(work: _Work, part: Part, identity: Sequence[tuple[str, str]]) -> bool:
    """Make a part and put it on record; return whether it had to be made."""
    step = _STEPS[part]
    settings = {name: getattr(work.options, name) for name in step.settings}
    if step.evaluated and any(work.evaluations.fingerprints):
        settings["evaluation"] = work.evaluations.fingerprints
    source = made_from(version("whycam"), identity, settings)
    if work.record.has(work.folder, part, source):
        return False
    facts = step.make(work)
    work.record.parts[part] = {"made_from": source, "files": list(step.files), "facts": facts}
    _save(work)
    return True


def _save(work: _Work) -> None:
    work.write(RECORD_NAME, work.record.dump())


def _files(folder: Path, parts: Sequence[Part]) -> tuple[Path, ...]:
    return tuple(folder / name for part in parts for name in _STEPS[part].files)


def _warnings(record: Record, runs: Sequence[Run], parts: Sequence[Part]) -> Iterator[str]:
    for run in runs:
        if not run.manifest.finished:
            yield f"the run {str(run.folder)!r} is not finished; the report is on what is there"
    for part in parts:
        yield from record.parts[part]["facts"].get("warnings", [])

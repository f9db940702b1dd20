"""Run folders -> report.html."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from whycam.errors import UsageError
from whycam.reports.evaluation.facts import Evaluated
from whycam.reports.page.catalogue import Catalogue, Values, read_catalogue
from whycam.reports.page.document import check_installed, document
from whycam.reports.page.evaluation import EvaluationText, evaluation_texts
from whycam.reports.page.facts import Warned, run_names, run_text, warnings_of
from whycam.reports.page.filling import Progress, fill
from whycam.reports.page.index import Contents, index_of, options_of
from whycam.reports.page.shelf import DATA_FOLDER, BesidePage, InPage, remove_others
from whycam.reports.page.text import script_json
from whycam.store import Run
from whycam.store.files import make_folders, remove_files, run_errors, sync_folder, write_atomically

MOST_IN_ONE_FILE = 300
"""Images; above this the page has its data in a folder beside it."""

PAGE_NAME = "report.html"

_SCRATCH = ".report"


@dataclass(frozen=True, kw_only=True)
class PageResult:
    """What was written: the page, the folder with its data (None where all is in the page), the counts.

    ``warnings`` are the sentences on top of the page.
    """

    page: Path
    data: Path | None
    images: int
    rows: int
    warnings: tuple[str, ...]


def write_page(
    runs: Sequence[Run],
    folder: Path,
    *,
    values: Sequence[Values] = (),
    evaluations: Sequence[Evaluated | None] = (),
    progress: Progress = lambda finished, planned: None,
) -> PageResult:
    """Write ``report.html`` into a folder: one file up to ``MOST_IN_ONE_FILE`` images, else with ``report/``.

    Several runs, such as checkpoints of one model on the same images, stand beside each other. ``values``
    are further numbers to show and to sort by, a mapping for each run; what ``evaluations`` conclude stands
    on top. The same runs give the same bytes; the page takes its place last, so that a kill leaves the
    earlier page or none. Memory is bounded by some hundred bytes a row, whatever the maps and pictures are.

    Raises UsageError without a run, RunError where one cannot be read or the folder cannot be written,
    MissingExtraError without Jinja2.
    """
    if not runs:
        raise UsageError("there is no run to report; give at least one run folder")
    check_installed()
    catalogue = read_catalogue(runs, values)
    texts = evaluation_texts(evaluations)
    with run_errors(f"write the report into {str(folder)!r}"):
        make_folders(folder / _SCRATCH)
        try:
            write = _in_one_file if len(catalogue.places) <= MOST_IN_ONE_FILE else _with_folder
            return write(runs, catalogue, texts, folder, progress)
        finally:
            remove_files(folder / _SCRATCH)


def _in_one_file(
    runs: Sequence[Run],
    catalogue: Catalogue,
    texts: Sequence[EvaluationText],
    folder: Path,
    progress: Progress,
) -> PageResult:
    with InPage() as shelf:
        contents = fill(runs, catalogue, shelf, progress)
        warnings = _write(runs, catalogue, texts, contents, shelf.chunks(), folder)
    remove_others(folder / DATA_FOLDER, set())
    return _result(catalogue, warnings, folder, None)


def _with_folder(
    runs: Sequence[Run],
    catalogue: Catalogue,
    texts: Sequence[EvaluationText],
    folder: Path,
    progress: Progress,
) -> PageResult:
    shelf = BesidePage(folder / DATA_FOLDER, folder / _SCRATCH)
    contents = fill(runs, catalogue, shelf, progress)
    shelf.sync()
    warnings = _write(runs, catalogue, texts, contents, iter(()), folder)
    remove_others(shelf.folder, shelf.written)
    return _result(catalogue, warnings, folder, shelf.folder)


def _result(catalogue: Catalogue, warnings: Sequence[Warned], folder: Path, data: Path | None) -> PageResult:
    return PageResult(
        page=folder / PAGE_NAME,
        data=data,
        images=len(catalogue.places),
        rows=catalogue.rows,
        warnings=tuple(warned.text for warned in warnings),
    )


def _write(
    runs: Sequence[Run],
    catalogue: Catalogue,
    texts: Sequence[EvaluationText],
    contents: Contents,
    chunks: Iterator[str],
    folder: Path,
) -> list[Warned]:
    """Write the page itself; return its warnings."""
    names = run_names(runs)
    warnings = warnings_of(runs, catalogue, sum(not picture.height for picture in contents.pictures))
    index = index_of(runs, catalogue, contents)
    pieces = document(
        title=", ".join(names),
        runs=[run_text(name, run.manifest) for name, run in zip(names, runs, strict=True)],
        warnings=warnings,
        evaluations=texts,
        options=options_of(index),
        images=contents.images,
        chunks=chunks,
        index=script_json(index),
    )

    def produce(file: BinaryIO) -> None:
        for piece in pieces:
            file.write(piece.encode())

    write_atomically(folder / PAGE_NAME, folder / _SCRATCH, produce)
    sync_folder(folder)
    return warnings

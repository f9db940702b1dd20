"""``whycam report``: from a run folder to the figure, its caption, the methods text and a page."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whycam.cli.answer import Answer
from whycam.cli.console import progress_bar, tell
from whycam.cli.options import JsonOption, choose

if TYPE_CHECKING:
    from whycam.reports import ReportSummary

_RUN_HELP = "Run folders, as whycam explain writes them; several are compared."
_OUT_HELP = "The folder to write.  [default: report, in the first RUN]"
_ONLY_HELP = "One or more of figure, caption, methods, references, class-means, evaluation and page."
_IMAGE_HELP = "Id of an image on the figure; may be given several times.  [default: the first ones]"
_WIDTH_HELP = "Inches: 3.5 for a column, 7 for a page."


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help=_RUN_HELP)],
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help=_OUT_HELP)] = None,
    only: Annotated[list[str] | None, typer.Option("--only", metavar="PART", help=_ONLY_HELP)] = None,
    width: Annotated[float, typer.Option("--width", metavar="3.5|7", help=_WIDTH_HELP)] = 7.0,
    style: Annotated[
        str, typer.Option("--style", metavar="NAME", help="Of the figure; a wrong one lists them.")
    ] = "paper",
    colormap: Annotated[
        str | None,
        typer.Option("--colormap", metavar="NAME", help="Such as inferno.  [default: the style's]"),
    ] = None,
    images: Annotated[list[str] | None, typer.Option("--images", metavar="ID", help=_IMAGE_HELP)] = None,
    json: JsonOption = False,
) -> Answer:
    """Make a paper's figure, its texts and a page to browse from run folders.

    No model is loaded. Parts that were made before from the same runs are kept.
    """
    from whycam.reports import PARTS, ReportOptions, write_report
    from whycam.store import read_run

    parts = tuple(choose("--only", part, {known: known for known in PARTS}) for part in only or PARTS)
    options = ReportOptions(
        parts=parts, width=width, style=style, colormap=colormap, images=tuple(images or ())
    )
    found = [read_run(folder) for folder in runs]
    with progress_bar("writing the page", quiet=json) as progress:
        summary = write_report(found, out or runs[0] / "report", options, progress=progress)
    for warning in summary.warnings:
        tell("warning", warning)
    return Answer(_lines(summary), _data(summary))


def _lines(summary: "ReportSummary") -> list[str]:
    lines = [f"report in {summary.folder}"]
    lines += [f"  written  {path.name}" for path in summary.written]
    return lines + [f"  kept     {path.name}, made before from the same" for path in summary.kept]


def _data(summary: "ReportSummary") -> dict[str, object]:
    return {
        "report": str(summary.folder),
        "written": [str(path) for path in summary.written],
        "kept": [str(path) for path in summary.kept],
        "warnings": list(summary.warnings),
    }

"""``whycam select``: which checkpoint of a folder is best, and where does it look?"""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whycam.cli.answer import DONE, SOME_FAILED, Answer, table
from whycam.cli.console import staged_bar, tell
from whycam.cli.options import (
    ChannelsOption,
    ClassesOption,
    CropPctOption,
    DeviceOption,
    InterpolationOption,
    JsonOption,
    MeanOption,
    ModelChoice,
    NumClassesOption,
    PreprocessOption,
    ResizeOption,
    SizeOption,
    StdOption,
)
from whycam.cli.running import StoppedError, places, plural, run_data, run_with_bar
from whycam.errors import WhycamError

if TYPE_CHECKING:
    from whycam.runs import RunRequest, RunSummary
    from whycam.selection import Selection, SelectRequest

_WEIGHTS_HELP = "A folder of checkpoints, such as whycam train writes."
_DATA_HELP = "A folder with train/, val/, test/, each with a folder a class; or with a folder a class."
_MODEL_HELP = "A reference, as for whycam explain.  [default: what the files beside the checkpoints say]"
_PATTERN_HELP = "Which files are checkpoints."
_FROM_HELP = "The lowest number in their names."
_IMAGES_HELP = "Which images of the split are explained, from 0.  [default: the first of each class, up to 8]"
_METHOD_HELP = "May be given several times; whycam methods lists them.  [default: gradcam]"
_MEMORY_HELP = "Of decoded images that are kept in memory; more are kept in a file in --out."
_RESUME_HELP = "Go on with the selection in --out."
_SHOWN = 5


def select(
    weights: Annotated[Path, typer.Argument(metavar="WEIGHTS_DIR", help=_WEIGHTS_HELP)],
    data: Annotated[Path, typer.Option("--data", metavar="DATA", help=_DATA_HELP)],
    model: Annotated[str | None, typer.Option("--model", metavar="MODEL", help=_MODEL_HELP)] = None,
    pattern: Annotated[str, typer.Option("--pattern", metavar="GLOB", help=_PATTERN_HELP)] = "model-*.pth",
    first: Annotated[int | None, typer.Option("--from", metavar="N", help=_FROM_HELP)] = None,
    last: Annotated[int | None, typer.Option("--to", metavar="N", help="The highest.")] = None,
    split: Annotated[str, typer.Option("--split", metavar="train|val|test")] = "test",
    images: Annotated[
        list[int] | None, typer.Option("--images", metavar="N [N...]", help=_IMAGES_HELP)
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option("--method", "-m", metavar="NAME", help=_METHOD_HELP)
    ] = None,
    classes: ClassesOption = None,
    num_classes: NumClassesOption = None,
    size: SizeOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    resize: ResizeOption = None,
    crop_pct: CropPctOption = None,
    interpolation: InterpolationOption = None,
    channels: ChannelsOption = None,
    preprocess: PreprocessOption = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write.")] = Path(
        "selection"
    ),
    resume: Annotated[bool, typer.Option("--resume", help=_RESUME_HELP)] = False,
    batch_size: Annotated[
        int, typer.Option("--batch-size", metavar="N", min=1, help="Images that go through a model together.")
    ] = 32,
    memory: Annotated[int, typer.Option("--memory", metavar="MIB", min=0, help=_MEMORY_HELP)] = 2048,
    device: DeviceOption = "auto",
    max_pixels: Annotated[
        int, typer.Option("--max-pixels", metavar="N", min=1, help="Larger pictures are refused unopened.")
    ] = 100_000_000,
    json: JsonOption = False,
) -> Answer:
    """Rank the checkpoints of a folder on one split, and show where the best one looks.

    Exits with 0 when all is done, 1 when the ranking is there but some pictures are not, 2 when nothing could
    be ranked.
    """
    chosen = ModelChoice.among({**locals(), "weights": None})  # the folder is no weights file
    from whycam.methods import find_method
    from whycam.selection import SelectRequest, document_of

    methods = tuple(find_method(name).name for name in method or ["gradcam"])
    options = chosen.options()
    request = SelectRequest(
        weights=weights,
        data=data,
        folder=out,
        model=model,
        load_options=options,
        pattern=pattern,
        first=first,
        last=last,
        split=split,
        images=None if images is None else tuple(images),
        batch_size=batch_size,
        memory=memory * 2**20,
        max_pixels=max_pixels,
        command=("whycam", *sys.argv[1:]),
        existing="resume" if resume else "refuse",
    )
    selection = _select_with_bar(request, quiet=json)
    explained = _explained(selection, methods, quiet=json)
    lines = [*_lines(selection), *explained.lines]
    return Answer(lines, {**document_of(selection), "explained": explained.data}, explained.code)


def _select_with_bar(request: "SelectRequest", *, quiet: bool) -> "Selection":
    """Rank with a bar on stderr, and tell there what was left out. Raises StoppedError after Ctrl-C."""
    from whycam.selection import select_checkpoints

    try:
        with staged_bar(quiet=quiet) as progress:
            selection = select_checkpoints(request, progress=progress)
    except KeyboardInterrupt:
        raise StoppedError(_what_is_kept(request)) from None
    for warning in selection.warnings:
        tell("warning", warning)
    for name, reason in selection.unreadable[:_SHOWN]:
        tell("left out", reason if name in reason else f"{name}: {reason}")
    if len(selection.unreadable) > _SHOWN:
        tell("left out", f"and {len(selection.unreadable) - _SHOWN} more; ranking.json has all")
    return selection


def _what_is_kept(request: "SelectRequest") -> str:
    kept = len(list((request.folder / "results").glob("of-*.json")))
    if not kept:
        return "interrupted before a checkpoint was ranked"
    again = shlex.join([*(word for word in request.command if word != "--resume"), "--resume"])
    return f"interrupted; {plural(kept, 'result')} kept in {str(request.folder)!r}; go on with: {again}"


def _explained(selection: "Selection", methods: tuple[str, ...], *, quiet: bool) -> Answer:
    """Explain the chosen images with the best checkpoint; what fails there does not cost the ranking."""
    if not selection.chosen:
        return Answer(["no image was explained"], {})
    try:
        request = _run_request(selection, methods)
        summary = run_with_bar(request, quiet=quiet)
    except WhycamError as error:
        line = f"the best checkpoint is not explained: {error}"
        tell("failed", line)
        return Answer([line], {"error": str(error)}, SOME_FAILED)
    data = run_data(summary, request)
    return Answer(_run_lines(summary), data, SOME_FAILED if summary.failed else DONE)


def _run_request(selection: "Selection", methods: tuple[str, ...]) -> "RunRequest":
    from whycam.runs import RunRequest

    request = selection.request
    folder = request.folder / "run"
    return RunRequest(
        model=selection.open_best(),
        sources=(selection.images_list,),
        folder=folder,
        methods=methods,
        max_pixels=request.max_pixels,
        command=request.command,
        recipe={
            "weights": str(selection.best_path),
            "num_classes": request.load_options.get("num_classes"),
            "allow_partial": False,
            "target": "top",
            "smoothing": None,
        },
        existing=request.existing,
    )


def _run_lines(summary: "RunSummary") -> list[str]:
    failed = f", {summary.failed} failed" if summary.failed else ""
    return [
        f"{plural(summary.done, 'image')} explained with the best one{failed}",
        f"  methods   {', '.join(summary.methods)}",
        f"  layer     {' + '.join(summary.layer.paths)}: {summary.layer.reason}",
        *places(summary.folder, summary.sheet),
    ]


def _lines(selection: "Selection") -> list[str]:
    ranking, request = selection.ranking, selection.request
    best = ranking.best.score
    reused = f"; {selection.reused} were ranked before" if selection.reused else ""
    heads = ("rank", "checkpoint", "accuracy", "loss", "macro-F1", "ms an image")
    split = f"{plural(best.images, 'image')} of {selection.split.name}"
    return [
        *table(heads, _rows(selection)),
        "",
        f"{ranking.best.name} is the best of {plural(len(ranking.results), 'checkpoint')} on {split}{reused}",
        f"  accuracy  {best.accuracy:.2%}, standard error {ranking.standard_error:.2%}; "
        f"{plural(ranking.close, 'other')} within it; median of all {ranking.median_accuracy:.2%}",
        *_ties(selection),
        *(f"  skipped   {name}: {reason}" for name, reason in selection.skipped),
        f"  ranking   {request.folder / 'ranking.csv'}, {request.folder / 'ranking.json'}",
    ]


def _rows(selection: "Selection") -> list[tuple[str, ...]]:
    return [
        (
            str(place),
            one.name,
            f"{one.score.accuracy:.2%}",
            f"{one.score.loss:.4f}",
            f"{one.score.macro_f1:.2%}",
            f"{one.score.seconds_an_image * 1000:.3g}",
        )
        for place, one in enumerate(selection.ranking.results, 1)
    ]


def _ties(selection: "Selection") -> list[str]:
    """Say which checkpoints are as accurate as each other, the best first."""
    ties = selection.ranking.ties
    by = {"loss": "the lower loss comes first", "earlier": "the earlier comes first, of the same loss"}
    lines = [f"  tie       {', '.join(tie.names)}: {by[tie.settled_by]}" for tie in ties[:_SHOWN]]
    return [*lines, *([f"  tie       and {len(ties) - _SHOWN} more"] if len(ties) > _SHOWN else [])]

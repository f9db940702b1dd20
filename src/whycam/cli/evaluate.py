"""``whycam evaluate``: are the heatmaps of a run faithful, and what may be concluded?"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from whycam.cli.answer import DONE, SOME_FAILED, Answer, table
from whycam.cli.console import progress_bar, tell
from whycam.cli.options import (
    CategoryOption,
    DeviceOption,
    DownloadOption,
    JsonOption,
    MasksOption,
    parse_smoothing,
    true_masks,
    usable_device,
)
from whycam.cli.running import StoppedError, plural

if TYPE_CHECKING:
    from whycam.evaluation import Evaluation, RunEvaluation
    from whycam.models import LoadedModel
    from whycam.store import Manifest

_RUN_HELP = "A finished run folder, as whycam explain writes it."
_METRIC_HELP = "May be given several times; a wrong one lists them.  [default: the usual ones]"
_MODEL_HELP = "The run's model, where its manifest does not open it.  [default: the manifest's]"
_TARGET_HELP = "As for whycam explain.  [default: the run's]"
_RESTART_HELP = "Measure all again, also with other settings than before."
_SHOWN = 5

MetricOption = Annotated[list[str] | None, typer.Option("--metric", metavar="NAME", help=_METRIC_HELP)]


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help=_RUN_HELP)],
    masks: MasksOption = None,
    category: CategoryOption = None,
    metric: MetricOption = None,
    steps: Annotated[int, typer.Option("--steps", metavar="N", min=2, help="Of a curve.")] = 20,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, help="Of controls, noise and intervals.")
    ] = 0,
    target: Annotated[str | None, typer.Option("--target", metavar="TARGET", help=_TARGET_HELP)] = None,
    model: Annotated[str | None, typer.Option("--model", metavar="MODEL", help=_MODEL_HELP)] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", metavar="FILE", help="The run's weights, where they moved.")
    ] = None,
    download: DownloadOption = False,
    batch_size: Annotated[
        int, typer.Option("--batch-size", metavar="N", min=1, help="Images that are measured together.")
    ] = 16,
    device: DeviceOption = "auto",
    restart: Annotated[bool, typer.Option("--restart", help=_RESTART_HELP)] = False,
    json: JsonOption = False,
) -> Answer:
    """Measure how far the heatmaps of a run can be trusted, beside controls that know nothing of the model.

    Calling again goes on where an earlier call was stopped. Exits with 0 when all is done, 1 when some images
    could not be measured, 2 when nothing could run.
    """
    from whycam.evaluation import evaluate_run
    from whycam.evaluation.registry import find_metrics
    from whycam.models.reopen import reopen
    from whycam.store import read_run

    manifest = read_run(run).manifest
    find_metrics(metric, masks=masks is not None)  # a wrong name is said before a model is loaded
    truth = true_masks(masks, category)
    loaded = reopen(
        manifest, reference=model, weights=weights, download=download, device=usable_device(device)
    )
    recipe = _recipe(manifest)
    try:
        with progress_bar("measuring", quiet=json) as progress:
            found = evaluate_run(
                run,
                loaded,
                metrics=metric,
                masks=truth,
                target=_target(target, recipe, loaded),
                smoothing=parse_smoothing(recipe.get("smoothing")),
                steps=steps,
                seed=seed,
                batch_size=batch_size,
                command=("whycam", *sys.argv[1:]),
                existing="restart" if restart else "continue",
                progress=progress,
            )
    except KeyboardInterrupt:
        raise StoppedError(_what_is_kept(run)) from None
    _tell_odd(found)
    lines = [*evaluation_lines(found.evaluation, every=metric is not None), *_places(found)]
    return Answer(lines, data_of(found), SOME_FAILED if found.odd.skipped_count else DONE)


def _recipe(manifest: "Manifest") -> dict[str, Any]:
    recipe = manifest.settings.get("recipe")
    return dict(recipe) if isinstance(recipe, dict) else {}


def _target(text: str | None, recipe: dict[str, Any], model: "LoadedModel") -> Any:
    """Return the target that was typed, now or when the run was made; None is for each row's own class."""
    from whycam.cli.target_text import parse_target

    typed = recipe.get("target") if text is None else text
    return None if typed is None else parse_target(typed, model.class_names, model.embed_text)


def _what_is_kept(run: Path) -> str:
    from whycam.evaluation.run import LOG_NAME

    if not (run / LOG_NAME).exists():
        return "interrupted before an image was measured"
    again = shlex.join(["whycam", *(word for word in sys.argv[1:] if word != "--restart")])
    return f"interrupted; what was measured is kept in {str(run)!r}; go on with: {again}"


def _tell_odd(found: "RunEvaluation") -> None:
    odd = found.odd
    for name, reason in odd.skipped[:_SHOWN]:
        tell("skipped", reason if name in reason else f"{name}: {reason}")
    if odd.skipped_count > _SHOWN:
        tell("skipped", f"and {odd.skipped_count - _SHOWN} more")
    if odd.without_mask:
        tell("warning", f"{plural(odd.without_mask, 'image')} without a mask: no figures of place for them")


def data_of(found: "RunEvaluation") -> dict[str, Any]:
    """Return the evaluation as plain data."""
    return {"run": str(found.folder), "reused": found.reused, **found.to_document()}


def evaluation_lines(evaluation: "Evaluation", *, every: bool) -> list[str]:
    """Say the main figures in a table, methods first, and under it what may be concluded by each.

    ``every``: all columns, and not the main ones only.
    """
    columns = list(evaluation.columns) if every else evaluation.main_columns
    heads = ("method", *columns, "n", "ties", "blank", "broken")
    rows = [_row(evaluation, method, columns) for method in evaluation.methods]
    sentences = [f"  {column}: {evaluation.verdict(column).sentence}" for column in columns]
    return [*table(heads, rows), "", *sentences]


def _row(evaluation: "Evaluation", method: str, columns: Sequence[str]) -> tuple[str, ...]:
    from whycam.evaluation import CONTROLS

    note = evaluation.note(method)
    figures = [evaluation.figures[column][method].text() for column in columns]
    name = f"({method})" if method in CONTROLS else method
    return (name, *figures, str(note.n), f"{note.ties:.0%}", str(note.blank), str(note.broken))


def _places(found: "RunEvaluation") -> list[str]:
    reused = f"; {found.reused} were measured before" if found.reused else ""
    images = len(found.evaluation.measured)
    skipped = f", {found.odd.skipped_count} skipped" if found.odd.skipped_count else ""
    return [
        "",
        f"{plural(images, 'image')} measured{skipped}{reused}; in brackets: controls, which ask no model",
        f"  figures   {found.folder / 'evaluation.json'}",
        f"  by image  {found.folder / 'metrics.parquet'}",
    ]

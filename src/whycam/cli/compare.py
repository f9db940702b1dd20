"""``whycam compare``: which method should I use on my model?"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from whycam.cli.answer import DONE, SOME_FAILED, Answer, table
from whycam.cli.console import staged_bar, tell
from whycam.cli.explain import RESUME_HELP, SOURCES_HELP, TARGET_HELP
from whycam.cli.options import (
    AllowPartialOption,
    CategoryOption,
    ChannelsOption,
    ClassesOption,
    CropPctOption,
    DeviceOption,
    DownloadOption,
    InterpolationOption,
    JsonOption,
    MasksOption,
    MeanOption,
    ModelArgument,
    ModelChoice,
    NumClassesOption,
    PreprocessOption,
    ResizeOption,
    SizeOption,
    StdOption,
    WeightsOption,
    true_masks,
)
from whycam.cli.running import StoppedError, plural, what_is_kept
from whycam.errors import UsageError

if TYPE_CHECKING:
    from whycam.data.masks import MaskSource
    from whycam.evaluation.compare import Comparison
    from whycam.evaluation.figures import Figure
    from whycam.runs import RunRequest

_METHODS_HELP = "cheap (a few forwards and backwards each), all, or names with commas."
_SEED_HELP = "Of the controls, the random weights and the intervals."
_SOURCES_HELP = f"{SOURCES_HELP} None for demo: its own, with its masks."
_DEMO = "demo"


def compare(
    model: ModelArgument,
    sources: Annotated[list[str] | None, typer.Argument(metavar="SOURCE", help=_SOURCES_HELP)] = None,
    methods: Annotated[str, typer.Option("--methods", metavar="cheap|all|A,B", help=_METHODS_HELP)] = "cheap",
    masks: MasksOption = None,
    category: CategoryOption = None,
    target: Annotated[str, typer.Option("--target", metavar="TARGET", help=TARGET_HELP)] = "top",
    layer: Annotated[
        list[str] | None,
        typer.Option("--layer", metavar="PATH", help="Several are fused.  [default: chosen by tracing]"),
    ] = None,
    steps: Annotated[
        int, typer.Option("--steps", metavar="N", min=2, help="Steps in which pixels are removed.")
    ] = 10,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help=_SEED_HELP)] = 0,
    weights: WeightsOption = None,
    download: DownloadOption = False,
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
    allow_partial: AllowPartialOption = False,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The run folder to write.")] = Path(
        "comparison"
    ),
    resume: Annotated[bool, typer.Option("--resume", help=RESUME_HELP)] = False,
    batch_size: Annotated[
        int, typer.Option("--batch-size", metavar="N", min=1, help="Images that go together.")
    ] = 16,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> Answer:
    """Recommend a method for this model, or say that none beats the controls.

    Explains the images by each method, measures the maps beside controls that know nothing of the model,
    and writes it all into a run folder. Exits with 0 when all is done, 1 when some images failed.
    """
    chosen = ModelChoice.among(locals())
    if not sources and model != _DEMO:
        raise UsageError(f"there is no SOURCE; give images: whycam compare {model} IMAGES...")
    import torch

    from whycam.cli.target_text import parse_target
    from whycam.evaluation.trying import methods_named
    from whycam.runs import Existing, RunRequest, check_places

    if model == _DEMO:
        # so small a network is not made faster by more threads, and on a busy machine much slower
        torch.set_num_threads(min(2, torch.get_num_threads()))
    given, places = _pictures(sources, masks)
    truth = true_masks(places, category)
    existing: Existing = "resume" if resume else "refuse"
    check_places(given, out, existing)
    asked = methods_named(methods)
    loaded = chosen.load()
    request = RunRequest(
        model=loaded,
        sources=tuple(given),
        folder=out,
        methods=asked,
        target=parse_target(target, loaded.class_names, loaded.embed_text),
        layers=tuple(layer or ()),
        batch_size=batch_size,
        command=("whycam", *sys.argv[1:]),
        recipe={**chosen.recipe(), "target": target},
        existing=existing,
    )
    found = _compared(request, truth, steps, seed, quiet=json)
    return Answer(
        _lines(found),
        {"comparison": str(found.folder / "comparison.json"), **found.document},
        SOME_FAILED if found.run.failed else DONE,
    )


def _pictures(sources: list[str] | None, masks: Path | None) -> tuple[list[str], Path | None]:
    """Return the sources and where their masks are; the demo's own where no source is given."""
    if sources:
        return sources, masks
    from whycam.demo import demo_images, demo_masks

    return [str(demo_images()[0].parent.parent / "labels.csv")], masks or demo_masks()[0].parent


def _compared(
    request: "RunRequest", masks: "MaskSource | None", steps: int, seed: int, *, quiet: bool
) -> "Comparison":
    from whycam.evaluation.compare import compare as compare_methods

    try:
        with staged_bar(quiet=quiet) as advance:
            found = compare_methods(
                request,
                masks=masks,
                steps=steps,
                seed=seed,
                batch_size=request.batch_size,
                advance=advance,
            )
    except KeyboardInterrupt:
        raise StoppedError(what_is_kept(request)) from None
    # an image that failed is skipped by the evaluation for the same reason, and said once
    for name, error in {**dict(found.evaluated.odd.skipped), **dict(found.run.failures)}.items():
        tell("failed", error if name in error else f"{name}: {error}")
    return found


def _lines(found: "Comparison") -> list[str]:
    evaluation, tried = found.evaluation, found.tried
    by_reason: dict[str, list[str]] = {}
    for method, reason in tried.left_out:
        by_reason.setdefault(reason, []).append(method)
    return [
        f"{plural(len(evaluation.measured), 'image')}, layer {' + '.join(found.run.layer.paths)}, target "
        f"{found.run.target}, seed {evaluation.seed}; mean (95 % interval)",
        "",
        *table(_heads(found), _rows(found)),
        "",
        "SRG: area between removing the least and the most important first, on the logit, mean of two fills;",
        "x: time of an explanation on this machine beside a bare forward's",
        *(f"left out: {', '.join(names)}: {reason}" for reason, names in by_reason.items()),
        "",
        found.recommendation.reason,
        "",
        f"  comparison  {found.folder / 'comparison.json'}",
        f"  run         {found.folder}",
    ]


_BESIDE = ("energy", "contrast", "randomisation")


def _beside(found: "Comparison") -> list[str]:
    return [name for name in _BESIDE if name in found.evaluation.columns]


def _heads(found: "Comparison") -> tuple[str, ...]:
    return "method", "SRG", *_beside(found), "cost", "x", ""


def _rows(found: "Comparison") -> list[tuple[str, ...]]:
    """Return a row a method, the first one first, and then the controls."""
    from whycam.evaluation import CONTROLS
    from whycam.evaluation.recommend import srg_of
    from whycam.methods import find_method

    recommended = found.recommendation
    rows = []
    for standing in recommended.standings:
        notes = {True: "recommended", False: "a leader" if standing.method in recommended.leaders else ""}
        note = notes[standing.method == recommended.method] or standing.objection.partition(":")[0]
        same = f" = {', '.join(standing.same)}" if standing.same else ""
        time = f"{found.tried.times[standing.method]:.1f}"
        beside = _figures(found, standing.method)
        cost = find_method(standing.method).cost
        rows.append((standing.method, standing.srg.text(), *beside, cost, time, f"{note}{same}"))
    for control in (name for name in found.evaluation.methods if name in CONTROLS):
        srg = srg_of(found.evaluation, control).text()
        rows.append((control, srg, *_figures(found, control), "", "", "control"))
    return rows


def _figures(found: "Comparison", method: str) -> list[str]:
    return [_text(found.evaluation.figures[name][method]) for name in _beside(found)]


def _text(figure: "Figure") -> str:
    values: list[Any] = [figure.mean, figure.low, figure.high]
    mean, low, high = (f"{value:.2f}" for value in values)
    return f"{mean} ({low} to {high})"

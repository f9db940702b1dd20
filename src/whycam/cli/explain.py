"""``whycam explain``: where did the model look for this class?"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whycam.cli.answer import DONE, SOME_FAILED, Answer
from whycam.cli.options import (
    OPACITIES,
    SMOOTHINGS,
    AllowPartialOption,
    ChannelsOption,
    ClassesOption,
    CropPctOption,
    DeviceOption,
    DownloadOption,
    InterpolationOption,
    JsonOption,
    MeanOption,
    ModelArgument,
    ModelChoice,
    NumClassesOption,
    PreprocessOption,
    ResizeOption,
    SizeOption,
    StdOption,
    WeightsOption,
    parse_opacity,
    parse_smoothing,
)
from whycam.cli.running import places, plural, run_data, run_with_bar

if TYPE_CHECKING:
    from whycam.runs import RunSummary

SOURCES_HELP = "Image files (FILE#page=N for a page), folders, globs, or CSV lists with a path column."
_METHOD_HELP = "May be given several times; whycam methods lists them.  [default: gradcam]"
TARGET_HELP = (
    "top, INDEX, NAME, rank:K, A-B (why A and not B), finer:A, prob:A, sigmoid:A, mask:A, box:K, value:I, "
    "text:WORDS."
)
_LAYER_HELP = "Several are fused; stages: one a resolution.  [default: chosen by tracing]"
RESUME_HELP = "Go on with the run in --out; images that failed are tried again."
_BATCH_HELP = "Images that go through the model together."


def explain(
    model: ModelArgument,
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE", help=SOURCES_HELP)],
    method: Annotated[
        list[str] | None, typer.Option("--method", "-m", metavar="NAME", help=_METHOD_HELP)
    ] = None,
    target: Annotated[str, typer.Option("--target", metavar="TARGET", help=TARGET_HELP)] = "top",
    layer: Annotated[list[str] | None, typer.Option("--layer", metavar="PATH", help=_LAYER_HELP)] = None,
    smoothing: Annotated[
        str | None,
        typer.Option("--smoothing", metavar="|".join(SMOOTHINGS), help="Average, or reduce channels."),
    ] = None,
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
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The run folder to write.")] = Path("run"),
    resume: Annotated[bool, typer.Option("--resume", help=RESUME_HELP)] = False,
    batch_size: Annotated[int, typer.Option("--batch-size", metavar="N", min=1, help=_BATCH_HELP)] = 16,
    device: DeviceOption = "auto",
    colormap: Annotated[
        str, typer.Option("--colormap", metavar="NAME", help="Such as inferno, viridis or jet.")
    ] = "inferno",
    opacity: Annotated[
        str, typer.Option("--opacity", metavar="|".join(OPACITIES), help="Of the colours on the picture.")
    ] = OPACITIES[0],
    max_pixels: Annotated[
        int, typer.Option("--max-pixels", metavar="N", min=1, help="Larger pictures are refused unopened.")
    ] = 100_000_000,
    json: JsonOption = False,
) -> Answer:
    """Show where the model looks in each image.

    Exits with 0 when all is done, 1 when some images failed, 2 when nothing could run.
    """
    chosen = ModelChoice.among(locals())
    from whycam.cli.target_text import parse_target, with_names
    from whycam.methods import find_method
    from whycam.runs import Existing, PictureStyle, RunRequest, check_places

    style = PictureStyle(colormap=colormap, opacity=parse_opacity(opacity))
    smooth = parse_smoothing(smoothing)
    existing: Existing = "resume" if resume else "refuse"
    check_places(sources, out, existing)
    methods = tuple(find_method(name).name for name in method or ["gradcam"])
    loaded = chosen.load()
    request = RunRequest(
        model=loaded,
        sources=tuple(sources),
        folder=out,
        methods=methods,
        target=parse_target(target, loaded.class_names, loaded.embed_text),
        layers=tuple(layer or ()),
        smoothing=smooth,
        batch_size=batch_size,
        max_pixels=max_pixels,
        style=style,
        command=("whycam", *sys.argv[1:]),
        recipe={**chosen.recipe(), "target": target, "smoothing": smoothing},
        existing=existing,
    )
    summary = run_with_bar(request, quiet=json)
    named = with_names(summary.target, loaded.class_names)
    return Answer(_lines(summary, named), run_data(summary, request), SOME_FAILED if summary.failed else DONE)


def _lines(summary: "RunSummary", target: str) -> list[str]:
    reused = f"; {summary.reused} of {summary.images} were finished before" if summary.reused else ""
    lines = [
        f"{plural(summary.done, 'image')} explained{reused}",
        f"  methods   {', '.join(summary.methods)}",
        f"  target    {target}",
        f"  layer     {' + '.join(summary.layer.paths)}: {summary.layer.reason}",
        *places(summary.folder, summary.sheet),
    ]
    if summary.failed:
        lines.append(f"{summary.failed} of {plural(summary.images, 'image')} failed")
    return lines

"""``whycam layers``: which layer is explained, and why that one?"""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whycam.cli.answer import Answer, table
from whycam.cli.options import (
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
)
from whycam.cli.running import plural

if TYPE_CHECKING:
    from whycam.engine import Candidate, LayerChoice

_IMAGE_HELP = "A real image to trace; without one it is fixed noise."


def layers(
    model: ModelArgument,
    image: Annotated[Path | None, typer.Option("--image", metavar="FILE", help=_IMAGE_HELP)] = None,
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
    device: DeviceOption = "auto",
    everything: Annotated[
        bool, typer.Option("--all", help="List the layers that are no choice too.")
    ] = False,
    json: JsonOption = False,
) -> Answer:
    """Show which layer is explained, why, and the others."""
    loaded = ModelChoice.among(locals()).load()
    loaded.check_takes_pictures()
    from whycam.engine import choose_layer
    from whycam.runs import stand_in_image

    images = stand_in_image(loaded) if image is None else loaded.prepare([image]).images
    traced = "fixed noise (give a real image with --image)" if image is None else str(image)
    choice = choose_layer(loaded.module, images)
    data = {
        "model": loaded.reference,
        "weights": loaded.provenance.kind,
        "traced": None if image is None else str(image),
        "input": list(images.shape[1:]),
        **asdict(choice),
    }
    head = f"{loaded.reference} traced on {traced}, {' x '.join(map(str, images.shape[1:]))}"
    return Answer([*_lines(choice, head), "", *_candidates(choice, everything=everything)], data)


def _lines(choice: "LayerChoice", head: str) -> list[str]:
    return [f"{choice.path} is explained: {choice.reason}", head]


def _candidates(choice: "LayerChoice", *, everything: bool) -> list[str]:
    """List the layers from the deepest to the shallowest, those with an objection only when asked."""
    shown = [c for c in choice.candidates if everything or not c.objection or c.path == choice.path]
    lines = table(
        ("", "layer", "layout", "grid", "channels", "gradient at", "objection"),
        [_row(candidate, choice.path) for candidate in shown],
    )
    left_out = len(choice.candidates) - len(shown)
    return [*lines, *([f"{plural(left_out, 'layer')} more with an objection: --all"] if left_out else [])]


def _row(candidate: "Candidate", chosen: str) -> tuple[str, ...]:
    return (
        "*" if candidate.path == chosen else "",
        candidate.path,
        candidate.layout,
        "x".join(map(str, candidate.grid)),
        str(candidate.channels),
        f"{candidate.support:.0%}",
        candidate.objection,
    )

"""Options that several verbs share, and how their text becomes values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

import typer
from typer.core import TyperCommand

from whycam.cli.console import tell
from whycam.errors import UsageError

if TYPE_CHECKING:
    from whycam.data.masks import MaskSource
    from whycam.methods import Smoothing
    from whycam.models import LoadedModel
    from whycam.render import Opacity

Value = TypeVar("Value")

_MODEL_HELP = (
    "timm:NAME, torchvision:NAME, hf:ID_OR_FOLDER, open_clip:ARCH[/TAG], path/to/file.py:factory, "
    "package.module:factory, or demo."
)

ModelArgument: TypeAlias = Annotated[str, typer.Argument(metavar="MODEL", help=_MODEL_HELP)]
WeightsOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--weights", metavar="FILE", help="Weights: safetensors, or a checkpoint of tensors."),
]
DownloadOption: TypeAlias = Annotated[
    bool, typer.Option("--download", help="Get the published weights from the network.")
]
MasksOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--masks",
        metavar="DIR|COCO.json|BOXES.csv",
        help="True masks: a folder of pictures, a COCO file, or a CSV list of boxes.",
    ),
]
CategoryOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--category", metavar="NAME", help="The objects of one category of a COCO file only."),
]
ClassesOption: TypeAlias = Annotated[
    Path | None, typer.Option("--classes", metavar="FILE", help="Class names: one a line, or JSON.")
]
NumClassesOption: TypeAlias = Annotated[
    int | None,
    typer.Option("--num-classes", metavar="N", help="Number of classes, where nothing else says it."),
]
SizeOption: TypeAlias = Annotated[
    str | None, typer.Option("--size", metavar="H,W", help="Input size in pixels.")
]
MeanOption: TypeAlias = Annotated[
    str | None, typer.Option("--mean", metavar="A,B,C", help="Mean of the channels, on the scale of 0 to 1.")
]
StdOption: TypeAlias = Annotated[
    str | None, typer.Option("--std", metavar="A,B,C", help="Standard deviation of the channels.")
]
PreprocessOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--preprocess", metavar="FILE", help="YAML with size, mean, std, ... and class names, in one place."
    ),
]
ResizeOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--resize", metavar="shorter|longest|squash|keep|bounded", help="How pictures shrink."),
]
CropPctOption: TypeAlias = Annotated[
    float | None,
    typer.Option("--crop-pct", metavar="SHARE", help="Share of the resized picture that the crop keeps."),
]
InterpolationOption: TypeAlias = Annotated[
    str | None, typer.Option("--interpolation", metavar="NAME", help="Such as bilinear or bicubic.")
]
ChannelsOption: TypeAlias = Annotated[
    int | None, typer.Option("--channels", metavar="1|3", help="Channels of the input.")
]
AllowPartialOption: TypeAlias = Annotated[
    bool,
    typer.Option("--allow-partial", help="Load what fits of --weights; every picture then says so."),
]
DeviceOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--device", metavar="DEVICE", help="cpu, cuda, cuda:1, ...; auto is cuda where there is one."
    ),
]
LIST_OPTIONS = frozenset({"--images"})
"""Options that take all whole numbers that follow them: ``--images 0 100 200``."""


class SeveralValues(TyperCommand):
    """A command whose `LIST_OPTIONS` may have several values behind one name."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the option's name before each of its values, which is what the parser takes."""
        spread: list[str] = []
        option = None
        for before, word in zip(["", *args], args, strict=False):
            if word in LIST_OPTIONS:
                option = word
            elif option is not None and before != option:  # not its first value, which is whatever it is
                option = option if word.isdecimal() else None
                spread += [option] if option else []
            spread.append(word)
        return super().parse_args(ctx, spread)


JsonOption: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")
]


@dataclass(frozen=True)
class ModelChoice:
    """What the command line says of the model."""

    reference: str
    weights: Path | None = None
    download: bool = False
    classes: Path | None = None
    num_classes: int | None = None
    size: str | None = None
    mean: str | None = None
    std: str | None = None
    device: str = "auto"
    resize: str | None = None
    crop_pct: float | None = None
    interpolation: str | None = None
    channels: int | None = None
    preprocess: Path | None = None
    allow_partial: bool = False

    @classmethod
    def among(cls, given: Mapping[str, Any]) -> "ModelChoice":
        """Take what is said of the model among a verb's arguments: ``model``, and what has a field's name."""
        names = {field.name for field in fields(cls)} & given.keys()
        return cls(given["model"] or "", **{name: given[name] for name in names})

    def options(self) -> dict[str, Any]:
        """Return what `whycam.models.load` takes beside the reference and its weights. Raises UsageError."""
        return {
            "classes": self.classes,
            "num_classes": self.num_classes,
            "device": usable_device(self.device),
            "preprocessing": self.preprocess,
            **self._values(),
        }

    def load(self) -> "LoadedModel":
        """Load the model, and say on stderr what its weights are where that is in doubt.

        Raises UsageError, ModelError or WeightsError.
        """
        options = self.options()
        from whycam.models import load

        model = load(
            self.reference,
            weights=self.weights,
            download=self.download,
            allow_partial=self.allow_partial,
            **options,
        )
        kind = {"random": "warning", "factory": "note"}.get(model.provenance.kind)
        if model.provenance.loaded is not None:
            kind = "warning"
        if kind:
            tell(kind, f"{model.reference} has {model.provenance.describe()}")
        else:
            for note in model.provenance.notes:
                tell("note", f"{model.reference}: {note}")
        return model

    def recipe(self) -> dict[str, object]:
        """Return what opens the model again beside its preprocessing, as plain values for a manifest."""
        from whycam.models.weights import is_weights_file

        weights = self.weights
        if weights is None and is_weights_file(self.reference):
            weights = Path(self.reference)
        return {
            "weights": None if weights is None else str(weights),
            "num_classes": self.num_classes,
            "allow_partial": self.allow_partial,
        }

    def load_for(self, class_names: Sequence[str], seed: int) -> "LoadedModel":
        """Load the model to be trained for these classes; what is random in it is drawn from the seed.

        Raises UsageError, ModelError or WeightsError.
        """
        from whycam.models.new_head import load_with_new_head
        from whycam.models.sidecar import read_sidecar
        from whycam.models.source import ModelOptions

        whole = None if self.preprocess is None else read_sidecar(self.preprocess).preprocessing
        return load_with_new_head(
            self.reference,
            class_names,
            ModelOptions(preprocessing=whole, **self._values()),
            weights=self.weights,
            download=self.download,
            seed=seed,
            device=usable_device(self.device),
        )

    def _values(self) -> dict[str, Any]:
        """Return the single values of the preprocessing."""
        return {
            "size": None if self.size is None else parse_size(self.size),
            "mean": None if self.mean is None else parse_numbers("--mean", self.mean),
            "std": None if self.std is None else parse_numbers("--std", self.std),
            "resize": self.resize,
            "crop_pct": self.crop_pct,
            "interpolation": self.interpolation,
            "channels": self.channels,
        }


def usable_device(name: str) -> str:
    """Return the device that a name means: for ``auto``, the accelerator where there is one."""
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def parse_size(text: str) -> tuple[int, int]:
    """Read ``H,W``, ``HxW`` or one number for a square. Raises UsageError."""
    parts = text.lower().replace("x", ",").split(",")
    if len(parts) > 2 or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"--size is {text!r}; expected height,width in pixels, such as 224,224")
    numbers = [int(part) for part in parts]
    return numbers[0], numbers[-1]


def parse_numbers(option: str, text: str) -> tuple[float, ...]:
    """Read numbers with commas between them. Raises UsageError that names the option."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"{option} is {text!r}; expected numbers such as 0.485,0.456,0.406") from error


def choose(option: str, text: str, choices: Mapping[str, Value]) -> Value:
    """Return what a word stands for. Raises UsageError that lists the words."""
    if text not in choices:
        raise UsageError(f"{option} is {text!r}; expected one of {', '.join(choices)}")
    return choices[text]


SMOOTHINGS: Sequence[str] = ("flip", "noise", "scale", "first-component")
OPACITIES: Sequence[str] = ("magnitude", "constant")


def parse_smoothing(text: str | None) -> "Smoothing | None":
    """Return the smoothing of that name with its own defaults. Raises UsageError."""
    from whycam.methods import FirstComponent, FlipAverage, NoiseAverage, ScaleAverage

    if text is None:
        return None
    values: list[Smoothing] = [FlipAverage(), NoiseAverage(), ScaleAverage(), FirstComponent()]
    return choose("--smoothing", text, dict(zip(SMOOTHINGS, values, strict=True)))


def parse_opacity(text: str) -> "Opacity":
    """Return the opacity of that name with its own defaults. Raises UsageError."""
    from whycam.render import ConstantOpacity, MagnitudeOpacity

    values: list[Opacity] = [MagnitudeOpacity(), ConstantOpacity()]
    return choose("--opacity", text, dict(zip(OPACITIES, values, strict=True)))


def true_masks(masks: Path | None, category: str | None) -> "MaskSource | None":
    """Return the true masks that were typed, or none. Raises UsageError."""
    from whycam.data.masks import read_masks

    if masks is None:
        if category is not None:
            raise UsageError(f"--category {category!r} chooses among true masks; give them with --masks")
        return None
    return read_masks(masks, category=category)

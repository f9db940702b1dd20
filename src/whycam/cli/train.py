"""``whycam train``: fine-tune a classifier on a folder of images, one checkpoint an epoch."""

import os
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whycam.cli.answer import Answer, table
from whycam.cli.console import progress_bar, tell
from whycam.cli.options import (
    ChannelsOption,
    CropPctOption,
    DeviceOption,
    DownloadOption,
    InterpolationOption,
    JsonOption,
    MeanOption,
    ModelChoice,
    PreprocessOption,
    ResizeOption,
    SizeOption,
    StdOption,
    WeightsOption,
    choose,
    parse_numbers,
)
from whycam.cli.running import StoppedError, plural
from whycam.errors import UsageError

if TYPE_CHECKING:
    from whycam.data import LabelledImages
    from whycam.training import EpochRecord, TrainingRequest, TrainingSummary

_DATA_HELP = "A folder with train/, val/ (and test/), each with a folder a class; or with a folder a class."
_MODEL_HELP = "timm:NAME, torchvision:NAME, hf:ID_OR_FOLDER, path/to/file.py:factory, ..., or a checkpoint."
_SEED_HELP = "Of random weights, the order of the images, crops, flips and dropout."
_SHARES_HELP = "Of train, val and test, where DATA is not split.  [default: 0.7,0.15,0.15]"
_SPLIT_HELP = "Where DATA is not split, which image goes where.  [default: 0]"
_FLIP_HELP = "Share of the images that are mirrored left to right; 0: none."
_CROP_HELP = "Least and greatest share of an image that a random crop takes; 1,1: (nearly) all."
_MEMORY_HELP = "Of decoded images that are kept; what does not fit is decoded in each epoch."
_PRECISION_HELP = "auto: 32 bits on a processor, bf16 or 16 mixed with 32 on a GPU."
_RESUME_HELP = "Go on behind the last finished epoch in --out."
_SHOWN = 5


def train(
    data: Annotated[Path, typer.Argument(metavar="DATA", help=_DATA_HELP)],
    model: Annotated[str, typer.Option("--model", metavar="MODEL", help=_MODEL_HELP)],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where checkpoints go.")] = Path(
        "weights"
    ),
    epochs: Annotated[int, typer.Option("--epochs", metavar="N")] = 25,
    weights: WeightsOption = None,
    download: DownloadOption = False,
    optimizer: Annotated[str, typer.Option("--optimizer", metavar="sgd|adamw")] = "sgd",
    lr: Annotated[float, typer.Option("--lr", metavar="RATE", help="Learning rate.")] = 0.001,
    momentum: Annotated[
        float, typer.Option("--momentum", metavar="SHARE", help="Of AdamW, the first beta.")
    ] = 0.9,
    weight_decay: Annotated[float, typer.Option("--weight-decay", metavar="RATE")] = 0.0,
    step: Annotated[
        int, typer.Option("--step", metavar="N", help="Epochs after which the rate is multiplied.")
    ] = 7,
    gamma: Annotated[float, typer.Option("--gamma", metavar="FACTOR", help="By which it is.")] = 0.1,
    crop_scale: Annotated[str, typer.Option("--crop-scale", metavar="A,B", help=_CROP_HELP)] = "0.08,1",
    flip: Annotated[float, typer.Option("--flip", metavar="SHARE", help=_FLIP_HELP)] = 0.5,
    batch_size: Annotated[int, typer.Option("--batch-size", metavar="N", help="Images of one step.")] = 32,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help=_SEED_HELP)] = 0,
    split_seed: Annotated[int | None, typer.Option("--split-seed", metavar="N", help=_SPLIT_HELP)] = None,
    shares: Annotated[str | None, typer.Option("--shares", metavar="A,B,C", help=_SHARES_HELP)] = None,
    size: SizeOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    resize: ResizeOption = None,
    crop_pct: CropPctOption = None,
    interpolation: InterpolationOption = None,
    channels: ChannelsOption = None,
    preprocess: PreprocessOption = None,
    device: DeviceOption = "auto",
    precision: Annotated[
        str, typer.Option("--precision", metavar="auto|32|bf16|16", help=_PRECISION_HELP)
    ] = "auto",
    workers: Annotated[
        int | None, typer.Option("--workers", metavar="N", help="Threads that read images.", min=1)
    ] = None,
    memory: Annotated[int, typer.Option("--memory", metavar="MIB", help=_MEMORY_HELP, min=0)] = 2048,
    resume: Annotated[bool, typer.Option("--resume", help=_RESUME_HELP)] = False,
    json: JsonOption = False,
) -> Answer:
    """Fine-tune a classifier on images in folders by class: a checkpoint an epoch, and the best.

    Each has a YAML file beside it with model, classes and preprocessing, so that it is a MODEL itself.
    """
    chosen = ModelChoice.among(locals())
    from whycam.training import (
        OPTIMIZERS,
        PRECISIONS,
        TrainingRequest,
        TrainingSettings,
        check_folder,
        check_packages,
    )

    settings = TrainingSettings(
        epochs=epochs,
        optimizer=choose("--optimizer", optimizer, {name: name for name in OPTIMIZERS}),
        lr=lr,
        momentum=momentum,
        weight_decay=weight_decay,
        step=step,
        gamma=gamma,
        crop_scale=_crop_scale(crop_scale),
        flip=flip,
        batch_size=batch_size,
        seed=seed,
        precision=choose("--precision", precision, {name: name for name in PRECISIONS}),
    )
    check_packages()
    check_folder(out, "resume" if resume else "refuse")
    labelled = _labelled(data, shares, split_seed)
    loaded = chosen.load_for(labelled.class_names, seed)
    request = TrainingRequest(
        model=loaded,
        data=labelled,
        folder=out,
        settings=settings,
        workers=workers or min(8, os.cpu_count() or 1),
        memory=memory,
        existing="resume" if resume else "refuse",
    )
    _tell_start(request)
    summary = _train_with_bars(request, quiet=json)
    return Answer(_lines(summary, data), _data(summary))


def _crop_scale(text: str) -> tuple[float, float]:
    shares = parse_numbers("--crop-scale", text)
    if len(shares) != 2:
        raise UsageError(f"--crop-scale is {text!r}; expected two shares, such as 0.08,1")
    return shares[0], shares[1]


def _labelled(data: Path, shares: str | None, split_seed: int | None) -> "LabelledImages":
    from whycam.data import read_labelled
    from whycam.data.labelled import SHARES

    parts = SHARES if shares is None else parse_numbers("--shares", shares)
    labelled = read_labelled(data, shares=parts, seed=split_seed or 0)
    if not labelled.drawn and (shares, split_seed) != (None, None):
        tell("note", f"{data} has its own splits, so --shares and --split-seed are not used")
    return labelled


def _tell_start(request: "TrainingRequest") -> None:
    from whycam.training import start_of

    advice = "; --weights FILE or --download begins with trained ones"
    random = request.model.provenance.kind == "random"
    start = f"{request.model.reference} begins with {start_of(request.model)}"
    tell("warning" if random else "note", start + (advice if random else ""))


def _train_with_bars(request: "TrainingRequest", *, quiet: bool) -> "TrainingSummary":
    """Train with a bar on stderr, a line there for each epoch, and what was left out.

    Raises StoppedError after Ctrl-C, and what ``train`` raises.
    """
    from whycam.training import Listener
    from whycam.training import train as run_training

    def tell_epoch(record: "EpochRecord") -> None:
        if not quiet:
            tell(f"epoch {record.epoch}", _figures(record))

    try:
        with (
            progress_bar("reading", quiet=quiet) as reading,
            progress_bar("training", quiet=quiet) as training,
        ):
            summary = run_training(request, Listener(reading=reading, training=training, epoch=tell_epoch))
    except KeyboardInterrupt:
        raise StoppedError(_what_is_kept(request)) from None
    for name, error in summary.broken:
        tell("warning", f"left out: {error if name in error else f'{name}: {error}'}")
    return summary


def _figures(record: "EpochRecord") -> str:
    return (
        f"loss {record.train_loss:.4f}, on val {record.val_loss:.4f}; accuracy {record.train_accuracy:.1%}, "
        f"on val {record.val_accuracy:.1%} ({record.seconds:.1f} s)"
    )


def _what_is_kept(request: "TrainingRequest") -> str:
    if not any(request.folder.glob("model-*.pth")):
        return "interrupted before an epoch was finished"
    again = shlex.join(["whycam", *(word for word in sys.argv[1:] if word != "--resume"), "--resume"])
    return f"interrupted; finished epochs are kept in {str(request.folder)!r}; go on with: {again}"


def _lines(summary: "TrainingSummary", data: Path) -> list[str]:
    reused = f"; {summary.reused} of them were finished before" if summary.reused else ""
    best, folder = summary.best, summary.folder
    last = summary.history[-_SHOWN:]
    shown = last if best in last else (best, *last)
    heads = ("epoch", "loss", "accuracy", "val loss", "val accuracy", "val macro-F1", "lr", "")
    left_out = f" ({plural(len(summary.broken), 'image')} left out)" if summary.broken else ""
    select = shlex.join(["whycam", "select", str(folder.path), "--data", str(data)])
    return [
        f"{plural(len(summary.history), 'epoch')} trained on {plural(summary.train_images, 'image')} of "
        f"{len(summary.class_names)} classes, {summary.val_images} for validation{left_out}{reused}",
        *table(heads, [_row(record, best) for record in shown]),
        f"  best      {folder.best}: epoch {best.epoch}, chosen on val; test was not looked at",
        f"  history   {folder.history}",
        f"  curves    {folder.curves}",
        f"  next      whycam explain {shlex.quote(str(folder.best))} IMAGE...",
        f"            {select}",
    ]


def _row(record: "EpochRecord", best: "EpochRecord") -> tuple[str, ...]:
    return (
        str(record.epoch),
        f"{record.train_loss:.4f}",
        f"{record.train_accuracy:.1%}",
        f"{record.val_loss:.4f}",
        f"{record.val_accuracy:.1%}",
        f"{record.val_macro_f1:.1%}",
        f"{record.lr:g}",
        "best" if record == best else "",
    )


def _data(summary: "TrainingSummary") -> dict[str, object]:
    return {
        "folder": str(summary.folder.path),
        "best": {"checkpoint": str(summary.folder.best), **asdict(summary.best)},
        "epochs": [asdict(record) for record in summary.history],
        "reused": summary.reused,
        "class_names": summary.class_names,
        "train_images": summary.train_images,
        "val_images": summary.val_images,
        "left_out": [{"id": name, "error": error} for name, error in summary.broken],
        "precision": summary.precision,
    }

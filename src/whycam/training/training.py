"""A training from its request to its folder."""

import itertools
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

from PIL import Image
from torch import Tensor

from whycam.data import LabelledImages
from whycam.errors import RunError, UsageError
from whycam.models import LoadedModel
from whycam.models.sidecar import sidecar_text
from whycam.models.weights import unpickle_tensors
from whycam.store.files import run_errors
from whycam.training.curves import curves_of
from whycam.training.folder import Existing, TrainingFolder, TrainingState, check_folder
from whycam.training.history import EpochRecord, best_of
from whycam.training.images import (
    Example,
    Examples,
    Room,
    check_some,
    evaluation_view,
    training_batches,
    validation_batches,
)
from whycam.training.packages import check_packages
from whycam.training.settings import TrainingSettings, first_difference
from whycam.training.views import TrainingView

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the number of steps that are done and the number planned."""

MEMORY = 2048
"""Of decoded images, in MiB, that are kept by default."""

_REDRAW = 30.0
"""Seconds between two pictures of the history, which take part of one to draw."""


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """A training: which network learns which images how, and where it is written.

    ``model`` has an output for each of ``data``'s classes, in their order. ``workers`` threads read images,
    of which up to ``memory`` MiB are kept decoded. Raises UsageError for values that make no sense.
    """

    model: LoadedModel
    data: LabelledImages
    folder: Path
    settings: TrainingSettings
    workers: int = min(8, os.cpu_count() or 1)
    memory: int = MEMORY
    existing: Existing = "refuse"

    def __post_init__(self) -> None:
        """Refuse what cannot be trained before an image is read."""
        classes = len(self.data.class_names)
        if classes < 2:
            raise UsageError(
                f"the data set has one class, {self.data.class_names[0]!r}; expected two or more; add folders"
            )
        if self.workers < 1 or self.memory < 0:
            raise UsageError(
                f"workers is {self.workers} and memory {self.memory}; expected 1 or more, and 0 or more MiB"
            )
        self.data.split("train")
        self.data.split("val")


@dataclass(frozen=True)
class TrainingSummary:
    """What a training gave. ``reused`` epochs were finished before; ``broken`` are (id, error) left out."""

    folder: TrainingFolder
    history: tuple[EpochRecord, ...]
    reused: int
    class_names: tuple[str, ...]
    train_images: int
    val_images: int
    broken: tuple[tuple[str, str], ...]
    precision: str

    @property
    def best(self) -> EpochRecord:
        """The best epoch on validation."""
        return best_of(self.history)


@dataclass(frozen=True)
class Listener:
    """Who is told how it goes: ``reading`` and ``training`` of steps, ``epoch`` of each finished epoch."""

    reading: Progress = lambda finished, planned: None
    training: Progress = lambda finished, planned: None
    epoch: Callable[[EpochRecord], None] = lambda record: None


def train(request: TrainingRequest, listener: Listener = Listener()) -> TrainingSummary:
    """Train a network, a checkpoint an epoch; the best is that of the highest accuracy on ``val``.

    ``test`` is never opened. Images that cannot be read are left out. A killed training loses no finished
    epoch, and one that goes on (``existing="resume"``) ends on a processor with the weights and figures of
    an unbroken one. ``request.model.module`` is trained in place.

    Raises MissingExtraError without the extra ``train``, RunError for the folder, UsageError where nothing
    can be learned, and ImageError where an image vanishes on the way.
    """
    check_packages()
    check_folder(request.folder, request.existing)
    folder = TrainingFolder(request.folder)
    executor = ThreadPoolExecutor(request.workers)
    try:
        with folder.held():
            return _run(request, folder, executor, listener)
    finally:
        executor.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class _Images:
    train: Examples[Image.Image]
    val: Examples[Tensor]

    @property
    def broken(self) -> tuple[tuple[str, str], ...]:
        return (*self.train.broken, *self.val.broken)


def _run(
    request: TrainingRequest, folder: TrainingFolder, executor: Executor, listener: Listener
) -> TrainingSummary:
    from whycam.training.loop import settled_precision

    precision = settled_precision(request.settings.precision, request.model.device)
    images = _read(request, executor, listener)
    begun_with = _begun_with(request, images, precision)
    state = _state(request, folder, begun_with)
    reused = len(state.history)
    if reused:
        weights = unpickle_tensors(folder.last_checkpoint(state))
        request.model.module.load_state_dict(weights)
        with run_errors(f"write into {str(folder.path)!r}"):
            folder.restore(state.history)
    state = _trained(request, folder, executor, listener, images, state, precision)
    return TrainingSummary(
        folder=folder,
        history=state.history,
        reused=reused,
        class_names=request.data.class_names,
        train_images=len(images.train),
        val_images=len(images.val),
        broken=images.broken,
        precision=precision,
    )


def _read(request: TrainingRequest, executor: Executor, listener: Listener) -> _Images:
    """Read every image of train and val once. Raises UsageError where too few can be read."""
    data, room = request.data, Room(request.memory * 2**20)
    listed = {
        split: [Example(*pair) for pair in zip(data.split(split), data.class_indices(split), strict=True)]
        for split in ("train", "val")
    }
    planned, counter = sum(map(len, listed.values())), itertools.count(1)

    def done() -> None:
        listener.reading(next(counter), planned)

    view = evaluation_view(request.model.preprocessing)
    # what is seen as it is needs least memory an image, and is wanted in every epoch too
    val = Examples(listed["val"], view, room, executor, done)
    train = Examples(listed["train"], lambda picture: picture, room, executor, done)
    check_some(train, "train", 2)
    check_some(val, "val", 1)
    return _Images(train, val)


def _begun_with(request: TrainingRequest, images: _Images, precision: str) -> dict[str, Any]:
    """Return all that the result depends on, but for the number of epochs, which may grow."""
    settings = request.settings.to_dict() | {"precision": precision}
    del settings["epochs"]
    return {
        "model": request.model.reference,
        "weights": start_of(request.model),
        "classes": list(request.data.class_names),
        "training images": f"{len(images.train)} (SHA-256 {images.train.digest[:12]})",
        "validation images": f"{len(images.val)} (SHA-256 {images.val.digest[:12]})",
        "preprocessing": request.model.preprocessing.describe(),
        **settings,
    }


def _state(request: TrainingRequest, folder: TrainingFolder, begun_with: Mapping[str, Any]) -> TrainingState:
    """Return what the training goes on from, or begin it. Raises RunError where it was begun with another."""
    if not folder.state.exists():
        return folder.begin(begun_with)
    state = folder.read_state()
    difference = first_difference(begun_with, state.settings)
    if difference is not None:
        raise RunError(
            f"{str(folder.path)!r} cannot be gone on with: {difference}; give what it was begun with, or "
            "train into another folder (--out)"
        )
    if len(state.history) > request.settings.epochs:
        raise RunError(
            f"{str(folder.path)!r} has {len(state.history)} finished epochs; expected at most the "
            f"{request.settings.epochs} asked for; give --epochs {len(state.history)} or more"
        )
    return state


def _trained(
    request: TrainingRequest,
    folder: TrainingFolder,
    executor: Executor,
    listener: Listener,
    images: _Images,
    state: TrainingState,
    precision: str,
) -> TrainingState:
    from whycam.training.loop import Loop, run_loop

    settings, model, first = request.settings, request.model, len(state.history)
    view = TrainingView(model.preprocessing, settings.crop_scale, settings.flip, settings.seed)
    train = training_batches(images.train, view, settings.batch_size, executor)
    val = validation_batches(images.val, settings.batch_size, executor)
    planned, counter = (len(train) + len(val)) * (settings.epochs - first), itertools.count(1)
    drawn = time.monotonic()

    def finished(record: EpochRecord, loop_state: Mapping[str, Any]) -> None:
        nonlocal state, drawn
        weights = {name: tensor.detach().cpu() for name, tensor in model.module.state_dict().items()}
        sidecar = sidecar_text(
            model=model.reference,
            preprocessing=model.preprocessing,
            class_names=request.data.class_names,
            training=_facts(request, images, record, precision),
        )
        going_on = replace(state, history=(*state.history, record), loop=loop_state)
        state = folder.commit(going_on, weights, sidecar)
        listener.epoch(record)
        if time.monotonic() - drawn > _REDRAW:
            folder.write_curves(curves_of(state.history))
            drawn = time.monotonic()

    loop = Loop(
        network=model.module,
        class_count=len(request.data.class_names),
        device=model.device,
        settings=settings,
        precision=precision,
        first_epoch=first,
        state=state.loop,
        finished=finished,
        stepped=lambda: listener.training(next(counter), planned),
    )
    try:
        if first < settings.epochs:
            run_loop(loop, train, val)
    finally:
        if state.history:
            folder.write_curves(curves_of(state.history))
    return state


def start_of(model: LoadedModel) -> str:
    """Say in one line what weights a training begins with."""
    provenance = model.provenance
    if provenance.kind == "random":
        return "; ".join(("random weights", *provenance.notes))
    return provenance.describe()


def _facts(request: TrainingRequest, images: _Images, record: EpochRecord, precision: str) -> dict[str, Any]:
    """Say of a checkpoint how it was trained, as flat data."""
    data = request.data
    split = {"split_seed": data.seed, "shares": list(data.shares)} if data.drawn else {}
    figures = asdict(record)
    settings = request.settings.to_dict()
    # without what may differ between trainings whose checkpoint of this epoch is the same
    del figures["seconds"], settings["epochs"]
    return {
        **figures,
        "data": data.folder.resolve().name,
        "split": "drawn" if data.drawn else "folders",
        **split,
        "train_images": len(images.train),
        "val_images": len(images.val),
        "images_left_out": len(images.broken),
        "start": start_of(request.model),
        **settings,
        "lr": record.lr,
        "first_lr": request.settings.lr,
        "precision": precision,
        "device": request.model.device.type,
        "versions": ", ".join(f"{name} {version(name)}" for name in ("whycam", "torch", "lightning")),
    }

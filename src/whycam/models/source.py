"""What every kind of model reference gives to `load`, and what the user may ask of it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from whycam.errors import ModelError, UsageError, WhycamError
from whycam.models.loaded import Provenance
from whycam.models.messages import one_line
from whycam.models.preprocessing import (
    INTERPOLATIONS,
    RESIZES,
    Interpolation,
    Preprocessing,
    Resize,
    check_extent,
    check_word,
)
from whycam.models.weights import StateDict, WeightsFile

SEED = 0


@dataclass(frozen=True)
class ModelOptions:
    """What the caller gave beside the reference; None is "not given"."""

    num_classes: int | None = None
    size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize: str | None = None
    crop_pct: float | None = None
    interpolation: str | None = None
    channels: int | None = None
    preprocessing: Preprocessing | None = None
    allow_partial: bool = False

    def __post_init__(self) -> None:
        """Refuse what fits no network before anything is built or read."""
        if self.num_classes is not None and (type(self.num_classes) is not int or self.num_classes < 0):
            raise UsageError(
                f"num_classes is {one_line(self.num_classes)}; expected a whole number from 0 up"
            )
        if self.size is not None:
            check_extent("size", self.size)
        if self.resize is not None:
            check_word("resize", self.resize, RESIZES)
        if self.interpolation is not None:
            check_word("interpolation", self.interpolation, INTERPOLATIONS)

    @property
    def input_size(self) -> tuple[int, int] | None:
        """The (height, width) asked for, in whichever way."""
        return self.size if self.preprocessing is None else self.preprocessing.size

    @property
    def input_channels(self) -> int | None:
        """The number of channels asked for, in whichever way."""
        if self.preprocessing is not None:
            return self.preprocessing.channels
        return len(self.mean) if self.channels is None and self.mean is not None else self.channels

    @property
    def gives_preprocessing(self) -> bool:
        """Whether nothing of a preprocessing that comes with the network is needed."""
        whole = self.preprocessing is not None
        return whole or None not in (self.size, self.mean, self.std)

    @property
    def changes_preprocessing(self) -> bool:
        """Whether single values of the preprocessing were given."""
        values = (
            self.size,
            self.mean,
            self.std,
            self.resize,
            self.crop_pct,
            self.interpolation,
            self.channels,
        )
        return any(value is not None for value in values)


@dataclass(frozen=True)
class Built:
    """A network, and the preprocessing that comes with it, None where nothing does.

    ``note`` says where that preprocessing was found, where the user has not put it there. ``embed_text``
    and ``needs_clips`` are as in `LoadedModel`.
    """

    module: nn.Module
    preprocessing: Preprocessing | None
    note: str | None = None
    embed_text: Callable[[str], Tensor] | None = None
    needs_clips: str | None = None


@dataclass(frozen=True)
class Published:
    """A network with published weights, the name they are published under, and its classes."""

    built: Built
    name: str
    class_names: tuple[str, ...] | None


def same_key(key: str) -> str:
    """Leave a weights file's key as it is."""
    return key


def same_tensors(weights: WeightsFile, num_classes: int | None) -> WeightsFile:
    """Leave a weights file's tensors as they are."""
    return weights


def nothing_to_set(module: nn.Module) -> tuple[str, ...]:
    """Leave a network with trained weights as it is, with nothing to note."""
    return ()


@dataclass(frozen=True)
class ModelSource:
    """How one reference becomes a network.

    ``build`` makes it for a number of classes, None for its own default, which is ``default_classes``
    where that is known; ``outline`` gives what such a network's state dict looks like, without data
    where that is possible. ``unweighted`` says what the weights are when none are asked for;
    ``download`` gets the published ones; ``fetch`` gets the files they are in, and gives the source that
    reads those. ``own_weights`` is the file that comes with the reference. ``rename_key`` brings keys of
    older releases up to date, ``convert`` whole files where that takes more than names, for a number of
    classes as in ``build``; ``set_trained`` sets what goes with trained weights and notes it, and
    ``preprocessing_of`` says whose preprocessing comes with the network.
    """

    build: Callable[[int | None], Built]
    outline: Callable[[int | None], StateDict]
    unweighted: Provenance
    default_classes: int | None = None
    class_names: tuple[str, ...] | None = None
    preprocessing_of: str | None = None
    takes_weights: bool = True
    download: Callable[[], Published] | None = None
    fetch: Callable[[], "ModelSource"] | None = None
    own_weights: Path | None = None
    rename_key: Callable[[str], str] = same_key
    convert: Callable[[WeightsFile, int | None], WeightsFile] = same_tensors
    set_trained: Callable[[nn.Module], tuple[str, ...]] = nothing_to_set


@contextmanager
def fixed_seed(seed: int = SEED) -> Iterator[None]:
    """Draw from a fixed seed inside, and leave PyTorch's global generators as they were."""
    cuda: Any = torch.cuda
    devices = list(range(cuda.device_count())) if cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        # torch.manual_seed would also seed accelerators, whose state is forked only once they are in use
        torch.default_generator.manual_seed(seed)
        if devices:
            cuda.manual_seed_all(seed)
        yield


@contextmanager
def building(
    reference: str, mend: str = "check --num-classes, --size and --channels, or leave them out"
) -> Iterator[None]:
    """Turn what a model library raises while it builds a network into a one-line ModelError."""
    try:
        yield
    except WhycamError:
        raise
    # the libraries raise anything from AssertionError to KeyError for options that do not fit
    except Exception as error:
        kind = type(error).__name__
        raise ModelError(
            f"{reference} cannot be built with these options: {kind}: {one_line(error)}; {mend}"
        ) from error


def outline_without_data(build: Callable[[int | None], Built]) -> Callable[[int | None], StateDict]:
    """Give an outline that lays the network out on the meta device, which takes no memory and no draws."""

    def outline(num_classes: int | None) -> StateDict:
        try:
            with torch.device("meta"):
                return build(num_classes).module.state_dict()
        # an architecture that computes with its tensors while it is built needs real ones
        except (ModelError, NotImplementedError, RuntimeError):
            return build(num_classes).module.state_dict()

    return outline


def settled_preprocessing(options: ModelOptions, own: Preprocessing | None, reference: str) -> Preprocessing:
    """Give the network's preprocessing with what the caller changed in it.

    Raises ModelError naming the flags when nothing comes with the network and too little was given.
    """
    if options.preprocessing is not None:
        return options.preprocessing
    if own is None:
        return _given_preprocessing(options, reference)
    sized = own if options.size is None else own.with_size(options.size)
    changed = _with_numbers(sized, options, reference)
    if options.resize is None and options.crop_pct is None:
        return changed
    laid_out = Preprocessing.for_size(
        changed.size,
        changed.mean,
        changed.std,
        resize=cast(Resize, options.resize or changed.resize),
        crop_pct=_crop_share(changed, options) if options.crop_pct is None else options.crop_pct,
        interpolation=changed.interpolation,
    )
    return replace(laid_out, channel_order=changed.channel_order)


def _given_preprocessing(options: ModelOptions, reference: str) -> Preprocessing:
    if options.size is None or options.mean is None or options.std is None:
        given = {"--size": options.size, "--mean": options.mean, "--std": options.std}
        lacking = " ".join(flag for flag, value in given.items() if value is None)
        raise ModelError(
            f"no preprocessing comes with {reference} and none is assumed; give --size --mean --std, "
            f"on the scale of [0, 1], as in training (not given: {lacking})"
        )
    _check_channels(options.channels, options.mean, reference)
    return Preprocessing.for_size(
        options.size,
        options.mean,
        options.std,
        resize=cast(Resize, options.resize or "shorter"),
        crop_pct=1.0 if options.crop_pct is None else options.crop_pct,
        interpolation=cast(Interpolation, options.interpolation or "bilinear"),
    )


def _with_numbers(own: Preprocessing, options: ModelOptions, reference: str) -> Preprocessing:
    mean = own.mean if options.mean is None else options.mean
    std = own.std if options.std is None else options.std
    _check_channels(options.channels, mean, reference)
    return replace(
        own,
        mean=mean,
        std=std,
        channels=len(mean),
        fill=own.fill if mean == own.mean else _padding(mean, with_mean=own.resize == "longest"),
        interpolation=cast(Interpolation, options.interpolation or own.interpolation),
    )


def _padding(mean: Sequence[float], *, with_mean: bool) -> tuple[int, ...]:
    return tuple(round(255 * value) if with_mean else 0 for value in mean)


def _crop_share(preprocessing: Preprocessing, options: ModelOptions) -> float:
    if options.resize == "bounded":  # which crops nothing
        return 1.0
    return preprocessing.size[0] / preprocessing.resize_to[0]


def _check_channels(channels: int | None, mean: Sequence[float], reference: str) -> None:
    if channels is not None and channels != len(mean):
        raise ModelError(
            f"{reference} is asked for {channels} channel(s), but the mean has {len(mean)} value(s); "
            f"give --mean and --std with {channels} value(s) each"
        )


def refuse_other_classes(options: ModelOptions, published: int | None, reference: str) -> None:
    """Refuse published weights with another number of classes, whose head would be random."""
    if options.num_classes not in (None, published):
        raise UsageError(
            f"the published weights of {reference} have {published} classes, not {options.num_classes}; "
            "leave num_classes out, or give your own file with --weights"
        )


def refuse_other_channels(options: ModelOptions, reference: str) -> None:
    """Refuse another number of channels where the architecture takes three and no other."""
    if options.input_channels not in (None, 3):
        raise UsageError(
            f"{reference} takes 3 channels, not {options.input_channels}; for another number write a factory "
            "that changes the first layer, or use timm"
        )
